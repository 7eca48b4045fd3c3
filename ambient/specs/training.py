"""Specifications of what is trained, and how: network, augmentation, optimiser, noise levels, loss."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require, require_distinct, require_finite

WIDEST = 12**-0.5  # standard deviation of even weights over the whole training


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
    KNOWS: ClassVar[tuple[str, ...]] = ("classes", "augment")  # names of conditions that it takes
    TOLD: ClassVar[str] = "classes"  # the one of them that `conditional` means

    kind: str = later("unet", kw_only=True)  #: a file of `ambient/training/networks/`
    #: whether it is told what is in an image: class labels, or by `dit` captions
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

    def parameters(self, resolution: int, channels: int, classes: int, augment: bool) -> int | None:
        """How many weights the network has, where there are so many classes, and where it is told of
        augmentation: as many as the built one, to the last. The log-variance, which a training learns beside
        it, has 128 more. None: the kind does not say it, and tables leave it out."""
        return None


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
    """Adam or AdamW, a learning rate with a linear ramp, an average of the weights, and gradient clipping.

    The formulas are in `ambient/diffusion/schedules.py`.
    """

    nimg: int  #: images seen in all
    batch: int  #: images per step
    lr: float  #: learning rate after the ramp
    #: the learning rate grows linearly from 0 over so many images; constant: nimg may be fewer
    ramp_nimg: int
    #: of the learning rate: cosine from the ramp to the end, or 1/sqrt of the images seen after `decay_nimg`
    decay: Literal["constant", "cosine", "inverse_sqrt"]
    clip: float  #: largest norm of the gradient of all weights together; inf: any
    ema_halflife_nimg: float  #: images seen until half of the average of weights is new
    ema_ramp: float  #: the half-life is at most this times the images seen so far
    precision: Literal["float32", "bfloat16"]  #: of the network's arithmetic; weights stay float32
    algorithm: Literal["adam", "adamw"] = later("adam")  #: adamw takes `weight_decay` apart from the gradient
    weight_decay: float = later(0.0)  #: adamw: each step takes lr times this fraction off every weight
    betas: tuple[float, ...] = later((0.9, 0.999))  #: decay of the means of the gradient and of its square
    eps: float = later(1e-8)  #: added to the root of the mean square
    decay_to: float = later(0.0)  #: cosine: the fraction of lr at the end
    decay_nimg: int | None = later(None)  #: inverse_sqrt: images seen until the rate begins to fall
    #: widths of averages' weights as fractions of the training's length; samples are of the first average, or
    #: of one that is made of all of them; empty: one average, by the half-life
    ema_stds: tuple[float, ...] = later(())
    #: images seen until the average begins, as a copy of the weights; from there on by the half-life alone;
    #: null: from the first step, by `ema_ramp` too
    ema_start_nimg: int | None = later(None)
    #: of the averages that snapshots keep: float16 takes half the place, and an average of a narrow width
    #: that is made of them has many times its rounding
    snapshot_precision: Literal["float32", "float16"] = later("float32")

    def __post_init__(self) -> None:
        require_finite(self, "clip")
        self.check_rate()
        require(self.batch > 0, "batch", self.batch, ">= 1")
        require(self.nimg >= self.batch and self.nimg % self.batch == 0, "nimg", self.nimg,
                f"a positive multiple of batch = {self.batch}")
        longest = self.nimg if self.decay == "cosine" else math.inf  # the start of a longer training
        require(0 <= self.ramp_nimg <= longest, "ramp_nimg", self.ramp_nimg,
                "0 or more, and at most nimg if decay is cosine")
        require(self.clip > 0, "clip", self.clip, "> 0")
        require(self.ema_halflife_nimg > 0, "ema_halflife_nimg", self.ema_halflife_nimg, "> 0")
        require(0 < self.ema_ramp <= 1, "ema_ramp", self.ema_ramp, "(0, 1]")
        require(all(0 < std < WIDEST for std in self.ema_stds), "ema_stds", self.ema_stds,
                f"widths in (0, {WIDEST:.4f}), or none")
        require_distinct(self.ema_stds, "ema_stds")
        require(self.ema_start_nimg is None or (self.ema_start_nimg >= 0 and not self.ema_stds),
                "ema_start_nimg", self.ema_start_nimg, ">= 0 where ema_stds is empty, or null")

    def check_rate(self) -> None:
        """Refuse what the optimiser and its rate can't be."""
        require(self.lr > 0, "lr", self.lr, "> 0")
        require(self.weight_decay >= 0 and (self.weight_decay == 0 or self.algorithm == "adamw"),
                "weight_decay", self.weight_decay, ">= 0 for adamw, 0 for adam")
        require(len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "betas", self.betas,
                "two numbers in [0, 1)")
        require(self.eps > 0, "eps", self.eps, "> 0")
        require(0 <= self.decay_to < 1 and (self.decay_to == 0 or self.decay == "cosine"), "decay_to",
                self.decay_to, "[0, 1) if decay is cosine, else 0")
        falls = self.decay == "inverse_sqrt"
        require((self.decay_nimg or 0) > 0 if falls else self.decay_nimg is None, "decay_nimg",
                self.decay_nimg, "> 0 if decay is inverse_sqrt, else null")


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
    #: weigh noise levels by a log-variance u(sigma), learnt beside the network: loss / exp(u) + u (EDM2)
    uncertainty: bool = later(False)
    #: of an image's numbers: their sum (EDM), or their mean (MicroDiT), of which clipping of gradients knows
    reduction: Literal["sum", "mean"] = later("sum")

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.buffer is None or self.buffer > 1, "buffer", self.buffer, "> 1, or null")
        require(self.margin >= 0, "margin", self.margin, ">= 0, in units of sigma")
        require(self.weight_clip is None or self.weight_clip >= 1, "weight_clip", self.weight_clip,
                ">= 1, or null")


