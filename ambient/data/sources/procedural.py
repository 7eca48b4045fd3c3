"""Source `procedural`: images of `ambient.data.procedural`, which are drawn and not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset


@dataclass(frozen=True)
class Spec(DatasetSpec):
    """`num_images` says how many are drawn."""

    HAD: ClassVar[str] = "drawn"
    HAD_IN_WORDS: ClassVar[str] = "drawn by its job"
    HAS_CLASSES: ClassVar[bool] = False
    UNREAD: ClassVar[tuple[str, ...]] = ("padding", "max_images", "classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        require((self.num_images or 0) > 0, "num_images", self.num_images,
                "> 0 for procedural images: how many are made")


def draw(spec: Spec) -> Dataset:
    """All images; image i is a function of i alone."""
    from ambient.data import procedural
    from ambient.data.datasets import Dataset

    ids = np.arange(spec.num_images)
    return Dataset(procedural.make(ids, spec.resolution, spec.channels, 0), np.full(len(ids), -1), ids)
