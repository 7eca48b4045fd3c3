"""Features of images by a detector, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient.evaluation import detectors
from ambient.evaluation.frechet import PART, Moments, moments_of
from ambient.jobs.progress import Progress
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.specs import DetectorSpec
from ambient.storage.arrays import Array

SHARD = 2 * PART  # images whose features are saved together, and lost together

def checked_features(spec: DetectorSpec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """The function from uint8 images (N, C, H, W) to features (N, D) of a detector's file.

    It raises `ValueError` naming that file for what `require_features` refuses.
    """
    given = detectors.KINDS[spec.kind].features(spec, path)

    def of(images: np.ndarray) -> Tensor:
        rows = given(images)
        require_features(spec, rows, len(images))
        return rows

    return of


def require_features(spec: DetectorSpec, rows: object, count: int) -> None:
    """Raise `ValueError` for what can't be features of `count` images, as a detector's entry has them."""
    where, size = detectors.KINDS.file(spec.kind), f"({count}, {spec.dimensions})"
    entry = f"the entry's features: {spec.features}" + f", members: {spec.members}" * (spec.members > 1)
    got = f"a tensor {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"a {type(rows).__name__}"
    if got != f"a tensor {size}":
        raise ValueError(f"{where}: features gave {got} for {count} images, allowed: a tensor {size}, "
                         f"by {entry}")
    if not torch.isfinite(rows).all():
        raise ValueError(f"{where}: features gave NaN or infinity for one of {count} images, allowed: finite "
                         "numbers")


def features_of(detector: Callable[[np.ndarray], Tensor], images: Array, first: int, last: int) -> np.ndarray:
    """Features (n, D) float32 of the images from `first` up to `last`, at once."""
    with torch.no_grad():
        return detector(images[first:last]).float().cpu().numpy()


def parts(spec: DetectorSpec, path: Path, images: Array, name: str) -> Iterator[np.ndarray]:
    """Features (n, D) float32 of uint8 images (N, C, H, W), part by part."""
    detector, progress = checked_features(spec, path), Progress(name, len(images))
    for first in range(0, len(images), PART):
        yield features_of(detector, images, first, first + PART)
        progress.update(min(first + PART, len(images)))


def extract(spec: DetectorSpec, path: Path, images: Array, name: str) -> np.ndarray:
    """Features (N, D) float32 of uint8 images (N, C, H, W), all of them in memory."""
    return np.concatenate(list(parts(spec, path, images, name)))


def moments_and_some(features: Iterable[np.ndarray], rows: np.ndarray) -> tuple[Moments, np.ndarray]:
    """Moments of features that come in parts, and those (n, D) float32 of `rows` of them, in rising order.

    The others' do not stay in memory.
    """
    kept: list[np.ndarray] = []

    def keeping() -> Iterator[np.ndarray]:
        done = 0
        for part in features:
            first, last = np.searchsorted(rows, (done, done + len(part)))
            kept.append(part[rows[first:last] - done])
            done += len(part)
            yield part

    return moments_of(keeping()), np.concatenate(kept)


def moments(spec: DetectorSpec, path: Path, sets: Mapping[str, Array], name: str,
            state: State) -> dict[str, Moments] | None:
    """Moments of the features of each of several sets of images; None but on the first rank.

    They depend neither on ranks nor on interruptions.
    """
    found = sharded(spec, path, sets, name, state)
    return None if found is None else {key: moments_of(features) for key, features in found}


def sharded(spec: DetectorSpec, path: Path, sets: Mapping[str, Array], name: str,
            state: State) -> Iterator[tuple[str, Iterator[np.ndarray]]] | None:
    """(key, features by PART) of each of several sets of images, in order; None but on the first rank.

    Features are saved by shards (`ambient.jobs.shards`), of which one is in memory: ranks share them out, and
    a kill costs the one at work. Those of a set have to be taken before the next set is asked for.
    """
    detector = checked_features(spec, path)
    shards = [(key, slice(first, min(first + SHARD, len(images)))) for key, images in sets.items()
              for first in range(0, len(images), SHARD)]

    def make(number: int) -> dict[str, np.ndarray]:
        key, shard = shards[number]
        return {"features": np.concatenate([
            features_of(detector, sets[key], first, min(first + PART, shard.stop))
            for first in range(shard.start, shard.stop, PART)])}

    pieces = [(f"features-{key}-{shard.start}", shard.stop - shard.start) for key, shard in shards]
    found = collect(name, state, pieces, make)
    if found is None:
        return None
    rows = groupby(zip(shards, found, strict=True), key=lambda pair: pair[0][0])
    return ((key, in_parts(saved["features"] for _, saved in group)) for key, group in rows)


def in_parts(shards: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Features by PART."""
    for features in shards:
        yield from np.split(features, range(PART, len(features), PART))
