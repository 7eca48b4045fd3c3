"""Which samples may be used at a noise level, and how to draw one of them: the method's own rule.

A sample with (sigma_min, sigma_max) is used at sigma > b sigma_min + m, where noise has made its
distribution the clean one's (section 3.1). It is also used at sigma < sigma_max, where a denoiser looks at
details that it shares with clean samples (section 3.2). Between the two it is left out: the donut. Neither
level itself is one of use, as in the released code; a drawn sigma is at one with probability 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # who counts without tensors need not load torch
    from torch import Tensor

Levels = TypeVar("Levels", np.ndarray, "Tensor", float)


@dataclass(frozen=True)
class Admission:
    """The rule sigma > b sigma_min + m or sigma < sigma_max; a sample with sigma_min = 0 is used everywhere.

    buffer: the L of equation C.2, > 1, with b = sqrt(1 + 1/(L - 1)); None: b = 1. At sigma = b sigma_min the
    factor sigma^2 / (sigma^2 - sigma_min^2) is exactly L, so that lambda_amb is L^2 (the paper says L).
    margin: the m >= 0 of the text-to-image release, in units of sigma, for samples with sigma_min > 0.
    Raises `ValueError` for other values.
    """

    buffer: float | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.buffer is not None and not self.buffer > 1:
            raise ValueError(f"buffer: got {self.buffer}, allowed: > 1, or None")
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"margin: got {self.margin}, allowed: a number >= 0")

    @property
    def factor(self) -> float:
        """The b of the rule."""
        return 1.0 if self.buffer is None else math.sqrt(1 + 1 / (self.buffer - 1))

    def threshold(self, sigma_min: Levels) -> Levels:
        """b sigma_min + m: the level above which a sample is used. Infinity stays infinity, 0 stays 0."""
        where = sigma_min > 0
        if hasattr(sigma_min, "new_tensor"):  # torch's product of a number and truth values is float32
            where = where.to(sigma_min.dtype)
        return self.factor * sigma_min + self.margin * where

    def above(self, sigma: Levels, sigma_min: Levels) -> Levels:
        """Whether a sample is used at `sigma` for its sigma_min. The threshold itself is not. Broadcasts."""
        return sigma > self.threshold(sigma_min)

    def admits(self, sigma: Levels, sigma_min: Levels, sigma_max: Levels) -> Levels:
        """Whether a sample is used at `sigma`. Broadcasts; sigma_min = infinity, sigma_max = 0: never."""
        return self.above(sigma, sigma_min) | (sigma < sigma_max)


def require_alike(**arrays: np.ndarray) -> None:
    """Raise `ValueError` naming two arrays that are not one number each of the same things."""
    (first, a), (second, b) = arrays.items()
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"{first}, {second}: got the shapes {a.shape} and {b.shape}, allowed: (N,) twice")


class EligibleSampler:
    """Sigma first, then a uniformly drawn eligible sample.

    Given sigma, every sample that the rule admits is equally likely, so sigma keeps its own density. Samples
    are sorted by their threshold once (and by sigma_max), which makes the eligible ones two prefixes: a draw
    is two binary searches, for a whole batch at a time. sigma_min, sigma_max: (N,) each. Raises `ValueError`
    for other shapes, and for levels that are no numbers >= 0; sigma_min = infinity is one.
    """

    def __init__(self, sigma_min: np.ndarray, sigma_max: np.ndarray, admission: Admission) -> None:
        sigma_min, sigma_max = np.asarray(sigma_min), np.asarray(sigma_max)
        require_alike(sigma_min=sigma_min, sigma_max=sigma_max)
        for name, levels in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
            if not (levels >= 0).all():
                raise ValueError(f"{name}: got {levels[~(levels >= 0)][0]}, allowed: numbers >= 0")
        low = admission.threshold(sigma_min)
        # The two prefixes must not share a sample: one usable everywhere counts as usable above 0.
        low = np.where(sigma_max > low, 0.0, low)
        self.above_order = np.argsort(low, kind="stable")
        self.above = low[self.above_order]
        below = np.where(low > 0, sigma_max, 0.0)
        order = np.argsort(-below, kind="stable")
        self.below_order = order[below[order] > 0]
        self.below = below[self.below_order][::-1]  # rising, for searchsorted

    def count(self, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many samples are usable at each sigma: above their sigma_min, below their sigma_max."""
        above = np.searchsorted(self.above, sigma, side="left")
        below = len(self.below) - np.searchsorted(self.below, sigma, side="right")
        return above, below

    def draw(self, sigma: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Sample indices (B,) for levels `sigma` (B,) and uniforms `u` (B,) in [0, 1).

        Raises `ValueError` for other shapes and values, and where no sample is usable at a level.
        """
        sigma, u = np.asarray(sigma), np.asarray(u)
        require_alike(sigma=sigma, u=u)
        if not (sigma >= 0).all():
            raise ValueError(f"sigma: got {sigma[~(sigma >= 0)][0]}, allowed: numbers >= 0")
        if not ((u >= 0) & (u < 1)).all():
            raise ValueError(f"u: got {u[~((u >= 0) & (u < 1))][0]}, allowed: [0, 1)")
        above, below = self.count(sigma)
        total = above + below
        if (total == 0).any():
            raise ValueError(f"no sample is usable at sigma = {sigma[total == 0][0]:.4g}: the dataset "
                             "has no clean images, and every annotation forbids that level")
        pick = np.minimum((u * total).astype(np.int64), total - 1)
        first = self.above_order[np.minimum(pick, len(self.above_order) - 1)]
        if not len(self.below_order):
            return first
        second = self.below_order[np.clip(pick - above, 0, len(self.below_order) - 1)]
        return np.where(pick < above, first, second)
