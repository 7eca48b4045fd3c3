"""Source `written`: captions that stand in the configuration itself, without images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`resolution` and `channels` are those of the images that are drawn for them."""

    HAD: ClassVar[str] = "drawn"
    HAD_IN_WORDS: ClassVar[str] = "captions, written in the configuration"
    HAS_CLASSES: ClassVar[bool] = False
    HAS_IMAGES: ClassVar[bool] = False
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("padding", "max_images", "classes")

    texts: tuple[str, ...]  #: the captions, in their order

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.texts) > 0 and all(text.strip() for text in self.texts), "texts", list(self.texts),
                "one caption or more, none of them empty")
        require(self.num_images in (None, len(self.texts)), "num_images", self.num_images,
                f"{len(self.texts)}, as many as there are texts, or null")


def draw(spec: Spec) -> Dataset:
    """The captions, in their order."""
    from ambient.data.datasets import Dataset
    from ambient.data.texts import Texts

    count = len(spec.texts)
    return Dataset(None, np.full(count, -1), np.arange(count), captions=Texts.of(spec.texts))