@dataclass(frozen=True)
class StartSpec:
    """The training that another one begins from: a phase before it."""

    nimg: int  #: its snapshot, images seen
    moments: bool  #: go on with its last weights and Adam's moments; false: begin with the averaged weights
    seen: int  #: images seen in all phases before; set by itself. Batches are drawn from there on

    def __post_init__(self) -> None:
        require(self.seen >= self.nimg > 0, "seen", self.seen, f"at least nimg = {self.nimg}, which is > 0")


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
    #: of latents: visit: each visit of an image draws its latent anew, so that x_tn of an image is no fixed
    #: point; fixed: each image has one latent
    posterior: Literal["visit", "fixed"] = later("visit")
    #: of a network that is told captions: the share of images that are told the null caption, at each visit
    caption_dropout: float = later(0.0)
    #: of a network that knows of patches: the share of them that a step leaves out, drawn at each visit
    mask: float = later(0.0)
    start: StartSpec | None = later(None)  #: what it begins from, {run: NAME}; null: from initial weights
    #: keep the last weights and Adam's moments beside the averages, for a phase that goes on with them
    keep_state: bool = later(False)

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.sigma_data > 0, "sigma_data", self.sigma_data, "> 0")
        require("augment" in self.network.KNOWS or not self.augment.transforms, "augment.transforms",
                self.augment.transforms, f"[]: network {self.network.kind} has no input for their labels, so "
                "samples would be augmented, too")
        require(self.caption_dropout == 0 or self.told_captions and 0 < self.caption_dropout < 1,
                "caption_dropout", self.caption_dropout, "[0, 1) for a network that is told captions, else 0")
        require(self.mask == 0 or "patches" in self.network.KNOWS and 0 < self.mask < 1, "mask", self.mask,
                "[0, 1) for a network that may leave patches out, else 0")
        batch, last = self.optimiser.batch, self.optimiser.nimg
        rising = list(self.snapshots) == sorted(set(self.snapshots))
        require(bool(self.snapshots) and rising and self.snapshots[-1] == last
                and all(n > 0 and n % batch == 0 for n in self.snapshots), "snapshots",
                self.snapshots, f"rising positive multiples of batch = {batch}, the last one nimg = {last}")

    def cost(self, resolution: int, channels: int) -> NetworkCost:
        """What a forward pass of one image costs in training, without the patches that a step leaves out."""
        left_out = {"mask": self.mask} if self.mask else {}
        return self.network.cost(resolution, channels, **left_out)

    @property
    def told_captions(self) -> bool:
        """Whether the network is told captions."""
        return self.network.conditional and self.network.TOLD == "text"

    @property
    def told_classes(self) -> bool:
        """Whether the network is told classes."""
        return self.network.conditional and self.network.TOLD == "classes"

    @property
    def seen(self) -> int:
        """Images seen in all phases before."""
        return 0 if self.start is None else self.start.seen


@dataclass(frozen=True)
class ReconstructionSpec:
    """The averages of a training's weights that have another width than those it kept."""

    ema_std: float  #: width of the average's weights as a fraction of the training's length until a snapshot
    snapshots: tuple[int, ...]  #: images seen at each snapshot that is made, of those of the training

    def __post_init__(self) -> None:
        require(0 < self.ema_std < WIDEST, "ema_std", self.ema_std, f"(0, {WIDEST:.4f})")
        require(bool(self.snapshots) and list(self.snapshots) == sorted(set(self.snapshots)), "snapshots",
                self.snapshots, "one or more snapshots of the training, rising")
