"""Specifications of what is trained, and how: network, augmentation, optimiser, noise levels, loss."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Literal

from ambient.specs.strict import later, require, require_distinct, require_finite


@dataclass(frozen=True)
class NetworkSpec:
    """DDPM++ U-Net, or its encoder half (Song et al. 2021; Karras et al. 2022)."""

    model_channels: int  #: width of the first level
    channel_mult: tuple[int, ...]  #: factor of the width at each level; each level halves the image
    num_blocks: int  #: residual blocks of each level
    attn_resolutions: tuple[int, ...]  #: image sides, pixels, at which blocks have attention
    dropout: float  #: in [0, 1)
    conditional: bool = False  #: whether class labels are given to the network

    def __post_init__(self) -> None:
        require(len(self.channel_mult) > 0 and min(self.channel_mult) > 0, "channel_mult",
                self.channel_mult, "one or more factors >= 1")
        # Group norm has min(32, channels // 4) groups, also over two widths joined in the decoder.
        widest = 2 * max(self.channel_mult) * self.model_channels
        require(self.model_channels > 0 and (self.model_channels % 32 == 0 or (
            self.model_channels % 4 == 0 and widest <= 128)), "model_channels", self.model_channels,
            "a multiple of 32, or one of 4 where 2 max(channel_mult) model_channels <= 128")
        require(self.num_blocks > 0, "num_blocks", self.num_blocks, ">= 1")
        require(all(side > 0 for side in self.attn_resolutions), "attn_resolutions", self.attn_resolutions,
                "image sides in pixels, >= 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "[0, 1)")


@dataclass(frozen=True)
class AugmentSpec:
    """Non-leaky augmentation; the applied transform is told to the network as 9 labels."""

    p: float  #: probability of each transform, in [0, 1]
    transforms: tuple[str, ...]  #: of `KNOWN`

    KNOWN: typing.ClassVar = ("xflip", "yflip", "scale", "rotate", "aniso", "translate")

    def __post_init__(self) -> None:
        require(0 <= self.p <= 1, "p", self.p, "[0, 1]")
        unknown = [name for name in self.transforms if name not in self.KNOWN]
        require(not unknown, "transforms", unknown, ", ".join(self.KNOWN))
        require_distinct(self.transforms, "transforms")


@dataclass(frozen=True)
class OptimiserSpec:
    """Adam with a linear ramp of the learning rate, an EMA of the weights, and gradient clipping."""

    nimg: int  #: images seen in all
    batch: int  #: images per step
    lr: float  #: learning rate after the ramp
    #: the learning rate grows linearly from 0 over so many images; constant: nimg may be fewer
    ramp_nimg: int
    decay: Literal["constant", "cosine"]  #: of the learning rate after the ramp; cosine ends at 0
    clip: float  #: largest norm of the gradient of all weights together
    ema_halflife_nimg: float  #: images seen until half of the average of weights is new
    ema_ramp: float  #: the half-life is at most this times the images seen so far
    precision: Literal["float32", "bfloat16"]  #: of the network's arithmetic; weights stay float32

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.batch > 0, "batch", self.batch, ">= 1")
        require(self.nimg >= self.batch and self.nimg % self.batch == 0, "nimg", self.nimg,
                f"a multiple of batch = {self.batch}")
        require(self.lr > 0, "lr", self.lr, "> 0")
        longest = math.inf if self.decay == "constant" else self.nimg  # the start of a longer training
        require(0 <= self.ramp_nimg <= longest, "ramp_nimg", self.ramp_nimg,
                "0 or more, and at most nimg if decay is cosine")
        require(self.clip > 0, "clip", self.clip, "> 0")
        require(self.ema_halflife_nimg > 0, "ema_halflife_nimg", self.ema_halflife_nimg, "> 0")
        require(0 < self.ema_ramp <= 1, "ema_ramp", self.ema_ramp, "(0, 1]")


@dataclass(frozen=True)
class NoiseSpec:
    """ln sigma ~ N(P_mean, P_std^2): the density of training noise levels.

    Bounded so that no level, nor its square, leaves the range of float32.
    """

    P_mean: float  #: mean of ln sigma
    P_std: float  #: standard deviation of ln sigma

    def __post_init__(self) -> None:
        require(-10 <= self.P_mean <= 10, "P_mean", self.P_mean, "[-10, 10], of ln sigma")
        require(0 < self.P_std <= 5, "P_std", self.P_std, "(0, 5], of ln sigma")


@dataclass(frozen=True)
class LossSpec:
    """The ambient objective's options (appendix C)."""

    weight: Literal["ambient", "none"]  #: lambda_amb of C.1, or 1
    weight_clip: float | None  #: upper bound of lambda_amb; None: none
    #: L of C.2: an image is used at sigma > sqrt(1 + 1/(L-1)) sigma_min; None: at sigma > sigma_min
    buffer: float | None
    sigma_tn: Literal["sigma_min", "zero"]  #: level of the fixed noise; zero: the released code's
    margin: float = later(0.0)  #: added to the level from which an image is used (text-to-image release)

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.buffer is None or self.buffer > 1, "buffer", self.buffer, "> 1, or null")
        require(self.margin >= 0, "margin", self.margin, ">= 0, in units of sigma")
        require(self.weight_clip is None or self.weight_clip >= 1, "weight_clip", self.weight_clip,
                ">= 1, or null")


@dataclass(frozen=True)
class TrainingSpec:
    """A diffusion model: network, loss, optimiser; `snapshots` are the images seen at each."""

    network: NetworkSpec  #: the U-Net
    augment: AugmentSpec  #: augmentation of the images
    optimiser: OptimiserSpec  #: length, batch and rate of the training
    noise: NoiseSpec  #: density of the noise levels
    loss: LossSpec  #: options of the ambient objective
    sigma_data: float  #: standard deviation of the data, of the preconditioning
    snapshots: tuple[int, ...]  #: images seen at each snapshot; the last is the end
    seed: int  #: of initial weights, batches and noise

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.sigma_data > 0, "sigma_data", self.sigma_data, "> 0")
        batch, last = self.optimiser.batch, self.optimiser.nimg
        rising = list(self.snapshots) == sorted(set(self.snapshots))
        require(bool(self.snapshots) and rising and self.snapshots[-1] == last
                and all(n > 0 and n % batch == 0 for n in self.snapshots), "snapshots",
                self.snapshots, f"rising multiples of batch = {batch}, the last one nimg = {last}")
