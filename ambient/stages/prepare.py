"""Stage: raw data -> the prepared format, with everything that is wrong refused here."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, features

from ambient.data import procedural, readers
from ambient.data.datasets import Dataset, joined, write
from ambient.data.raw import Raw
from ambient.diffusion import randomness
from ambient.jobs.progress import Progress
from ambient.jobs.stopping import say
from ambient.provenance import schema
from ambient.specs import DatasetSpec


def locate(spec: DatasetSpec, raw: Path | None) -> Path:
    """Where the raw data lie; CIFAR-10 is downloaded. Raises `ValueError` where they can't be had."""
    if spec.path is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"path: got {spec.path!r}, allowed: null here; give the path as --raw")
    if raw is not None and not raw.exists():
        raise ValueError(f"{raw}: no such file or folder")
    if raw is None and spec.source in ("images", "photos"):
        about = f" The data: {spec.about}" if spec.about else ""
        raise ValueError("a dataset of source `images` needs a path, an EDM-format zip or a folder: set "
                         f"datasets.<name>.path in config/local.yaml.{about}")
    path = raw or (readers.mnist_file() if spec.source == "mnist" else readers.download_cifar10())
    path = Path(os.path.abspath(path))
    schema.name(path.name, "--raw: the name, which is recorded")
    return path


def look(spec: DatasetSpec, raw: Raw, rule: Path | None = None) -> readers.Reading:
    """What the source's reader finds, held against the specification. Raises `ValueError` naming the file."""
    path = raw.path
    if spec.source == "photos":
        return readers.photographs(raw, spec, rule)
    original = path.name.endswith(".tar.gz") or (
        raw.is_folder and readers.CIFAR_FOLDER in (path.name, *(name.split("/")[0] for name in raw.files)))
    if spec.source == "mnist":
        found = readers.mnist(raw)
    elif spec.source == "cifar10" and original:
        found = readers.cifar10(raw)
    else:
        found = readers.image_files(raw, spec.channels, spec.labels)
    if spec.num_images is not None and len(found.labels) != spec.num_images:
        raise ValueError(f"{path}: {len(found.labels)} images, the configuration's num_images is "
                         f"{spec.num_images}")
    if found.channels != spec.channels:
        raise ValueError(f"{path}: images have {found.channels} channels, the configuration's channels "
                         f"is {spec.channels}")
    return found


