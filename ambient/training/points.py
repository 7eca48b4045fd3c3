"""What a denoiser learns from: the x_0 of each image of a mixture, in pixels or in latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient.data import latents
from ambient.data.datasets import Dataset, to_float
from ambient.diffusion import randomness
from ambient.diffusion.blocks import Blocks

POSTERIOR = "posterior"  # the stream of the noise by which a latent is drawn from its image's posterior


class Points:
    """x_0 of images, float32 (C, h, h) each: the pixels in [-1, 1], or a latent where an encoder gave one.

    A latent is z = mean + std n with n ~ N(0, I), and x_0 = 0.5 (z - shift) / scale. The noise n is drawn at
    each visit, or once and for all.
    """

    def __init__(self, data: Dataset, files: Sequence[Path] = ()) -> None:
        """`files`: the latents of all images of `data`; none: the images themselves are meant.

        Raises `ValueError` for an image without a latent, and for latents of two encoders.
        """
        self.ids, self.encoded = data.ids, bool(files)
        if not self.encoded:
            self.mean = torch.from_numpy(to_float(data.images))
        else:
            self.mean, self.std = encoded(data.ids, files)
        self.shape = tuple(self.mean.shape[1:])

    def visited(self, index: Tensor | np.ndarray, rows: slice, *visit: int | str) -> Tensor:
        """x_0 of some images (B,), which stand at `rows` of a batch, with the noise n of a visit: a function
        of the visit's key and the place in the batch."""
        if not self.encoded:
            return self.mean[index]
        return self.drawn(index, Blocks(rows, "cpu", POSTERIOR, *visit).normal(*self.shape))

    def fixed(self, rows: np.ndarray, seed: int) -> Tensor:
        """x_0 of some rows (B,), with the one noise n of each image: a function of (seed, id)."""
        if not self.encoded:
            return self.mean[rows]
        return self.drawn(rows, torch.from_numpy(randomness.normal(
            f"{POSTERIOR}-fixed", seed, self.ids[rows], self.shape)))

    def drawn(self, rows: Tensor | np.ndarray, noise: Tensor) -> Tensor:
        """x_0 of some rows for noise n (B, C, h, h); mean and std are stored on the scale of x_0."""
        return self.mean[rows] + self.std[rows] * noise


def encoded(ids: np.ndarray, files: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_0 of the images `ids`, (N, C, h, h) each."""
    parts = [latents.read(path) for path in files]
    first = parts[0]
    for path, part in zip(files, parts, strict=True):
        if part.mean.shape[1:] != first.mean.shape[1:] or (part.shift != first.shift).any() \
                or (part.scale != first.scale).any():
            raise ValueError(f"{path}: its latents are of another encoder than those of {files[0]}")
    known, rows = np.unique(np.concatenate([part.ids for part in parts]), return_index=True)
    place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    if len(missing := ids[known[place] != ids]):
        raise ValueError(f"{files[0]}: has no latent of image {missing[0]}, of {len(missing)} images in all: "
                         "it is of other images; encode the mixture again")
    mean, std = (np.concatenate([getattr(part, name) for part in parts])[rows[place]]
                 for name in ("mean", "std"))
    return normalised(torch.from_numpy(mean), torch.from_numpy(std), torch.from_numpy(first.shift),
                      torch.from_numpy(first.scale))


def affine(shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(gain, bias), each (C, 1, 1): x_0 = gain z + bias is 0.5 (z - shift) / scale."""
    gain = (latents.STD / scale).reshape(-1, 1, 1)
    return gain, -shift.reshape(-1, 1, 1) * gain


def normalised(mean: Tensor, std: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_0, for those of z (N, C, h, h)."""
    gain, bias = affine(shift, scale)
    return mean * gain + bias, std * gain
