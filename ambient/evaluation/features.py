"""Features of images by a detector, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient.evaluation import detectors
from ambient.evaluation.frechet import PART, Moments, moments_of
from ambient.jobs.progress import Progress
from ambient.specs import DetectorSpec
from ambient.storage.arrays import Array


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


@torch.no_grad()
def parts(spec: DetectorSpec, path: Path, images: Array, name: str) -> Iterator[np.ndarray]:
    """Features (n, D) float32 of uint8 images (N, C, H, W), part by part."""
    detector, progress = checked_features(spec, path), Progress(name, len(images))
    for first in range(0, len(images), PART):
        yield detector(images[first:first + PART]).float().cpu().numpy()
        progress.update(min(first + PART, len(images)))


def extract(spec: DetectorSpec, path: Path, images: Array, name: str) -> np.ndarray:
    """Features (N, D) float32 of uint8 images (N, C, H, W), all of them in memory."""
    return np.concatenate(list(parts(spec, path, images, name)))


def moments_and_some(spec: DetectorSpec, path: Path, images: Array, name: str,
                     rows: np.ndarray) -> tuple[Moments, np.ndarray]:
    """Moments of the features of images, and the features (n, D) float32 of `rows` of them, in rising order.

    The others' do not stay in memory.
    """
    kept: list[np.ndarray] = []

    def keeping() -> Iterator[np.ndarray]:
        done = 0
        for part in parts(spec, path, images, name):
            first, last = np.searchsorted(rows, (done, done + len(part)))
            kept.append(part[rows[first:last] - done])
            done += len(part)
            yield part

    return moments_of(keeping()), np.concatenate(kept)


def moments(spec: DetectorSpec, path: Path, images: Array, name: str) -> Moments:
    """Moments of the features of images, none of which stays in memory."""
    return moments_of(parts(spec, path, images, name))
