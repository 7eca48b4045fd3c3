"""Annotations: for each sample the noise levels at which it may be used, as a table on disk.

`ambient.diffusion.eligible` says at which levels that is, and draws from them. Clean samples have (0, 0); a
sample that is never used has (inf, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.data.aligned import rows_of
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
        rows = rows_of(self.ids, ids, "annotation")
        return Annotations(ids, self.sigma_min[rows], self.sigma_max[rows])
