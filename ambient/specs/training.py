"""Specifications of what is trained, and how: network, augmentation, optimiser, noise levels, loss."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require, require_distinct, require_finite


class NetworkCost(NamedTuple):
    """What one forward pass of one image costs."""

    multiply_adds: int
    parameters: int  # of convolutions and linear layers
    features: int  # numbers in all feature maps


@dataclass(frozen=True)
class NetworkSpec(OfKinds):
    """The raw network F(x, c_noise): what is asked of its settings, whatever its kind.

    A kind is a file of `ambient/training/networks/`, with settings of its own.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.training.networks")
    ENCODES: ClassVar[bool] = False  # it has an encoder half, which noise classifiers are made of

    kind: str = later("unet", kw_only=True)  #: a file of `ambient/training/networks/`
    #: whether class labels are given to the network
    conditional: bool = dataclasses.field(default=False, kw_only=True)

    @property
    def step(self) -> int:
        """Sides of images are multiples of this, in pixels."""
        return 1

    def check(self, resolution: int) -> None:
        """Raise `SpecError` where it can't take square images of so many pixels."""
        require(resolution % self.step == 0, "kind", self.kind,
                f"one for images of {resolution} pixels; this one takes multiples of {self.step}")

    def cost(self, resolution: int, channels: int, encoder_only: bool = False) -> NetworkCost:
        """What a forward pass costs; of the encoder half alone where `encoder_only`."""
        raise NotImplementedError


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

    network: NetworkSpec  #: the network that is trained
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
