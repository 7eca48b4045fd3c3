"""Features of images by a detector, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ambient.evaluation import detectors
from ambient.evaluation.frechet import PART, Moments, moments_of
from ambient.jobs.progress import Progress
from ambient.specs import DetectorSpec
from ambient.storage.arrays import Array


@torch.no_grad()
def parts(spec: DetectorSpec, path: Path, images: Array, name: str) -> Iterator[np.ndarray]:
    """Features (n, D) float32 of uint8 images (N, C, H, W), part by part."""
    detector, progress = detectors.KINDS[spec.kind].features(spec, path), Progress(name, len(images))
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
