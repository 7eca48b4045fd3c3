"""Stage: make a mixture, in which all but a clean fraction of the images is corrupted, once.

The clean version of a corrupted image is not in the file: stages that read a mixture can't see it.
Op `add` puts images of another dataset in the place of the corrupted ones.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ambient.data import corruptions
from ambient.data.datasets import Dataset, joined, read, to_float, to_uint8, write
from ambient.diffusion import randomness
from ambient.jobs.progress import Progress
from ambient.specs import MixtureSpec


def is_clean(spec: MixtureSpec, ids: np.ndarray) -> np.ndarray:
    """Whether each image stays clean: u(seed, id) < clean_fraction.

    A function of (seed, id) alone, so the clean sets of two fractions are nested.
    """
    return randomness.uniform("clean", spec.seed, ids) < spec.clean_fraction


def first_id(name: str) -> int:
    """Where the ids of an added dataset begin: each dataset has a range of its own, 2^32 wide."""
    return (1 + randomness.key("added", name) % 1_000_000) << 32


def add(spec: MixtureSpec, data: Dataset, added: Dataset) -> Dataset:
    """The clean images of `data` and all of `added`, which counts as corrupted.

    Images of another dataset have no labels, and ids of their own range. Where `same_source` is true both are
    parts of one folder: they keep ids and labels. Raises `ValueError` for images of another size, for a
    mixture, and for an image that is in both parts.
    """
    if added.images.shape[1:] != data.images.shape[1:]:
        raise ValueError(f"the added images are {added.images.shape[1:]}, the dataset's "
                         f"{data.images.shape[1:]}: prepare both alike")
    if added.corrupted is not None:
        raise ValueError("the added dataset is a mixture already")
    clean = is_clean(spec, data.ids)
    ids, labels = added.ids + first_id(spec.params["dataset"]), np.full(len(added.ids), -1)
    if spec.params.get("same_source"):
        ids, labels = added.ids, added.labels
        if len(both := np.intersect1d(ids, data.ids)):
            raise ValueError(f"image {both[0]} is in the dataset and among the added ones, {len(both)} in "
                             "all: leave same_source out unless both are parts of one folder, that share no "
                             "image")
    kept = data.taken(clean)
    named = kept.names is not None and added.names is not None
    order = np.argsort(np.concatenate([kept.ids, ids]))
    mixed = Dataset(*(np.concatenate(pair)[order] for pair in (
        (kept.images, added.images), (kept.labels, labels), (kept.ids, ids),
        (np.zeros(len(kept.ids), np.uint8), np.ones(len(ids), np.uint8)))))
    files = np.array([*kept.file_names, *added.file_names])[order].tolist() if named else None
    return dataclasses.replace(mixed, names=joined(files)) if named else mixed


def mix(spec: MixtureSpec, data: Dataset, added: Dataset | None = None) -> Dataset:
    """The mixture. Raises `ValueError` where no image stays clean."""
    if data.corrupted is not None:
        raise ValueError("the dataset is a mixture already: its corrupted images would count as clean")
    clean = is_clean(spec, data.ids)
    if not clean.any():
        raise ValueError(f"clean_fraction {spec.clean_fraction} leaves none of {len(clean)} images "
                         "clean: raise it, or give more images")
    if spec.op == "add":
        if added is None:
            raise ValueError("op add needs --added, the dataset to add")
        return add(spec, data, added)
    if spec.op is None:
        return dataclasses.replace(data.taken(clean), corrupted=np.zeros(clean.sum(), np.uint8), scores=None)
    images, rows = data.images.copy(), np.flatnonzero(~clean)
    progress = Progress("corrupt", len(rows))
    for done, row in enumerate(rows, 1):
        rng = randomness.numpy_generator("corrupt", spec.seed, int(data.ids[row]))
        image = corruptions.corrupt(to_float(images[row]), rng, spec.op, spec.params)
        images[row] = to_uint8(image)
        progress.update(done)
    return Dataset(images, data.labels, data.ids, (~clean).astype(np.uint8), data.names)


def main(spec: MixtureSpec, record, *, data: Path, out: Path, added: Path | None = None) -> None:
    """`out` gets the mixture."""
    if spec.op not in (None, "add"):
        corruptions.validate(spec.op, spec.params)
        record.facts |= corruptions.facts(spec.op)
    mixture = mix(spec, read(data), read(added) if added else None)
    write(out, mixture)
    record.facts |= {"clean": int((mixture.corrupted == 0).sum()),
                     "corrupted": int((mixture.corrupted == 1).sum())}
