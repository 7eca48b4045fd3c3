"""Images from outside, as a dataset's own preparation makes them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.data.image_files import Images
from ambient.data.photos import readable
from ambient.data.preparing import resized
from ambient.data.raw import Raw
from ambient.data.submitted import images_of
from ambient.jobs.progress import Progress
from ambient.specs import DatasetSpec


@dataclass(frozen=True)
class Prepared:
    """Images of a folder or zip by their files' names: uint8 (N, C, H, W), and what was done, counted."""

    names: list[str]
    images: np.ndarray
    converted: Counter[str]
    left_out: Counter[str]


def prepared(folder: Path, spec: DatasetSpec) -> Prepared:
    """The images of a folder or zip, read and resized as those of a dataset.

    Where the dataset is of photographs its own reader takes these, and leaves out what it would. Elsewhere
    images must have one size, and those of the dataset's resolution are taken as they are. Raises
    `ValueError` naming the file that can't be meant.
    """
    if not (folder.is_dir() or folder.is_file()):
        raise ValueError(f"{folder}: no such folder or zip")
    raw = images_of(Raw(folder))
    if spec.CONVERTS:
        # Which images the dataset takes of its own folder is no matter here.
        chosen = {field.name for field in dataclasses.fields(spec)} & {"select", "rule"}
        every = dataclasses.replace(spec, **dict.fromkeys(chosen))
        taken = readable(raw, every)
        names = [taken.names[row] for row in taken.rows]
        return Prepared(names, taken.images, taken.converted, +taken.left_out)
    found = Images(raw, spec.channels, "none")
    if found.size == spec.resolution:
        spec = dataclasses.replace(spec, padding=0)
    rows, progress = np.arange(len(found.names)), Progress("read", len(found.names))
    images = np.empty((len(rows), spec.channels, spec.resolution, spec.resolution), np.uint8)
    for row, image in enumerate(found.read(rows)):
        images[row] = resized(image, spec)
        progress.update(row + 1)
    if found.size != spec.resolution:
        found.converted[f"resized from {found.size} to {spec.resolution} pixels"] = len(rows)
    return Prepared(found.names, images, +found.converted, +found.left_out)
