"""Encoder `autoencoder`: a small variational autoencoder that learns from the workflow's own images.

For images and machines without a published one, whose place it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.data.quality import KINDS as QUALITY
from ambient.specs import EncoderSpec, OptimiserSpec
from ambient.specs.strict import later, require

if TYPE_CHECKING:
    from torch import Generator

    from ambient.data.datasets import Dataset
    from ambient.jobs.state import State
    from ambient.training.autoencoding import ImageAutoencoder


@dataclass(frozen=True)
class Spec(EncoderSpec):
    """Loss: the mean of |x - decoded(z)| over pixels, plus `kl` times KL(q(z | x) || N(0, I)) per pixel."""

    LEARNS: ClassVar[bool] = True

    latent_channels: int = 4  #: channels of a latent
    widths: tuple[int, ...] = (32, 64)  #: channels of the network at each level; each halves the side
    kl: float = 1.0e-4  #: weight of the divergence
    nimg: int = 64000  #: images seen in training
    batch: int = 32  #: images of a step
    lr: float = 2.0e-3  #: learning rate, which falls to 0 along a cosine
    precision: Literal["float32", "bfloat16"] = "bfloat16"  #: of the network's arithmetic in training
    seed: int = 0  #: of initial weights, batches and noise
    #: a measure of quality (`ambient/data/quality/`) that ranks images as before when they are decoded; an
    #: encoder that loses what the measure sees is refused; null: none is asked for
    keeps: str | None = later(None)
    keeps_at_least: float = later(0.9)  #: the rank correlation (Spearman) of both on held-out images

    def __post_init__(self) -> None:
        require(self.latent_channels > 0, "latent_channels", self.latent_channels, ">= 1")
        super().__post_init__()
        require(bool(self.widths) and all(width > 0 and width % 8 == 0 for width in self.widths), "widths",
                self.widths, "one multiple of 8, or several")
        require(self.kl >= 0, "kl", self.kl, ">= 0")
        self.optimiser()
        require(self.keeps is None or self.keeps in QUALITY, "keeps", self.keeps,
                f"{', '.join(QUALITY)}, or null")
        require(-1 <= self.keeps_at_least <= 1, "keeps_at_least", self.keeps_at_least, "[-1, 1]")

    def optimiser(self) -> OptimiserSpec:
        """How it is trained. Half of the average of weights is of the last twentieth of the training."""
        return OptimiserSpec(nimg=self.nimg, batch=self.batch, lr=self.lr, ramp_nimg=self.nimg // 20,
                             decay="cosine", clip=1.0, ema_halflife_nimg=self.nimg / 20, ema_ramp=0.05,
                             precision=self.precision)

    @property
    def channels(self) -> int:
        return self.latent_channels

    @property
    def factor(self) -> int:
        return 2 ** len(self.widths)

    def training(self) -> tuple[int, int]:
        return self.nimg, self.batch

    def multiply_adds(self, resolution: int, channels: int) -> float:
        """Three convolutions of each level, and those between them."""
        return sum(36 * width**2 * (resolution >> level) ** 2 for level, width in enumerate(self.widths, 1))


def build(spec: Spec, channels: int, generator: Generator | None = None) -> ImageAutoencoder:
    """The network for images of so many channels; its weights are drawn by a generator."""
    import torch

    from ambient.training.autoencoding import ImageAutoencoder

    return ImageAutoencoder(channels, spec.latent_channels, spec.widths, generator or torch.Generator())


def make(spec: Spec, record, *, data: Dataset, weights: Path | None, state: State) -> ImageAutoencoder:
    """Train on the images, but one in ten, on which the error in the manifest is measured."""
    from ambient.diffusion import randomness
    from ambient.training.autoencoding import trained

    generator = randomness.torch_generator("cpu", "init", spec.seed)
    return trained(spec, record, build(spec, data.images.shape[1], generator), data, state)
