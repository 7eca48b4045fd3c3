"""Specifications: what each stage is told, as frozen dataclasses that refuse what can't be meant.

A stage receives one fully resolved specification as canonical JSON. Equal specifications mean equal
artefacts, so nothing here depends on the machine: ranks, threads and devices are not in it.
Standard library only, so that the workflow can validate everything without importing torch.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ambient.strict import require


@dataclass(frozen=True)
class DatasetSpec:
    """A prepared dataset. `source` says how the raw data are had; `path` where, if they are local.

    `procedural` images are made, not read: `num_images` of them (`ambient.procedural`).
    """

    source: Literal["mnist", "cifar10", "images", "procedural"]
    resolution: int  # pixels, height = width, after preparation
    channels: int  # 1 (grey) or 3 (RGB)
    path: str | None = None  # archive, EDM-format zip, or folder; None: the package or a download
    padding: int = 0  # pixels of the image's minimum added on each side before resizing
    max_images: int | None = None  # a subset of that size, drawn by id
    num_images: int | None = None  # the number that must be found before max_images applies
    sha256: str | None = None  # of the raw file or folder (files.sha256_of_raw), where it is pinned
    classes: tuple[int, ...] | None = None  # only the images of these classes
    about: str | None = None  # where the raw data come from, and on which terms

    def __post_init__(self) -> None:
        require(self.resolution >= 4, "resolution", self.resolution, ">= 4 pixels")
        require(self.channels in (1, 3), "channels", self.channels, "1 or 3")
        require(self.padding >= 0, "padding", self.padding, ">= 0 pixels")
        require(self.max_images is None or self.max_images > 0, "max_images", self.max_images, "> 0")
        require(self.source != "procedural" or (self.num_images or 0) > 0, "num_images", self.num_images,
                "> 0 for procedural images: how many are made")


@dataclass(frozen=True)
class MixtureSpec:
    """A dataset of which all but `clean_fraction` is corrupted.

    op None leaves the others out; op `add` puts the images of another dataset in their place.
    """

    clean_fraction: float  # in (0, 1]
    seed: int
    op: str | None = None  # a name in `ambient.corruptions.CORRUPTIONS`, or `add`
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 < self.clean_fraction <= 1, "clean_fraction", self.clean_fraction, "(0, 1]")


@dataclass(frozen=True)
class NetworkSpec:
    """DDPM++ U-Net, or its encoder half (Song et al. 2021; Karras et al. 2022)."""

    model_channels: int
    channel_mult: tuple[int, ...]
    num_blocks: int
    attn_resolutions: tuple[int, ...]
    dropout: float  # in [0, 1)
    conditional: bool = False  # class labels given to the network

    def __post_init__(self) -> None:
        require(len(self.channel_mult) > 0 and min(self.channel_mult) > 0, "channel_mult",
                self.channel_mult, "one or more factors >= 1")
        # Group norm has min(32, channels // 4) groups, also over two widths joined in the decoder.
        widest = 2 * max(self.channel_mult) * self.model_channels
        require(self.model_channels > 0 and (self.model_channels % 32 == 0 or (
            self.model_channels % 4 == 0 and widest <= 128)), "model_channels", self.model_channels,
            "a multiple of 32, or one of 4 where 2 max(channel_mult) model_channels <= 128")
        require(self.num_blocks > 0, "num_blocks", self.num_blocks, ">= 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "[0, 1)")


@dataclass(frozen=True)
class AugmentSpec:
    """Non-leaky augmentation; the applied transform is told to the network as 9 labels."""

    p: float  # probability of each transform, in [0, 1]
    transforms: tuple[str, ...]

    KNOWN: typing.ClassVar = ("xflip", "yflip", "scale", "rotate", "aniso", "translate")

    def __post_init__(self) -> None:
        require(0 <= self.p <= 1, "p", self.p, "[0, 1]")
        unknown = [name for name in self.transforms if name not in self.KNOWN]
        require(not unknown, "transforms", unknown, ", ".join(self.KNOWN))


@dataclass(frozen=True)
class OptimiserSpec:
    """Adam with a linear ramp of the learning rate, an EMA of the weights, and gradient clipping."""

    nimg: int  # images seen in all
    batch: int  # images per step
    lr: float
    ramp_nimg: int  # the learning rate grows linearly from 0 over so many images
    decay: Literal["constant", "cosine"]  # after the ramp; cosine ends at 0
    clip: float  # global gradient norm
    ema_halflife_nimg: float
    ema_ramp: float  # half-life <= ema_ramp * images seen
    precision: Literal["float32", "bfloat16"]  # of the network's arithmetic; weights stay float32

    def __post_init__(self) -> None:
        require(self.batch > 0, "batch", self.batch, ">= 1")
        require(self.nimg >= self.batch and self.nimg % self.batch == 0, "nimg", self.nimg,
                f"a multiple of batch = {self.batch}")
        require(self.lr > 0, "lr", self.lr, "> 0")
        require(0 <= self.ramp_nimg <= self.nimg, "ramp_nimg", self.ramp_nimg, "[0, nimg]")
        require(self.clip > 0, "clip", self.clip, "> 0")
        require(self.ema_halflife_nimg > 0, "ema_halflife_nimg", self.ema_halflife_nimg, "> 0")
        require(0 < self.ema_ramp <= 1, "ema_ramp", self.ema_ramp, "(0, 1]")


@dataclass(frozen=True)
class NoiseSpec:
    """ln sigma ~ N(P_mean, P_std^2): the density of training noise levels."""

    P_mean: float
    P_std: float

    def __post_init__(self) -> None:
        require(self.P_std > 0, "P_std", self.P_std, "> 0")


NUISANCES = ("channels", "negate", "brightness", "contrast", "transpose")  # see ambient.nuisances


@dataclass(frozen=True)
class ClassifierSpec:
    """Noise classifier of equation 3.1; with `crop` the crops classifier of section 3.2.

    protocol: `strict` reads the run's own mixture; `leaky` reads one with its own `clean_fraction`,
    in which images appear clean that the run may only see corrupted (the released protocol).
    """

    network: NetworkSpec
    augment: AugmentSpec
    optimiser: OptimiserSpec
    noise: NoiseSpec
    protocol: Literal["strict", "leaky"]
    clean_fraction: float | None  # leaky: of the classifier's mixture; strict: None
    sampling: Literal["balanced", "unbalanced"]
    holdout: float  # fraction of the clean, and of the corrupted, images kept out of training
    evaluations: int  # held-out evaluations over training; the best one is kept
    select: Literal["best", "last"]
    recalibrate: Literal["none", "bias"]  # shift the logit at each sigma to fit the held-out images
    seed: int
    crop: int | None = None  # side in pixels of the square that it sees of each image; None: all of it
    nuisances: tuple[str, ...] = ()  # changes that it must not go by, made to every training image

    def __post_init__(self) -> None:
        unknown = [name for name in self.nuisances if name not in NUISANCES]
        require(not unknown, "nuisances", unknown, ", ".join(NUISANCES))
        require((self.clean_fraction is not None) == (self.protocol == "leaky"), "clean_fraction",
                self.clean_fraction, "a fraction if protocol is leaky, else null")
        require(self.clean_fraction is None or 0 < self.clean_fraction <= 1, "clean_fraction",
                self.clean_fraction, "(0, 1]")
        require(0 < self.holdout < 1, "holdout", self.holdout, "(0, 1)")
        require(self.evaluations > 0, "evaluations", self.evaluations, ">= 1")
        require(self.crop is None or self.crop > 0, "crop", self.crop, ">= 1 pixel, or null")


@dataclass(frozen=True)
class AnnotationSpec:
    """How each corrupted (or other) sample gets its sigma_min and sigma_max (clean samples: 0, 0).

    method: `clean` never uses them (sigma_min = inf); `fixed` gives all the values `sigma_min` and
    `sigma_max`; `population` gives all the crossing of the mean (equation 3.2); `per_sample` gives each
    its own; `crops` gives each its sigma_max (section 3.2) and sigma_min = inf.
    """

    method: Literal["clean", "fixed", "population", "per_sample", "crops"]
    sigma_min: float | None  # method fixed
    epsilon: float  # threshold tau = 0.5 - epsilon on P(clean)
    num_sigmas: int  # noise levels at which the classifier is asked
    grid: Literal["lognormal", "geometric"]  # drawn from `noise` and sorted, or evenly in ln sigma
    noise: NoiseSpec  # of the lognormal grid
    sigma_low: float  # ends of the geometric grid
    sigma_high: float
    num_trials: int  # noise draws per level
    smoothing_span: int  # dense: exponential smoothing along sigma, weight 2 / (span + 1); 1: none
    never_crosses: Literal["last", "exclude"]  # the largest level, or infinity
    precision: Literal["float32", "bfloat16"]
    seed: int
    sigma_max: float = 0.0  # method fixed
    crop_map: Literal["measured", "released"] = "measured"  # context size -> sigma_max
    crop_threshold: float = 0.25  # on the mean P(target) of an image's patches (released: 0.25)
    crop_sigma: float = 0.001  # level that the crops classifier is told; the patches are not noised
    protocol: Literal["dense", "shared_noise"] = "dense"  # see ambient.trajectories
    bandwidth: float = 0.25  # shared_noise: smoothing of an image's difference from the mean, in ln sigma
    reference_draws: int = 512  # shared_noise: (image, noise) pairs a level, for the mean over images

    def __post_init__(self) -> None:
        require(self.sigma_max >= 0 and (self.sigma_max == 0 or self.method == "fixed"), "sigma_max",
                self.sigma_max, ">= 0, and 0 unless method is fixed")
        require(0 < self.crop_threshold < 1, "crop_threshold", self.crop_threshold, "(0, 1)")
        require(self.crop_sigma > 0, "crop_sigma", self.crop_sigma, "> 0")
        require((self.sigma_min is not None) == (self.method == "fixed"), "sigma_min", self.sigma_min,
                "a number if method is fixed, else null")
        require(self.sigma_min is None or self.sigma_min >= 0, "sigma_min", self.sigma_min, ">= 0")
        require(0 < self.sigma_low < self.sigma_high, "sigma_low", self.sigma_low,
                f"between 0 and sigma_high = {self.sigma_high}")
        require(0 <= self.epsilon < 0.5, "epsilon", self.epsilon, "[0, 0.5)")
        require(self.bandwidth >= 0, "bandwidth", self.bandwidth, ">= 0, in units of ln sigma")
        if self.protocol == "shared_noise":
            require(self.grid == "geometric", "grid", self.grid, "geometric if protocol is shared_noise")
            require(self.num_trials % 2 == 0, "num_trials", self.num_trials,
                    "even if protocol is shared_noise: the noises come in pairs z and -z")
        for key in ("num_sigmas", "num_trials", "smoothing_span", "reference_draws"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")


@dataclass(frozen=True)
class CombineSpec:
    """Several mixtures with their annotations as one: the parts' names, `corruption/annotation`."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class LocalitySpec:
    """crop(sigma): the context a trained denoiser needs (Figures 16 to 19).

    The loss is measured on the centre patch while the denoiser sees a square of each context's side.
    """

    nimg: int | None  # snapshot; None: the last one
    contexts: tuple[int, ...]  # pixels, rising; the whole image is always added
    patch: int  # side of the centre patch, pixels
    tolerance: float  # crop(sigma): the least context whose loss is within so much of the whole image's
    sigma_low: float
    sigma_high: float
    num_sigmas: int
    num_images: int
    seed: int

    def __post_init__(self) -> None:
        require(list(self.contexts) == sorted(set(self.contexts)) and len(self.contexts) > 0
                and self.contexts[0] >= self.patch, "contexts", self.contexts,
                f"rising sizes, none below patch = {self.patch}")
        require(self.tolerance > 0, "tolerance", self.tolerance, "> 0")
        require(0 < self.sigma_low < self.sigma_high, "sigma_low", self.sigma_low,
                f"between 0 and sigma_high = {self.sigma_high}")
        for key in ("patch", "num_sigmas", "num_images"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")


@dataclass(frozen=True)
class LossSpec:
    """The ambient objective's options (appendix C)."""

    weight: Literal["ambient", "none"]  # lambda_amb of C.1, or 1
    weight_clip: float | None  # upper bound of lambda_amb
    buffer: float | None  # L of C.2: train at sigma > sqrt(1 + 1/(L-1)) sigma_min; None: sigma_min
    sigma_tn: Literal["sigma_min", "zero"]  # level of the fixed noise; zero: the released code's

    def __post_init__(self) -> None:
        require(self.buffer is None or self.buffer > 1, "buffer", self.buffer, "> 1, or null")
        require(self.weight_clip is None or self.weight_clip >= 1, "weight_clip", self.weight_clip,
                ">= 1, or null")


@dataclass(frozen=True)
class TrainingSpec:
    """A diffusion model: network, loss, optimiser; `snapshots` are the images seen at each."""

    network: NetworkSpec
    augment: AugmentSpec
    optimiser: OptimiserSpec
    noise: NoiseSpec
    loss: LossSpec
    sigma_data: float
    snapshots: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        require(self.sigma_data > 0, "sigma_data", self.sigma_data, "> 0")
        batch, last = self.optimiser.batch, self.optimiser.nimg
        rising = list(self.snapshots) == sorted(set(self.snapshots))
        require(bool(self.snapshots) and rising and self.snapshots[-1] == last
                and all(n > 0 and n % batch == 0 for n in self.snapshots), "snapshots",
                self.snapshots, f"rising multiples of batch = {batch}, the last one nimg = {last}")


@dataclass(frozen=True)
class SamplerSpec:
    """Heun sampler with optional churn (Karras et al. 2022, algorithm 2)."""

    num_steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    S_churn: float = 0.0
    S_min: float = 0.0
    S_max: float = math.inf
    S_noise: float = 1.0

    def __post_init__(self) -> None:
        require(self.num_steps >= 2, "num_steps", self.num_steps, ">= 2")
        require(0 < self.sigma_min < self.sigma_max, "sigma_min", self.sigma_min,
                f"between 0 and sigma_max = {self.sigma_max}")


@dataclass(frozen=True)
class SamplingSpec:
    """`num_samples` images for each sampling seed; sample k of seed s is drawn from key (s, k)."""

    sampler: SamplerSpec
    num_samples: int
    seeds: tuple[int, ...]
    precision: Literal["float32", "bfloat16"]

    def __post_init__(self) -> None:
        require(self.num_samples > 0, "num_samples", self.num_samples, ">= 1")
        require(len(set(self.seeds)) == len(self.seeds) > 0, "seeds", self.seeds, "distinct integers")


@dataclass(frozen=True)
class DetectorSpec:
    """Features in which distances are measured.

    kind `inception`: clean-fid's Inception-v3 (the metric is then called `fid`); `classifier`: a
    small class classifier trained in the workflow on the clean dataset (`fd-<name>`).
    """

    kind: Literal["inception", "classifier"]
    weights: str | None = None  # inception: a local file, else clean-fid's download
    sha256: str | None = None  # of that file
    features: int = 2048
    channels: int = 0  # classifier: width of the first block
    nimg: int = 0
    batch: int = 0
    lr: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind == "classifier":
            for key in ("channels", "nimg", "batch", "lr"):
                require(getattr(self, key) > 0, key, getattr(self, key), "> 0 for kind classifier")


@dataclass(frozen=True)
class EvaluationSpec:
    """How a run's samples are scored; `seeds` are the sampling seeds, in the samples' order."""

    metric: str  # `fid`, or `fd-<detector>`
    detector: DetectorSpec
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        require((self.metric == "fid") == (self.detector.kind == "inception"), "metric", self.metric,
                "fid for Inception features, and only for those")


@dataclass(frozen=True)
class RowSpec:
    """A row of a table: its keys, the run behind it, and what the paper prints."""

    run: str
    run_id: str  # of the run's folder, below the scale's
    method: str
    corruption: str | None
    parameters: Mapping[str, Any]  # of the corruption
    paper: Mapping[str, float]  # published metric, and mean sigma_min where it is printed
    annotated: bool  # by a noise classifier
    id: str | None = None  # of a number that the paper gives in running text
    dataset: str | None = None  # of the target distribution, where a table holds several
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # in which runs differ otherwise
    note: str | None = None  # what the paper says of this number elsewhere


@dataclass(frozen=True)
class TableSpec:
    """A table: its rows in the paper's order; every run is trained with each of `training_seeds`."""

    name: str
    scale: str
    rows: tuple[RowSpec, ...]
    training_seeds: tuple[int, ...]


@dataclass(frozen=True)
class TheorySpec:
    """Section 4 in one dimension. `pairs`: name -> {clean, other}, each a list of [knot, height]."""

    pairs: Mapping[str, Any]
    n_clean: int  # n1
    n_other: int  # n2
    trials: int  # Monte-Carlo draws of the samples
    delta: float  # the bounds hold with probability 1 - delta; also the quantiles reported
    epsilon: float  # tau = 0.5 - epsilon of the classifiers
    sigma_low: float
    sigma_high: float
    num_sigmas: int
    contraction_pairs: int  # random pairs of Theorem 4.2
    classifier_width: int
    classifier_batch: int
    classifier_steps: int
    seed: int

    def __post_init__(self) -> None:
        require(0 < self.delta < 0.5, "delta", self.delta, "(0, 0.5)")
        require(0 < self.epsilon < 0.5, "epsilon", self.epsilon, "(0, 0.5)")
        require(0.005 <= self.sigma_low < self.sigma_high, "sigma_low", self.sigma_low,
                f"0.005 to sigma_high = {self.sigma_high}")
        for key in ("n_clean", "n_other", "trials", "num_sigmas", "contraction_pairs",
                    "classifier_width", "classifier_batch", "classifier_steps"):
            require(getattr(self, key) > 1, key, getattr(self, key), ">= 2")
        for name, pair in self.pairs.items():
            require(isinstance(pair, Mapping) and set(pair) == {"clean", "other"}, f"pairs.{name}", pair,
                    "the keys clean and other, each a list of [knot, height]")


@dataclass(frozen=True)
class FigureSpec:
    """A figure that belongs to no table, with what its kind needs.

    gallery: the same images under each of `corruptions`. batch: images and the same noised, as in
    training. crossing: P(clean) against sigma with the noised images. levels: sigma_min of each of
    `corruptions` beside its images. patches: P(target) of each patch. donut: usable samples against
    sigma. locality: loss against context, and context against sigma.
    """

    kind: Literal["gallery", "batch", "crossing", "levels", "patches", "donut", "locality"]
    names: tuple[str, ...]  # of the corruptions, or of the donut's parts
    corruptions: tuple[MixtureSpec, ...]
    noise: NoiseSpec  # training density: of the batch, and of the donut's axis
    epsilon: float  # tau = 0.5 - epsilon
    buffer: float | None
    crop_sigma: float
    images: int  # pictures in a row
    seed: int

    def __post_init__(self) -> None:
        require(self.images > 0, "images", self.images, ">= 1")


CORRUPTION_FIGURES = ("gallery", "batch", "crossing", "levels")


@dataclass(frozen=True)
class SummarySpec:
    """Every published number of a scale's tables, ours beside the paper's."""

    tables: tuple[TableSpec, ...]
