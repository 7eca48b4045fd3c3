"""Annotations: for each sample the noise levels at which it may be used, and how to draw from them.

A sample is usable at sigma > b sigma_min or sigma <= sigma_max (`ambient.diffusion.noise.admits`). Clean
samples have (0, 0); a sample that is never used has (inf, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.data.usage import buffer_factor
from ambient.storage.files import read_arrays, write_arrays


@dataclass(frozen=True)
class Annotations:
    """One row a sample: `ids` int64 (N,), `sigma_min` and `sigma_max` float64 (N,)."""

    ids: np.ndarray
    sigma_min: np.ndarray
    sigma_max: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.sigma_min) == len(self.sigma_max):
            raise ValueError("annotations: ids, sigma_min and sigma_max differ in length")
        for name in ("sigma_min", "sigma_max"):
            values = getattr(self, name)
            if np.isnan(values).any() or (values < 0).any():
                row = int(np.flatnonzero(np.isnan(values) | (values < 0))[0])
                raise ValueError(f"annotations: {name} of sample {self.ids[row]} is {values[row]}, "
                                 "allowed: 0 or more")

    @classmethod
    def read(cls, path: Path) -> Annotations:
        """Read an annotation file. Raises `ValueError` naming it if it is not one."""
        try:
            return cls(**read_arrays(path))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: not an annotation file ({error})") from None

    def write(self, path: Path) -> None:
        """Write the table, atomically."""
        write_arrays(path, {"ids": self.ids, "sigma_min": self.sigma_min,
                            "sigma_max": self.sigma_max})

    def of(self, ids: np.ndarray) -> Annotations:
        """The rows of the given samples, in their order. Raises `ValueError` naming a missing one."""
        order = np.argsort(self.ids)
        place = np.clip(np.searchsorted(self.ids, ids, sorter=order), 0, len(order) - 1)
        rows = order[place]
        missing = ids[self.ids[rows] != ids]
        if len(missing):
            raise ValueError(f"no annotation for sample {missing[0]} ({len(missing)} missing): "
                             "the annotations were made for another dataset")
        return Annotations(ids, self.sigma_min[rows], self.sigma_max[rows])


class EligibleSampler:
    """Sigma first, then a uniformly drawn eligible sample.

    Given sigma, every sample that `ambient.diffusion.noise.admits` is equally likely, so sigma keeps its own
    density. Samples are sorted by b sigma_min once (and by sigma_max), which makes the eligible ones
    two prefixes: a draw is two binary searches, for a whole batch at a time.
    """

    def __init__(self, sigma_min: np.ndarray, sigma_max: np.ndarray, buffer: float | None) -> None:
        low = buffer_factor(buffer) * sigma_min
        # The two prefixes must not share a sample: one usable everywhere counts as usable above 0.
        low = np.where(sigma_max >= low, 0.0, low)
        self.above_order = np.argsort(low, kind="stable")
        self.above = low[self.above_order]
        below = np.where(low > 0, sigma_max, 0.0)
        order = np.argsort(-below, kind="stable")
        self.below_order = order[below[order] > 0]
        self.below = below[self.below_order][::-1]  # rising, for searchsorted

    def count(self, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many samples are usable at each sigma: above their sigma_min, below their sigma_max."""
        above = np.searchsorted(self.above, sigma, side="left")
        below = len(self.below) - np.searchsorted(self.below, sigma, side="left")
        return above, below

    def draw(self, sigma: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Sample indices (B,) for levels `sigma` (B,) and uniforms `u` (B,) in [0, 1).

        Raises `ValueError` where no sample is usable at a level.
        """
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
