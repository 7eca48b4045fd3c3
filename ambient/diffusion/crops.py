r"""Crops: what a classifier sees of an image, and which noise levels a crop size allows (section 3.2).

At level sigma a denoiser looks at a square of side crop(sigma) only. Samples of another distribution
whose crops of that size pass for the target's are therefore usable at every sigma' <= sigma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

# Side of a crop, pixels -> sigma_max: the map of the released pixel code, for 64x64 images.
RELEASED = {1: 0.01, 4: 0.05, 8: 0.15, 16: 0.2, 24: 0.35, 32: 0.55, 48: 0.7, 64: 1.0}


def square(side: int, crop: int, top: Tensor, left: Tensor) -> Tensor:
    """Masks (B, 1, side, side), 1 in the `crop` x `crop` square at (`top`, `left`), each (B,), else 0."""
    at = torch.arange(side, device=top.device)
    rows = (at >= top[:, None]) & (at < top[:, None] + crop)
    columns = (at >= left[:, None]) & (at < left[:, None] + crop)
    return (rows[:, None, :, None] & columns[:, None, None, :]).float()


def random_squares(count: int, side: int, crop: int, generator: torch.Generator) -> Tensor:
    """Masks (count, 1, side, side) of squares at positions drawn for each image. Raises `ValueError`."""
    if not 1 <= crop <= side:
        raise ValueError(f"crop: got {crop} pixels, allowed: 1 to {side}, the side of the images")
    top, left = (torch.randint(side - crop + 1, (count,), generator=generator, device=generator.device)
                 for _ in range(2))
    return square(side, crop, top, left)


def patches(side: int, crop: int) -> Tensor:
    """Masks (P, 1, side, side) of the grid of patches from the top left corner, the last ones cut off."""
    corner = torch.arange(0, side, crop)
    top, left = torch.meshgrid(corner, corner, indexing="ij")
    return square(side, crop, top.flatten(), left.flatten())


def measured_map(sigmas: Sequence[float], needed: Sequence[int], crops: Sequence[int]) -> dict[int, float]:
    """Crop size -> sigma_max: the last level up to which no more context than that is needed.

    `needed` is crop(sigma) at rising `sigmas`; 0 for a size that is too small at the first level.
    """
    found = {}
    for crop in crops:
        beyond = np.flatnonzero(np.asarray(needed) > crop)
        last = len(sigmas) if not len(beyond) else int(beyond[0])
        found[crop] = float(sigmas[last - 1]) if last else 0.0
    return found


def sigma_max(probability: Mapping[int, np.ndarray], threshold: float,
              levels: Mapping[int, float]) -> np.ndarray:
    """sigma_max of each image: of the largest crop size whose mean P(target) exceeds the threshold.

    `probability`: size -> (N,), the mean over an image's patches. Where no size passes: that of a
    single pixel, `levels[1]`. Raises `ValueError` for a probability that is no number.
    """
    for crop, values in probability.items():
        for place in np.flatnonzero(np.isnan(values))[:1]:
            raise ValueError(f"probability: got {values[place]} of image {place} at {crop} pixels, allowed: "
                             "[0, 1]")
    found = np.full(len(next(iter(probability.values()))), levels[1])
    for crop in sorted(probability):
        found = np.where(probability[crop] > threshold, levels[crop], found)
    return found
