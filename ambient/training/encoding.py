"""From images to latents and back, by an encoder of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ambient.data.datasets import to_uint8
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.specs import EncoderSpec
from ambient.specs.strict import build
from ambient.storage.arrays import Array
from ambient.storage.files import naming
from ambient.training import encoders
from ambient.training.points import affine
from ambient.training.weights import read_description, read_weights

TOGETHER = 64  # images encoded or decoded at once
SPREAD = 16 * TOGETHER  # images of a shard where the spread of latents is measured


class Coder(Protocol):
    """An encoder with its decoder, a module of torch. It is called without gradients."""

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (N, C, h, h) of the latents z of uint8 images (N, C, H, H)."""

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, H) float, about in [-1, 1], of latents z (N, C, h, h)."""


@torch.no_grad()
def posterior(coder: Coder, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the latents of uint8 images, float32 (N, C, h, h) each."""
    parts = [coder.encode(images[first:first + TOGETHER]) for first in range(0, len(images), TOGETHER)]
    mean, std = (torch.cat(one).float().cpu().numpy() for one in zip(*parts, strict=True))
    return mean, std


def spread(coder: Coder, images: Array, state: State) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and standard deviation of z = mean + std n of images in each channel, float64 (C,).

    Var z = Var mean + E std^2, over all images and places. Shards of the images (`ambient.jobs.shards`) are
    joined by the rule of Chan et al. 1979 for counts, means and squared deviations. None but on the first
    rank.
    """
    starts = range(0, len(images), SPREAD)

    def make(number: int) -> dict[str, np.ndarray]:
        first = starts[number]
        means, stds = posterior(coder, images[first:first + SPREAD])
        own = means.mean(axis=(0, 2, 3), dtype=np.float64)
        squares = np.square(means - own[:, None, None], dtype=np.float64) + np.square(stds, dtype=np.float64)
        return {"mean": own, "squares": squares.sum(axis=(0, 2, 3)), "number": np.array([means[:, 0].size])}

    pieces = [(f"spread-{first}", min(SPREAD, len(images) - first)) for first in starts]
    shards = collect("encoder: spread of latents", state, pieces, make)
    if shards is None:
        return None
    count, mean, deviations = 0, 0.0, 0.0
    for shard in shards:
        own, number = shard["mean"], int(shard["number"][0])
        deviations = (deviations + shard["squares"]
                      + (own - mean) ** 2 * count * number / (count + number))
        mean = mean + (own - mean) * number / (count + number)
        count += number
    return mean, np.sqrt(deviations / count)


def read_spec(path: Path) -> tuple[EncoderSpec, dict]:
    """The specification and the description of a stored encoder. Raises `ValueError` naming another file."""
    about = read_description(path)
    with naming(path):
        return build(EncoderSpec, about["spec"], "the encoder's specification"), about


def shape_of_images(about: Mapping, encoder: Path | None) -> tuple[int, int, int]:
    """(C, H, W) of the samples of a denoiser by its description; `encoder`: the file of what decodes them."""
    channels, side = about["channels"], about["resolution"]
    if encoder is None:
        return channels, side, side
    spec, told = read_spec(encoder)
    return told["channels"], side * spec.factor, side * spec.factor


class Decoder:
    """A stored encoder: it gives latents, and images of what a denoiser made."""

    def __init__(self, path: Path, where: torch.device) -> None:
        """Raises `ValueError` naming a file that holds no encoder."""
        self.spec, about = read_spec(path)
        with naming(path):
            self.coder = encoders.KINDS[self.spec.kind].build(self.spec, about["channels"])
            self.coder.load_state_dict(read_weights(path))
            self.shift, self.scale = (torch.tensor(about[key], dtype=torch.float32, device=where)
                                      for key in ("shift", "scale"))
        self.path, self.channels = path, about["channels"]
        self.coder.to(where).eval()

    def image(self, side: int) -> tuple[int, int, int]:
        """The shape of images whose latents have so many numbers along a side."""
        return self.channels, side * self.spec.factor, side * self.spec.factor

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of z of uint8 images (N, C, H, H), float32 (N, C, h, h) each."""
        return posterior(self.coder, images)

    @torch.no_grad()
    def images(self, x: Tensor) -> np.ndarray:
        """uint8 images (N, C, H, H) of x_0 (N, C, h, h): z = (x_0 - bias) / gain, decoded and clipped.

        Raises `FloatingPointError` for numbers that are none, which would become black.
        """
        gain, bias = affine(self.shift, self.scale)
        z = (x.float() - bias) / gain
        return np.concatenate([self.decoded(part) for part in z.split(TOGETHER)])

    def decoded(self, z: Tensor) -> np.ndarray:
        """uint8 images of latents z (N, C, h, h)."""
        images = self.coder.decode(z).clamp(-1, 1).float()
        if torch.isnan(images).any():
            raise FloatingPointError(f"{self.path}: decodes latents to what is no number: look at their "
                                     "range, or decode in float32")
        return to_uint8(images.cpu().numpy())
