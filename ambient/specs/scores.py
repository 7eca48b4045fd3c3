"""Specifications of scores: how good each image is, and which images are the best by it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from ambient.specs.data import DatasetSpec
from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require, require_distinct

Within = Literal["class", "all"]


@dataclass(frozen=True)
class ScorerSpec(OfKinds):
    """What gives each image a score, higher for better ones: what is told of it, whatever its kind."""

    KINDS: ClassVar[Kinds] = Kinds("ambient.evaluation.scorers")
    PER_IMAGE: ClassVar[bool] = True  # a score follows from its image alone, so that samples have one, too
    CAPTIONED: ClassVar[bool] = False  # or from its image and its caption: then samples alone have one
    GROUPED: ClassVar[bool] = False  # the samples of a caption have one score together
    MODEL: ClassVar[bool] = False  # asks a model of images and texts, by `model`
    ASKS: ClassVar[bool] = False  # a detector of the workflow, by `detector`
    # What that detector gives of an image (`DetectorSpec.GIVES`).
    ASKED_FOR: ClassVar[Literal["features", "classes", "objects"]] = "classes"
    GIVEN: ClassVar[str | None] = None  # what `path` is, of a kind that reads a file from outside
    PACKAGES: ClassVar[tuple[str, ...]] = ()  # that are imported for it, beyond those that are always there
    ADVICE: ClassVar[str] = "set scorers.<name>.path to a local file"  # how the file is had
    LICENCE: ClassVar[str | None] = None  # of what it reads from outside: docs/licences.md
    FLOPS: ClassVar[float] = 0.0  # of an image, at the most
    SHARD: ClassVar[int] = 1000  # images that are saved together, and lost together
    RATE: ClassVar[float] = 500.0  # images/s that one process scores, beside that

    #: a file of `ambient/evaluation/scorers/`: `measure`, `clip_iqa`, `legibility`, `margin`, `table`,
    #: `clip_score`, `geneval`, `vendi`
    kind: str
    path: str | None = None  #: a local file, for the kinds that read one
    sha256: str | None = None  #: of that file; any other content is refused
    #: samples that have a caption together, one after the other; where captions count it is set by itself
    each: int = later(1, kw_only=True)

    def __post_init__(self) -> None:
        require(self.each > 0, "each", self.each, ">= 1")
        for key in ("path", "sha256"):
            require(self.GIVEN is not None or getattr(self, key) is None, key, getattr(self, key),
                    f"null: kind {self.kind} reads no file")

    @property
    def shard(self) -> int:
        """Images that are saved together: all of a caption, or of several."""
        return max(self.SHARD // self.each, 1) * self.each

    def check(self, dataset: DatasetSpec) -> None:
        """Raise `SpecError` for images that it can't score."""
        require(not self.CAPTIONED, "kind", self.kind, "one for images as they are: this one scores samples")

    def check_samples(self, each: int, count: int) -> None:
        """Raise `SpecError` for so many samples, `each` of a caption, that it can't score."""

    def mean_sides(self) -> tuple[int, ...]:
        """The sides of patches, pixels, whose mean score it gives for each image."""
        return self.patch_sides()

    def patch_sides(self) -> tuple[int, ...]:
        """Those of which it gives the score of each patch, too."""
        return ()

    def flops(self, images: int, channels: int, resolution: int) -> float:
        """Floating-point operations of scoring so many images (C, H, H)."""
        return images * self.FLOPS

    def portable(self) -> ScorerSpec:
        """This specification without the local path, which says nothing of the result."""
        return dataclasses.replace(self, path=None)


def require_sides(patches: tuple[int, ...], least: int = 1) -> None:
    """Raise `SpecError` for sides of patches, pixels, of which one is below `least` or in the list twice."""
    require_distinct(patches, "patches")
    require(all(side >= least for side in patches), "patches", patches, f"sides of at least {least} pixels")


def require_cover(patches: tuple[int, ...], dataset: DatasetSpec) -> None:
    """Raise `SpecError` where patches of these sides, pixels, leave a rest of the dataset's images."""
    require(not any(dataset.resolution % side for side in patches), "patches", patches,
            f"sides that divide the images' {dataset.resolution} pixels")


@dataclass(frozen=True)
class BestSpec:
    """The best images of a dataset: the exact share with the highest scores."""

    scorer: str  #: name in `scorers`
    share: float  #: of the images, in (0, 1]
    within: Within  #: the share is of each class, or of all images

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "share", self.share, "(0, 1]")

    def words(self) -> str:
        """Which images they are, in a table's words."""
        return f"best {self.share:g} by {self.scorer}{' within each class' * (self.within == 'class')}"
