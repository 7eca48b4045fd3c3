"""Images as an encoder gives them: of each the mean and the standard deviation of its latent. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.storage.files import naming, read_arrays, write_arrays

STD = 0.5  # of all latents of a dataset, in each channel, as a denoiser sees them


@dataclass(frozen=True)
class Latents:
    """The posterior q(z | image) = N(mean, std^2) of each image, and how z becomes what a denoiser sees.

    mean, std: float32 (N, C, h, h), std >= 0. ids: int64 (N,), rising. shift, scale: float32 (C,), so that
    x_0 = 0.5 (z - shift) / scale has a standard deviation near 0.5 in each channel.
    Raises `ValueError` for other shapes, and naming an image whose latent is not finite.
    """

    mean: np.ndarray
    std: np.ndarray
    ids: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        shape = self.mean.shape
        for name, allowed in (("mean", shape), ("std", shape), ("shift", shape[1:2]), ("scale", shape[1:2])):
            values = getattr(self, name)
            if values.dtype != np.float32 or values.shape != allowed or len(shape) != 4:
                raise ValueError(f"{name} is {values.dtype} {values.shape}, allowed: float32 {allowed}, for "
                                 "means of four axes")
        if self.ids.shape != shape[:1] or self.ids.dtype.kind not in "iu" or (np.diff(self.ids) <= 0).any():
            raise ValueError(f"ids are {self.ids.dtype} {self.ids.shape}, allowed: rising whole numbers, one "
                             "for each latent")
        sound = np.isfinite(self.mean) & np.isfinite(self.std) & (self.std >= 0)
        if bad := self.ids[~sound.all(axis=(1, 2, 3))].tolist():
            raise ValueError(f"the latent of image {bad[0]} is not finite, of {len(bad)} images in all: look "
                             "at the image, or encode in float32")
        if not (np.isfinite(self.shift).all() and (self.scale > 0).all()):
            raise ValueError("shift and scale are not finite, or scale is not above 0")


def read(path: Path) -> Latents:
    """Read latents. Raises `ValueError` naming the file."""
    arrays = read_arrays(path)
    with naming(path):
        return Latents(**arrays)


def write(path: Path, found: Latents) -> None:
    """Write latents, atomically."""
    write_arrays(path, {name: getattr(found, name) for name in ("mean", "std", "ids", "shift", "scale")})
