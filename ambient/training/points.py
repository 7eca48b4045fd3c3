"""What a denoiser learns from: the x_0 of each image of a mixture, in pixels or in latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient.data import latents
from ambient.data.datasets import Dataset, to_float
from ambient.data.latents import Latents
from ambient.diffusion import randomness
from ambient.diffusion.blocks import Blocks
from ambient.storage import arrays

POSTERIOR = "posterior"  # the stream of the noise by which a latent is drawn from its image's posterior


class Points:
    """x_0 of images, float32 (C, h, h) each: the pixels in [-1, 1], or a latent where an encoder gave one.

    A latent is z = mean + std n with n ~ N(0, I), and x_0 = 0.5 (z - shift) / scale. The noise n is drawn at
    each visit, or once and for all. Of many images those are read that are asked for.
    """

    def __init__(self, data: Dataset, files: Sequence[Path] = ()) -> None:
        """`files`: the latents of all images of `data`; none: the images themselves are meant.

        Raises `ValueError` for an image without a latent, and for latents of two encoders.
        """
        self.ids, self.encoded = data.ids, bool(files)
        if not self.encoded and data.images is None:
            raise ValueError("the mixture has no images of its own, so that its latents are needed")
        if not self.encoded:
            self.images, self.shape = data.images, tuple(data.images.shape[1:])
            return
        parts = read(files)
        self.mean, self.std = (arrays.concatenated([getattr(part, name) for part in parts])
                               for name in ("mean", "std"))
        self.row = rows_of(data.ids, [part.ids for part in parts], files[0])  # of each image's latent
        self.scaling = torch.from_numpy(parts[0].shift), torch.from_numpy(parts[0].scale)
        self.shape = tuple(self.mean.shape[1:])

    def visited(self, index: np.ndarray, rows: slice, *visit: int | str) -> Tensor:
        """x_0 of images (B,), which stand at `rows` of a batch, with the noise n of a visit: a function of
        the visit's key and the place in the batch."""
        if not self.encoded:
            return self.pixels(index)
        return self.drawn(index, Blocks(rows, "cpu", POSTERIOR, *visit).normal(*self.shape))

    def fixed(self, index: np.ndarray, seed: int) -> Tensor:
        """x_0 of images (B,), with the one noise n of each image: a function of (seed, id)."""
        if not self.encoded:
            return self.pixels(index)
        return self.drawn(index, torch.from_numpy(randomness.normal(
            f"{POSTERIOR}-fixed", seed, self.ids[index], self.shape)))

    def pixels(self, index: np.ndarray) -> Tensor:
        """Images as they are."""
        return torch.from_numpy(to_float(self.images[index]))

    def drawn(self, index: np.ndarray, noise: Tensor) -> Tensor:
        """x_0 of images for noise n (B, C, h, h)."""
        mean, std = (torch.from_numpy(array[self.row[index]]) for array in (self.mean, self.std))
        mean, std = normalised(mean, std, *self.scaling)
        return mean + std * noise


class FixedNoise:
    """Z_i of images, standard normal (C, h, h): one draw for each (seed, id), for as long as a run lasts.

    The noise of few images is held in memory; that of many is drawn again at each visit.
    """

    def __init__(self, seed: int, ids: np.ndarray, shape: Sequence[int], needed: np.ndarray) -> None:
        """`needed`: of which images it will be asked for, by their places; others have zeros."""
        self.seed, self.ids, self.shape = seed, ids, tuple(shape)
        self.place = np.full(len(ids), -1)
        self.place[needed] = np.arange(len(needed))
        few = len(needed) * math.prod(shape) * np.dtype(np.float32).itemsize <= arrays.HELD
        self.held = self.of(ids[needed]) if few else None

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Z of images by their ids."""
        return randomness.normal("fixed-noise", self.seed, ids, self.shape)

    def __getitem__(self, index: np.ndarray) -> Tensor:
        """Z of images (B,) by their places, float32 (B, C, h, h)."""
        place = self.place[index]
        noise, known = np.zeros((len(index), *self.shape), np.float32), place >= 0
        noise[known] = self.of(self.ids[index[known]]) if self.held is None else self.held[place[known]]
        return torch.from_numpy(noise)


def read(files: Sequence[Path]) -> list[Latents]:
    """The latents of several files. Raises `ValueError` where they are of two encoders."""
    parts = [latents.read(path) for path in files]
    first = parts[0]
    for path, part in zip(files, parts, strict=True):
        if part.mean.shape[1:] != first.mean.shape[1:] or (part.shift != first.shift).any() \
                or (part.scale != first.scale).any():
            raise ValueError(f"{path}: its latents are of another encoder than those of {files[0]}")
    return parts


def rows_of(ids: np.ndarray, known: Sequence[np.ndarray], path: Path) -> np.ndarray:
    """Where the latent of each image lies in files one after the other, the first where several have it.

    Raises `ValueError` naming an image without one.
    """
    every, rows = np.unique(np.concatenate(known), return_index=True)
    place = np.minimum(np.searchsorted(every, ids), len(every) - 1)
    if len(missing := ids[every[place] != ids]):
        raise ValueError(f"{path}: has no latent of image {missing[0]}, of {len(missing)} images in all: "
                         "it is of other images; encode the mixture again")
    return rows[place]


def affine(shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(gain, bias), each (C, 1, 1): x_0 = gain z + bias is 0.5 (z - shift) / scale."""
    gain = (latents.STD / scale).reshape(-1, 1, 1)
    return gain, -shift.reshape(-1, 1, 1) * gain


def normalised(mean: Tensor, std: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_0, for those of z (N, C, h, h)."""
    gain, bias = affine(shift, scale)
    return mean * gain + bias, std * gain
