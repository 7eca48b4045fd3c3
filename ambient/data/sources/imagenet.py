"""Source `imagenet`: ImageNet's images from their folders, the official tars, or a zip, in ADM's crop.

An image's id is its place in the sorted names `n01440764/n01440764_18.JPEG`: the same from folders and tars,
and from a zip that numbers its images in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True)
class Spec(DatasetSpec):
    """All images are taken, cropped as published numbers are of (`ambient.data.squares.adm`)."""

    HAD_IN_WORDS: ClassVar[str] = "a folder, a tar or a zip (docs/data.md says of which forms)"
    CLASSES: ClassVar[int] = 1000
    TITLE: ClassVar[str] = "ImageNet (ILSVRC 2012)"
    ADDRESS: ClassVar[str] = "https://www.image-net.org"
    LICENCE: ClassVar[str] = "research and education, non-commercial"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.padding == 0, "padding", self.padding, "0: the crop makes images of the resolution")
        require(self.labels is None, "labels", self.labels,
                "null: classes are WordNet ids, from the folders or from lists beside the images")


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The images one by one; one that can't be decoded is refused by its name, when it is read."""
    from ambient.data.imagenet_files import ImageNetFiles
    from ambient.data.readers import Reading

    files = ImageNetFiles(raw, spec)
    return Reading(files.labels.values, files.labels.names, files.labels.origin, spec.resolution,
                   spec.channels, files.read, files.converted, files.left_out,
                   rows=np.arange(len(files.names)), files=files.names)
