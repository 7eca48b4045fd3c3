"""How much a training uses of the images that are not clean. No torch: the audit counts again.

`ambient.diffusion.eligible` says at which levels an image is usable. A training draws
ln sigma ~ N(P_mean, P_std^2), then one of the usable images, each equally likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from ambient.diffusion.eligible import Admission
from ambient.specs.training import NoiseSpec


@dataclass(frozen=True)
class Usage:
    """Two shares in [0, 1] of what a training draws.

    levels: of the noise levels, those at which an added image is usable, mean over these images.
    draws: of the images, those that are added ones.
    """

    levels: float
    draws: float


def usage(sigma_min: np.ndarray, sigma_max: np.ndarray, clean: int, noise: NoiseSpec,
          admission: Admission) -> Usage:
    """The usage of the added images of a mixture; `sigma_min`, `sigma_max` (N,) of all its images.

    `clean` of them, at least one, are usable everywhere. Exact: between two neighbouring levels of the table
    the same images are usable, and the normal distribution says how often sigma falls there.
    """
    low = admission.threshold(sigma_min)
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
