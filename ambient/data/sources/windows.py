"""Source `windows`: windows of three photographs inside packages that are installed anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset

CLASSES = 3  # photographs


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """A window's class is its photograph. Those of every so many-th band are a dataset of their own."""

    HAD: ClassVar[str] = "drawn"
    HAD_IN_WORDS: ClassVar[str] = "inside the packages scikit-learn and matplotlib"
    TITLE: ClassVar[str] = "Sample photographs of scikit-learn (CC BY 2.0) and matplotlib (public domain)"
    ADDRESS: ClassVar[str] = "https://scikit-learn.org/stable/datasets/loading_other_datasets.html"
    LICENCE: ClassVar[str] = "CC BY 2.0, and public domain"

    stride: int = 6  #: pixels from a window to the next one
    bands: int = 8  #: horizontal bands of each photograph; a window lies in one of them
    every: int = 4  #: one band in so many is kept apart
    held: bool = False  #: the windows of these bands; false: those of all others

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.stride > 0, "stride", self.stride, ">= 1")
        require(self.bands > 0, "bands", self.bands, ">= 1")
        require(1 < self.every <= self.bands, "every", self.every, f"2 to bands = {self.bands}")
        require(self.padding == 0, "padding", self.padding, "0: windows have the resolution")
        require(self.classes is None or max(self.classes) < CLASSES, "classes", self.classes,
                f"below {CLASSES}, as many as there are photographs")


def draw(spec: Spec) -> Dataset:
    """The windows of the bands that are meant; an id is the place among all windows of all bands.

    Raises `ValueError` for photographs that are missing or others, and for another number of windows than
    `num_images`.
    """
    from ambient.data import windows
    from ambient.data.datasets import Dataset
    from ambient.data.preparing import subset

    place = np.array(list(windows.corners(spec.resolution, spec.stride, spec.bands))).reshape(-1, 4)
    meant = np.flatnonzero(windows.is_held(place[:, 1], spec.every) == spec.held)
    if spec.num_images not in (None, len(meant)):
        raise ValueError(f"num_images: got {spec.num_images}, allowed: {len(meant)}, which there are of "
                         f"{spec.resolution} pixels, stride {spec.stride} and {spec.bands} bands; or null")
    ids = subset(place[:, 0], spec.classes, spec.max_images, meant)
    if not len(ids):
        raise ValueError(f"resolution: got {spec.resolution}, allowed: at most the height of a band, a "
                         f"{spec.bands}-th of a photograph's")
    return Dataset(windows.cut(place[ids], spec.resolution, spec.channels), place[ids, 0], ids)
