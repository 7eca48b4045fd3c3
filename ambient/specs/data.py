"""Specifications of the data: datasets, mixtures of clean and corrupted images, and several as one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import build, later, require, require_distinct, require_finite, require_unread

SUBSET_SEED = 0  # by which `max_images` of a source are drawn
OF_FILES = ("path", "sha256", "labels", "clean_captions")  # settings of raw files: drawn images have none


@dataclass(frozen=True)
class SelectSpec:
    """Which images of a folder of photographs are taken (`ambient.data.selection`).

    A rule tells good images from others; `good` says which of the two are taken. Without a rule all are.
    """

    #: list: the good ones are named in a file; scores: by a column of a table; quality: by a measure
    by: Literal["list", "scores", "quality"] | None = None
    good: bool = True  #: take the good ones; false: the others
    column: str | None = None  #: of scores: the column's title
    measure: str | None = None  #: of quality: a name in `ambient.data.quality`
    at_least: float | None = None  #: of scores and quality: the score from which an image is good
    folders: tuple[str, ...] = ()  #: only images below these folders, as named from the path on
    without: tuple[str, ...] = ()  #: none below these
    sha256: str | None = None  #: of the file of list and scores; the configuration fills it in

    def __post_init__(self) -> None:
        require_finite(self)
        require((self.column is not None) == (self.by == "scores"), "column", self.column,
                "a column's title if by is scores, else null")
        require((self.measure is not None) == (self.by == "quality"), "measure", self.measure,
                "a measure's name if by is quality, else null")
        require((self.at_least is not None) == (self.by in ("scores", "quality")), "at_least", self.at_least,
                "a score if by is scores or quality, else null")
        require(self.good or self.by is not None, "by", self.by, "list, scores or quality if good is false")
        for key in ("folders", "without"):
            require(all(getattr(self, key)), key, getattr(self, key), "folders' names, none of them empty")


@dataclass(frozen=True)
class DatasetSpec(OfKinds):
    """A prepared dataset: what is told of it, whatever its source.

    `source` says how the raw data are had and read; `path` where they are, if they are local.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.data.sources", tag="source")
    # How raw data are had where the configuration names no path, and the same in words.
    HAD: ClassVar[Literal["drawn", "installed", "download", "path"]] = "path"
    HAD_IN_WORDS: ClassVar[str] = ""
    HAS_CLASSES: ClassVar[bool] = True  # or may have them
    SHAPE: ClassVar[tuple[int, int] | None] = None  # channels and classes, of a source of known images
    CLASSES: ClassVar[int | None] = None  # of published data whose channels are free
    TITLE: ClassVar[str | None] = None  # of published data, for who cites them
    ADDRESS: ClassVar[str | None] = None
    LICENCE: ClassVar[str | None] = None  # of what it reads from outside: docs/licences.md
    CONVERTS: ClassVar[bool] = False  # and leaves images out: a page then says what was done
    HELD: ClassVar[bool] = False  # all prepared images are in memory at once while they are read
    select: ClassVar[SelectSpec | None] = None  # which images are taken; None: all
    rule: ClassVar[str | None] = None  # path of a file by which they are selected
    table: ClassVar[str | None] = None  # path of a table of captions, where they don't lie among the images
    PACKAGES: ClassVar[tuple[str, ...]] = ()  # that are imported for it, beyond those that are always there
    captioned: ClassVar[bool] = False  # whether its images have captions
    HAS_IMAGES: ClassVar[bool] = True  # false for captions alone, and where images are there as latents
    ENCODED: ClassVar[bool] = False  # its images are there as latents of an encoder, made elsewhere
    UNREAD: ClassVar[tuple[str, ...]] = ()  # settings below that it does not read; they are refused

    #: a file of `ambient/data/sources/`: `mnist`, `cifar10`, `imagenet`, `images`, `photos`, `procedural`,
    #: `windows`; with captions: `webdataset`, `parquet`, `mds`, `photos`, `scenes`; captions alone:
    #: `prompts`, `written`, `geneval`; captions and latents of images: `latents`
    source: str
    resolution: int  #: pixels, height = width, after preparation
    channels: int  #: 1 (grey) or 3 (RGB)
    #: local archive, EDM-format zip, or folder; None: the installed package or a download
    path: str | None = None
    padding: int = 0  #: pixels of the image's minimum that are added on each side before resizing
    max_images: int | None = None  #: at most so many images, drawn by id; None: all
    #: the number of images that the source must have; procedural: how many are made; photos: about how many
    #: are taken, for the estimate of costs alone
    num_images: int | None = None
    sha256: str | None = None  #: of the raw file or folder; any other content is refused
    classes: tuple[int, ...] | None = None  #: only the images of these classes; None: all
    about: str | None = None  #: where the raw data come from, and on which terms
    #: of image folders: none; folder that an image lies in; top, the first one of its path. None: from
    #: dataset.json, or what can be told without a guess
    labels: Literal["none", "folder", "top"] | None = None
    #: [from, to): only the images whose draw u(id) lies there, so that two parts share no image; None: all
    part: tuple[float, ...] | None = later(None)
    #: noise level from which these images are used where they are added to others, by an annotation of method
    #: by_source; 0: at all levels
    sigma_min: float = later(0.0)
    licence: str | None = later(None)  #: of the images and their captions
    #: captions are cleaned as those of CC12M were for the public networks (`ambient.data.captions`)
    clean_captions: bool = later(False)

    def __post_init__(self) -> None:
        require(math.isfinite(self.sigma_min) and self.sigma_min >= 0, "sigma_min", self.sigma_min, ">= 0")
        require(self.captioned and self.HAS_IMAGES or not self.clean_captions, "clean_captions",
                self.clean_captions, "true for images with captions alone")
        require(self.resolution >= 4, "resolution", self.resolution, ">= 4 pixels")
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        require(self.padding >= 0, "padding", self.padding, ">= 0 pixels")
        require(self.max_images is None or self.max_images > 0, "max_images", self.max_images, "> 0")
        require(self.num_images is None or self.num_images > 0, "num_images", self.num_images, "> 0, or null")
        if self.classes is not None:
            require(len(self.classes) > 0 and min(self.classes) >= 0, "classes", self.classes,
                    "one or more classes, whole numbers >= 0; null: all")
            require_distinct(self.classes, "classes")
        if self.part is not None:
            rising = len(self.part) == 2 and 0 <= self.part[0] < self.part[1] <= 1
            require(rising, "part", self.part, "[from, to] with 0 <= from < to <= 1, or null")
            require(self.HAD != "drawn", "part", self.part,
                    f"null for source {self.source}, which is drawn whole")
        unread = (*self.UNREAD, *(OF_FILES if self.HAD == "drawn" else ()))
        require_unread(self, unread, f"source {self.source}")

    def portable(self) -> DatasetSpec:
        """This specification without what says nothing of the prepared images: local paths, and their use."""
        return dataclasses.replace(self, path=None, sigma_min=0.0)


