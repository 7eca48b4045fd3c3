"""Features of images by a detector, whatever its kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ambient.evaluation import detectors
from ambient.jobs.progress import Progress
from ambient.specs import DetectorSpec
from ambient.storage.arrays import Array

BATCH = 250


@torch.no_grad()
def extract(spec: DetectorSpec, path: Path, images: Array, name: str) -> np.ndarray:
    """Features (N, D) float32 of uint8 images (N, C, H, W)."""
    detector = detectors.KINDS[spec.kind].features(spec, path)
    progress, parts = Progress(name, len(images)), []
    for first in range(0, len(images), BATCH):
        parts.append(detector(images[first:first + BATCH]).float().cpu().numpy())
        progress.update(min(first + BATCH, len(images)))
    return np.concatenate(parts)
