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
from ambient.jobs.shards import Shards, collect
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


def features_of(detector: Callable[[np.ndarray], Tensor], images: Array, rows: slice) -> np.ndarray:
    """Features (n, D) float32 of `rows` of uint8 images (N, C, H, W), of which PART are asked for at once."""
    with torch.no_grad():
        return np.concatenate([detector(images[first:min(first + PART, rows.stop)]).float().cpu().numpy()
                               for first in range(rows.start, rows.stop, PART)])


def extract(spec: DetectorSpec, path: Path, images: Array) -> np.ndarray:
    """Features (N, D) float32 of uint8 images (N, C, H, W), all of them in memory."""
    return features_of(checked_features(spec, path), images, slice(0, len(images)))


def collected(spec: DetectorSpec, path: Path, sets: Mapping[str, Array], name: str,
              state: State) -> dict[str, Iterator[np.ndarray]] | None:
    """Features (n, D) float32 of each of several sets of images, by PART; None but on the first rank.

    They are saved by shards (`ambient.jobs.shards`), of which one is in memory. What is added up at once are
    PART of them, so that moments depend neither on ranks nor on interruptions.
    """
    detector = checked_features(spec, path)
    shards = [(key, slice(first, min(first + SHARD, len(images)))) for key, images in sets.items()
              for first in range(0, len(images), SHARD)]

    def make(number: int) -> dict[str, np.ndarray]:
        key, rows = shards[number]
        return {"features": features_of(detector, sets[key], rows)}

    pieces = [(f"features-{key}-{rows.start}", rows.stop - rows.start) for key, rows in shards]
    if collect(name, state, pieces, make) is None:
        return None
    groups = groupby(zip(shards, pieces, strict=True), key=lambda pair: pair[0][0])
    return {key: in_parts(Shards(state, [piece for _, piece in group])) for key, group in groups}


def moments(spec: DetectorSpec, path: Path, sets: Mapping[str, Array], name: str,
            state: State) -> dict[str, Moments] | None:
    """Moments of the features of each of several sets of images; None but on the first rank."""
    found = collected(spec, path, sets, name, state)
    return found and {key: moments_of(features) for key, features in found.items()}


def moments_and_some(parts: Iterable[np.ndarray], rows: np.ndarray) -> tuple[Moments, np.ndarray]:
    """Moments of features that come in parts, and those (n, D) float32 of `rows` of them, in rising order.

    The others do not stay in memory.
    """
    kept: list[np.ndarray] = []

    def keeping() -> Iterator[np.ndarray]:
        done = 0
        for part in parts:
            first, last = np.searchsorted(rows, (done, done + len(part)))
            kept.append(part[rows[first:last] - done])
            done += len(part)
            yield part

    return moments_of(keeping()), np.concatenate(kept)


def in_parts(shards: Iterable[Mapping[str, np.ndarray]]) -> Iterator[np.ndarray]:
    """Features by PART."""
    for saved in shards:
        yield from np.split(saved["features"], range(PART, len(saved["features"]), PART))
