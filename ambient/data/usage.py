"""How much a training uses of the images that are not clean. No torch: the audit counts again.

With b of equation C.2, image i is usable at sigma > b sigma_min_i or sigma <= sigma_max_i. A training draws
ln sigma ~ N(P_mean, P_std^2), then one of the usable images, each equally likely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from ambient.specs.training import NoiseSpec


def buffer_factor(buffer: float | None) -> float:
    """The b of the admission rule sigma > b sigma_min: b = sqrt(1 + 1/(L - 1)), L = `buffer` (C.2).

    At sigma = b sigma_min the factor sigma^2 / (sigma^2 - sigma_min^2) is exactly L, so lambda_amb is
    L^2 (the paper says L: see the notes on its inconsistencies in the README). None gives b = 1.
    """
    return 1.0 if buffer is None else math.sqrt(1 + 1 / (buffer - 1))


@dataclass(frozen=True)
class Usage:
    """Two shares in [0, 1] of what a training draws.

    levels: of the noise levels, those at which an added image is usable, mean over these images.
    draws: of the images, those that are added ones.
    """

    levels: float
    draws: float


def usage(sigma_min: np.ndarray, sigma_max: np.ndarray, clean: int, noise: NoiseSpec,
          buffer: float | None) -> Usage:
    """The usage of the added images of a mixture; `sigma_min`, `sigma_max` (N,) of all its images.

    `clean` of them, at least one, are usable everywhere. Exact: between two neighbouring levels of the table
    the same images are usable, and the normal distribution says how often sigma falls there.
    """
    low = buffer_factor(buffer) * sigma_min
    everywhere = sigma_max >= low
    low, high = np.where(everywhere, 0.0, low), np.where(everywhere, 0.0, sigma_max)
    edges = np.unique(np.concatenate([[0.0], low[np.isfinite(low)], high, [np.inf]]))
    with np.errstate(divide="ignore"):
        below = ndtr((np.log(edges) - noise.P_mean) / noise.P_std)
    # On (edges[k], edges[k + 1]]: above their own low, or not above their own high.
    usable = np.searchsorted(np.sort(low), edges[:-1], side="right") + len(high) - np.searchsorted(
        np.sort(high), edges[1:], side="left")
    share, added = np.diff(below), usable - clean
    every = len(sigma_min) - clean
    levels = (share * added).sum() / every if every else 0.0
    return Usage(float(levels), float((share * added / usable).sum()))
