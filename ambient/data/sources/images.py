"""Source `images`: a folder or a zip of image files, EDM-format or one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.specs import DatasetSpec

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True)
class Spec(DatasetSpec):
    """`labels` says how classes are told from folders; `about` where the images come from."""


def locate(spec: Spec) -> Path:
    """Raises `ValueError`: nobody but the user has these images."""
    about = f" The data: {spec.about}" if spec.about else ""
    raise ValueError("a dataset of source `images` needs a path, an EDM-format zip or a folder: set "
                     f"datasets.<name>.path in config/local.yaml.{about}")


def read(spec: DatasetSpec, raw: Raw, rule: Path | None = None) -> Reading:
    """The images one by one; their labels as `ambient.data.image_labels` tells them."""
    from ambient.data.image_files import Images, Unfit
    from ambient.data.readers import Reading

    try:
        files = Images(raw, spec.channels, spec.labels)
    except Unfit as error:
        raise ValueError(f"{error}. A dataset of `source: photos, crop: centre, labels: none` crops, resizes "
                         "and converts by itself, and leaves out what is no image") from None
    return Reading(files.labels.values, files.labels.names, files.labels.origin, files.size, spec.channels,
                   files.read, files.converted, files.left_out)