@dataclass(frozen=True)
class OperationSpec(OfKinds):
    """What is done to a whole dataset to make a mixture of it, in the place of a corruption of pixels.

    Its settings are the parameters of a `MixtureSpec` of that op.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.data.operations", tag="op")
    ADDS: ClassVar[str | None] = None  # the parameter that names a dataset whose images it puts in
    SCORED: ClassVar[str | None] = None  # the parameter that names a scorer whose scores it reads
    KEEPS: ClassVar[bool] = False  # all images of the mixture are the dataset's own, as they are

    op: str  #: a file of `ambient/data/operations/`: `add`, `rank`

    def words(self, dataset: str | None) -> str:
        """The operation in a reader's words; `dataset`: what a reader calls the one that it puts in."""
        raise NotImplementedError

    def columns(self) -> dict[str, Any]:
        """What a table's row says of it, beside the name of the operation."""
        raise NotImplementedError


@dataclass(frozen=True)
class MixtureSpec:
    """A dataset of which all but `clean_fraction` is corrupted.

    op None leaves the others out. An operation of `ambient/data/operations/` says itself what becomes of
    them: `add` puts the images of another dataset in their place, `rank` keeps them as they are.
    """

    clean_fraction: float  #: of the images, in (0, 1], that stay clean
    seed: int  #: of the choice of clean images and of the corruption
    #: a name in `ambient.data.corruptions.CORRUPTIONS`, or in `ambient.data.operations`; None: they are left
    #: out
    op: str | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)  #: parameters of the operation
    #: whether its file has the images; false where they are the dataset's own, or others that are there as
    #: latents alone, and what learns reads latents
    images: bool = later(True)

    def __post_init__(self) -> None:
        require(0 < self.clean_fraction <= 1, "clean_fraction", self.clean_fraction, "(0, 1]")
        able = self.operation is not None and bool(self.operation.KEEPS or self.operation.ADDS)
        require(self.images or able, "images", self.images,
                "true, but for an op that keeps all images, or adds such as are there as latents")

    @property
    def operation(self) -> OperationSpec | None:
        """The operation on the whole dataset; None where pixels are corrupted, or images are left out."""
        return operation(self.op, self.params, f"op {self.op}")

    @property
    def of_pixels(self) -> bool:
        """Whether the pixels of each image that is not clean are corrupted."""
        return self.op is not None and self.operation is None


def operation(op: str | None, params: Mapping[str, Any], where: str) -> OperationSpec | None:
    """The operation of a name with its parameters; None for a name that is none's.

    Raises `SpecError` naming `where` for parameters that it does not have.
    """
    return build(OperationSpec, {"op": op, **params}, where) if op in OperationSpec.KINDS else None


@dataclass(frozen=True)
class CombineSpec:
    """Several mixtures with their annotations as one: the parts' names, `corruption/annotation`."""

    parts: tuple[str, ...]  #: names of the mixtures, `corruption/annotation`
    #: whether its file has the images; false where what learns reads latents, and a copy is of no use
    images: bool = later(True)

    def __post_init__(self) -> None:
        require_distinct(self.parts, "parts")
