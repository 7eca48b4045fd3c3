"""Stage: raw data -> the prepared format, with everything that is wrong refused here."""

from __future__ import annotations

from ambient import stage
from ambient.spec import DatasetSpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, DatasetSpec, inputs=(), outputs=("out",), optional=("raw",),
                      options=("raw",))

from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from ambient import procedural, randomness, readers
from ambient.datasets import Dataset, write


def load(spec: DatasetSpec, raw: Path | None) -> tuple[Path, readers.Arrays, bool]:
    """(raw path, (images, labels), whether a published checksum was verified while reading)."""
    if spec.path is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"path: got {spec.path!r}, allowed: null here; give the path as --raw")
    if raw is not None and not raw.exists():
        raise ValueError(f"{raw}: no such file or folder")
    if spec.source == "mnist":
        path = raw or readers.mnist_file()
        return path, readers.read_mnist(path), False
    if spec.source == "cifar10":
        path = raw or readers.download_cifar10()
        if path.name.endswith(".tar.gz"):
            return path, readers.read_cifar10(path), True
        if path.is_dir() and readers.CIFAR_FOLDER in (path.name, *(p.name for p in path.iterdir())):
            return path, readers.read_cifar10(path), False
        return path, readers.read_images(path, spec.channels), False
    if raw is None:
        about = f" The data: {spec.about}" if spec.about else ""
        raise ValueError("a dataset of source `images` needs a path, an EDM-format zip or a folder: set "
                         f"datasets.<name>.path in config/local.yaml.{about}")
    return raw, readers.read_images(raw, spec.channels), False


def resized(images: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    """Padded by 0 on each side, then resized: area means where the resolution divides the size,
    else Lanczos."""
    pad = spec.padding
    images = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    side, goal = images.shape[-1], spec.resolution
    if side == goal:
        return images
    planes = [Image.fromarray(plane) for plane in images.reshape(-1, side, side)]
    small = [plane.reduce(side // goal) if side % goal == 0 else
             plane.resize((goal, goal), Image.Resampling.LANCZOS) for plane in planes]
    return np.stack([np.asarray(plane) for plane in small]).reshape(*images.shape[:2], goal, goal)


def subset(labels: np.ndarray, classes: tuple[int, ...] | None, most: int | None) -> np.ndarray:
    """The ids kept, rising: all of `classes`, or `most` drawn by id (raw data are often sorted by class).

    Subsets of one source are nested.
    """
    ids = np.arange(len(labels)) if classes is None else np.flatnonzero(np.isin(labels, classes))
    if most is None or most >= len(ids):
        return ids
    return np.sort(ids[np.argsort(randomness.uniform("subset", 0, ids), kind="stable")[:most]])


def main(spec: DatasetSpec, record, *, raw: Path | None, out: Path) -> None:
    """`out` gets the prepared dataset."""
    if spec.source == "procedural":
        ids = np.arange(spec.num_images)
        images = procedural.make(ids, spec.resolution, spec.channels, 0)
        write(out, Dataset(images, np.full(len(ids), -1), ids))
        record.facts |= {"images": len(ids), "classes": 0, "raw": "none"}
        return
    path, (images, labels), verified = load(spec, raw)
    found = record.external("raw", path, spec.source)
    if spec.sha256 and found != spec.sha256:
        raise ValueError(f"{path}: sha256 is {found}, the configuration's sha256 is {spec.sha256}")
    if spec.num_images is not None and len(images) != spec.num_images:
        raise ValueError(f"{path}: {len(images)} images, the configuration's num_images is "
                         f"{spec.num_images}")
    if images.shape[1] != spec.channels:
        raise ValueError(f"{path}: images have {images.shape[1]} channels, the configuration's channels "
                         f"is {spec.channels}")
    keep = subset(labels, spec.classes, spec.max_images)
    if not len(keep):
        raise ValueError(f"{path}: no image has one of the classes {spec.classes}; there are "
                         f"{sorted(set(labels.tolist()))}")
    data = Dataset(resized(images[keep], spec), labels[keep], keep)
    write(out, data)
    record.facts |= {"images": len(data.ids), "classes": data.num_classes,
                     "raw_checksum_verified": verified or bool(spec.sha256), "pillow": PIL.__version__,
                     "codec": f"libjpeg-turbo {features.version('libjpeg_turbo')}"}


if __name__ == "__main__":
    job.run(main)
