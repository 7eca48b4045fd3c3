"""Specifications of the data: datasets, mixtures of clean and corrupted images, and several as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ambient.specs.strict import require, require_distinct


@dataclass(frozen=True)
class DatasetSpec:
    """A prepared dataset. `source` says how the raw data are had; `path` where, if they are local.

    `procedural` images are made, not read: `num_images` of them (`ambient.data.procedural`).
    """

    #: which reader takes the raw data (`ambient.data.readers`)
    source: Literal["mnist", "cifar10", "images", "procedural"]
    resolution: int  #: pixels, height = width, after preparation
    channels: int  #: 1 (grey) or 3 (RGB)
    #: local archive, EDM-format zip, or folder; None: the installed package or a download
    path: str | None = None
    padding: int = 0  #: pixels of the image's minimum that are added on each side before resizing
    max_images: int | None = None  #: at most so many images, drawn by id; None: all
    #: the number of images that the source must have; procedural: how many are made
    num_images: int | None = None
    sha256: str | None = None  #: of the raw file or folder; any other content is refused
    classes: tuple[int, ...] | None = None  #: only the images of these classes; None: all
    about: str | None = None  #: where the raw data come from, and on which terms
    #: of image folders: none; folder that an image lies in; top, the first one of its path. None: from
    #: dataset.json, or what can be told without a guess
    labels: Literal["none", "folder", "top"] | None = None

    def __post_init__(self) -> None:
        require(self.resolution >= 4, "resolution", self.resolution, ">= 4 pixels")
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        require(self.padding >= 0, "padding", self.padding, ">= 0 pixels")
        require(self.max_images is None or self.max_images > 0, "max_images", self.max_images, "> 0")
        if self.classes is not None:
            require(len(self.classes) > 0 and min(self.classes) >= 0, "classes", self.classes,
                    "one or more classes, whole numbers >= 0; null: all")
            require_distinct(self.classes, "classes")
        require(self.source != "procedural" or (self.num_images or 0) > 0, "num_images", self.num_images,
                "> 0 for procedural images: how many are made")


@dataclass(frozen=True)
class MixtureSpec:
    """A dataset of which all but `clean_fraction` is corrupted.

    op None leaves the others out; op `add` puts the images of another dataset in their place.
    """

    clean_fraction: float  #: of the images, in (0, 1], that stay clean
    seed: int  #: of the choice of clean images and of the corruption
    #: a name in `ambient.data.corruptions.CORRUPTIONS`, or `add`; None: the others are left out
    op: str | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)  #: parameters of the operation

    def __post_init__(self) -> None:
        require(0 < self.clean_fraction <= 1, "clean_fraction", self.clean_fraction, "(0, 1]")


@dataclass(frozen=True)
class CombineSpec:
    """Several mixtures with their annotations as one: the parts' names, `corruption/annotation`."""

    parts: tuple[str, ...]  #: names of the mixtures, `corruption/annotation`

    def __post_init__(self) -> None:
        require_distinct(self.parts, "parts")
