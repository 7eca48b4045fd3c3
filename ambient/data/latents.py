"""Images as an encoder gives them: of each the mean and the standard deviation of its latent. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.storage.arrays import Array, Computed, open_arrays, writing
from ambient.storage.files import naming

STD = 0.5  # of all latents of a dataset, in each channel, as a denoiser sees them


@dataclass(frozen=True)
class Latents:
    """The posterior q(z | image) = N(mean, std^2) of each image, and how z becomes what a denoiser sees.

    mean, std: float32 (N, C, h, h), std >= 0; where they are many, some are read when they are asked for.
    ids: int64 (N,), rising. shift, scale: float32 (C,), so that x_0 = 0.5 (z - shift) / scale has a standard
    deviation near 0.5 in each channel.
    Raises `ValueError` for other shapes, and, of those in memory, naming an image whose latent is not finite.
    """

    mean: Array
    std: Array
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
        if isinstance(self.mean, np.ndarray) and isinstance(self.std, np.ndarray):
            sound = np.isfinite(self.mean) & np.isfinite(self.std) & (self.std >= 0)
            if bad := self.ids[~sound.all(axis=(1, 2, 3))].tolist():
                raise ValueError(f"the latent of image {bad[0]} is not finite, of {len(bad)} images in all: "
                                 "look at the image, or encode in float32")
        if not (np.isfinite(self.shift).all() and (self.scale > 0).all()):
            raise ValueError("shift and scale are not finite, or scale is not above 0")


def read(path: Path) -> Latents:
    """Read latents; a file without standard deviations has zeros. Raises `ValueError` naming the file."""
    arrays = open_arrays(path, "mean", "std")
    with naming(path):
        return Latents(**({"std": zeros_like(arrays["mean"])} | arrays))


def zeros_like(array: Array) -> Array:
    """Zeros of an array's shape and type; in memory no more of them than of it."""
    if isinstance(array, np.ndarray):
        return np.zeros_like(array)
    return Computed(array.shape, array.dtype, lambda rows: np.zeros((len(rows), *array.shape[1:]),
                                                                    array.dtype))


def write(path: Path, ids: np.ndarray, shape: Sequence[int], shift: np.ndarray, scale: np.ndarray,
          parts: Iterable[Latents], points: bool = False) -> None:
    """Write the latents (*shape) of the images `ids`, atomically, part by part as they come.

    `points`: each is one point of its posterior, without a standard deviation, which the file leaves out.
    """
    small = {"ids": ids, "shift": shift, "scale": scale}
    large = {name: ((len(ids), *shape), np.float32) for name in (("mean",) if points else ("mean", "std"))}
    with writing(path, large | {name: (array.shape, array.dtype) for name, array in small.items()}) as file:
        for name, array in small.items():
            file.put(name, 0, array)
        done = 0
        for part in parts:
            for name in large:
                file.put(name, done, getattr(part, name))
            done += len(part.ids)
