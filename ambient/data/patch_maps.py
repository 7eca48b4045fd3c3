"""Patch maps on disk: what classifiers of crops say of each patch of a few images. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.storage.files import read_arrays, write_arrays

MAP = "p_target/"  # before the crop size, in the names of the arrays


@dataclass(frozen=True)
class PatchMaps:
    """A few images with P(target) of their patches.

    images: uint8 (N, C, H, H). ids: int64 (N,), of the dataset they are from. p_target: side of a crop in
    pixels -> float32 (N, H, H) in [0, 1], at each pixel the probability of the patch that it lies in.
    """

    images: np.ndarray
    ids: np.ndarray
    p_target: Mapping[int, np.ndarray]

    def __post_init__(self) -> None:
        count, _, *sides = self.images.shape
        for size, p in self.p_target.items():
            if p.shape != (count, *sides):
                raise ValueError(f"maps of {size}-pixel crops have the shape {p.shape}, allowed: "
                                 f"{(count, *sides)}, that of the images")
            if not ((p >= 0) & (p <= 1)).all():
                raise ValueError(f"maps of {size}-pixel crops are not probabilities")

    @classmethod
    def read(cls, path: Path) -> PatchMaps:
        """Read patch maps, crop sizes rising. Raises `ValueError` naming the file if it holds none."""
        try:
            arrays = read_arrays(path)
            maps = {int(name.removeprefix(MAP)): p for name, p in arrays.items() if name.startswith(MAP)}
            return cls(arrays["images"], arrays["ids"], dict(sorted(maps.items())))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: not a file of patch maps ({error})") from None

    def write(self, path: Path) -> None:
        """Write the maps, atomically."""
        write_arrays(path, {"images": self.images, "ids": self.ids,
                            **{f"{MAP}{size}": p for size, p in self.p_target.items()}})
