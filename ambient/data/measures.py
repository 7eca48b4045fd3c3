"""Measures of quality by name. No torch: images are scored while a dataset is prepared.

A measure judges the prepared image, at the size that it is trained on, because that is what the model sees. A
photograph of twelve megapixels that is slightly out of focus is sharp at 64 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ambient.data.quality import KINDS
from ambient.jobs.progress import Progress
from ambient.specs.strict import nearest

SMALLEST = 16  # pixels: below, too few 8x8 blocks and windows remain to be measured


def measure(name: str) -> Callable[[np.ndarray], float]:
    """The measure of a name: a function of one image, uint8 (C, H, W), to a float, higher for better images.

    Raises `ValueError` for a name that is no measure's. The function raises it for an image that can't be
    measured.
    """
    if name not in KINDS:
        raise ValueError(f"measure: got {name!r}{nearest(name, KINDS)}")
    score = KINDS[name].score

    def checked(image: np.ndarray) -> float:
        if image.dtype != np.uint8 or image.ndim != 3 or len(image) not in (1, 3) \
                or min(image.shape[1:]) < SMALLEST:
            raise ValueError(f"{name}: the image is {image.dtype} {image.shape}, allowed: uint8 "
                             f"(1 or 3, H, W) with H and W of at least {SMALLEST}")
        return float(score(image))

    return checked


def score_images(name: str, images: np.ndarray) -> np.ndarray:
    """The scores (N,) of images (N, C, H, W) by a measure, one by one. Raises as `measure` does."""
    score, found, progress = measure(name), np.empty(len(images)), Progress(f"score by {name}", len(images))
    for k, image in enumerate(images):
        found[k] = score(image)
        progress.update(k + 1)
    return found