def resized(image: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    """An image (C, H, H), padded by 0 on each side, then resized: area means where the resolution divides
    the size, else Lanczos."""
    pad, goal = spec.padding, spec.resolution
    image = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    side = image.shape[-1]
    if side == goal:
        return image
    planes = [Image.fromarray(plane) for plane in image]
    return np.stack([plane.reduce(side // goal) if side % goal == 0 else
                     plane.resize((goal, goal), Image.Resampling.LANCZOS) for plane in planes])


def subset(labels: np.ndarray, classes: tuple[int, ...] | None, most: int | None,
           allowed: np.ndarray | None = None) -> np.ndarray:
    """The ids kept, rising: all of `classes`, or `most` drawn by id (raw data are often sorted by class).

    `allowed`: the ids that may be kept; None: all. Subsets of one source are nested.
    """
    ids = np.arange(len(labels)) if allowed is None else allowed
    ids = ids if classes is None else ids[np.isin(np.asarray(labels)[ids], classes)]
    if most is None or most >= len(ids):
        return ids
    return np.sort(ids[np.argsort(randomness.uniform("subset", 0, ids), kind="stable")[:most]])


def take(found: readers.Reading, rows: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    """The images of these rows, prepared. Only they are held in memory, and one raw image at a time."""
    side, progress = found.side + 2 * spec.padding, Progress("prepare", len(rows))
    prepared = np.empty((len(rows), spec.channels, spec.resolution, spec.resolution), np.uint8)
    for place, image in enumerate(found.images(rows)):
        prepared[place] = resized(image, spec)
        progress.update(place + 1)
    if side != spec.resolution:
        how = "enlarged, and blurred by that," if side < spec.resolution else "reduced"
        found.converted[f"{how} from {side} to {spec.resolution} pixels"] = len(rows)
    return prepared


def report(found: readers.Reading, rows: np.ndarray, spec: DatasetSpec) -> dict:
    """What was taken, from which classes, what was converted and what left out: for the manifest."""
    labels, every = found.labels[rows], len(found.labels)
    left, allowed = Counter(found.left_out), found.labels if found.rows is None else found.labels[found.rows]
    chosen = len(allowed)
    if spec.classes is not None:
        chosen = int(np.isin(allowed, spec.classes).sum())
        left["images of other classes"] = len(allowed) - chosen
    left["images not drawn (max_images)"] = chosen - len(rows)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    return {"images": len(rows), "classes": len(classes), "labels_from": found.labels_from,
            "class_names": {str(i): found.names[i] for i in classes.tolist() if i in found.names},
            "class_images": dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True)),
            "raw_images": every, "raw_side": found.side, "converted": dict(+found.converted),
            "left_out": dict(+left)}


def tell(path: Path, facts: dict) -> None:
    """The same for whoever reads the log."""
    names, most = facts["class_names"], 20
    classes = [f"{names.get(i, i)} {count:,}" for i, count in facts["class_images"].items()]
    if len(classes) > most:
        classes = [*classes[:most], f"... ({len(classes):,} classes)"]
    say(f"prepare: took {facts['images']:,} of {facts['raw_images']:,} images of {facts['raw_side']}x"
        f"{facts['raw_side']} pixels from {path}")
    say(f"prepare: labels from {facts['labels_from']}" + (f": {', '.join(classes)}" if classes else ""))
    for key, what in (("converted", "converted"), ("left_out", "left out")):
        counted = [f"{count:,} {name}" for name, count in facts[key].items()]
        say(f"prepare: {what}: {', '.join(counted) or 'nothing'}")


def check_pin(spec: DatasetSpec, path: Path, found: str) -> None:
    """Refuse raw data that are not the pinned ones."""
    if spec.sha256 and found != spec.sha256:
        raise ValueError(f"{path}: sha256 is {found}, the configuration's sha256 is {spec.sha256}")


def check_rule(spec: DatasetSpec, rule: Path | None, record) -> None:
    """Note the file of the rule. Raises `ValueError` if it is not the one that the configuration had."""
    if rule is None:
        return
    found, expected = record.external("rule", rule, f"good images: {spec.select.by}"), spec.select.sha256
    if expected not in (None, found):
        raise ValueError(f"{rule}: sha256 is {found}, the configuration read it as {expected}: it changed "
                         "meanwhile; run the same command again")


def chosen_of(found: readers.Reading, rows: np.ndarray) -> dict:
    """Names of files and scores of the images that were taken, where the source has them."""
    if found.rows is None:
        return {}
    place = np.searchsorted(found.rows, rows)
    scores = None if found.scores is None else found.scores[place]
    return {"names": joined([found.files[i] for i in place]), "scores": scores}


def main(spec: DatasetSpec, record, *, raw: Path | None, out: Path, rule: Path | None = None) -> None:
    """`out` gets the prepared dataset."""
    if spec.source == "procedural":
        ids = np.arange(spec.num_images)
        images = procedural.make(ids, spec.resolution, spec.channels, 0)
        write(out, Dataset(images, np.full(len(ids), -1), ids))
        record.facts |= {"images": len(ids), "classes": 0, "raw": "none"}
        return
    path = locate(spec, raw)
    source = Raw(path)
    if not source.is_folder:
        check_pin(spec, path, source.sums[path.name])
    found = look(spec, source, rule)
    rows = subset(found.labels, spec.classes, spec.max_images, found.rows)
    if not len(rows):
        raise ValueError(f"{path}: no image has one of the classes {spec.classes}; there are "
                         f"{sorted(set(found.labels.tolist()))}")
    data = Dataset(take(found, rows, spec), found.labels[rows], rows, **chosen_of(found, rows))
    seen = source.close()
    check_pin(spec, path, seen[0])
    record.external("raw", path, spec.source, seen)
    check_rule(spec, rule, record)
    write(out, data)
    facts = report(found, rows, spec)
    tell(path, facts)
    published = spec.source == "cifar10" and path.name.endswith(".tar.gz")
    record.facts |= facts | {"raw_checksum_verified": published or bool(spec.sha256),
                             "pillow": PIL.__version__,
                             "codec": f"libjpeg-turbo {features.version('libjpeg_turbo')}"}
