"""Specifications of what finds sigma_min and sigma_max: classifiers, annotation, crop(sigma)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require, require_distinct, require_finite
from ambient.specs.training import AugmentSpec, NetworkSpec, NoiseSpec, OptimiserSpec

# How a noise classifier is asked, and how classifiers of crops are, in `AnnotationSpec`.
OF_NOISE = ("epsilon", "num_sigmas", "grid", "noise", "sigma_low", "sigma_high", "num_trials",
            "smoothing_span", "never_crosses", "protocol", "bandwidth", "reference_draws")
OF_CROPS = ("crop_threshold", "crop_sigma")
NUISANCES = ("channels", "negate", "brightness", "contrast", "transpose")  # see ambient.annotation.nuisances


@dataclass(frozen=True)
class ClassifierSpec:
    """Noise classifier of equation 3.1; with `crop` the crops classifier of section 3.2.

    protocol: `strict` reads the run's own mixture; `leaky` reads one with its own `clean_fraction`,
    in which images appear clean that the run may only see corrupted (the released protocol).
    """

    LEVELS: ClassVar[int] = 17  # noise levels of an evaluation on held-out images
    DRAWS: ClassVar[int] = 512  # (image, noise) pairs of each class and level, at most

    network: NetworkSpec  #: of whose encoder half it is made
    augment: AugmentSpec  #: augmentation of its training images
    optimiser: OptimiserSpec  #: length, batch and rate of its training
    noise: NoiseSpec  #: density of the noise levels that it is trained at
    protocol: Literal["strict", "leaky"]  #: `strict`: it reads the run's own mixture; `leaky`: one of its own
    clean_fraction: float | None  #: leaky: the clean fraction of the classifier's own mixture; strict: None
    #: balanced: as many clean as corrupted images in a batch; unbalanced: as they come
    sampling: Literal["balanced", "unbalanced"]
    holdout: float  #: fraction of the clean, and of the corrupted, images that are kept out of training
    evaluations: int  #: evaluations on held-out images over the training
    select: Literal["best", "last"]  #: the snapshot that is kept: best on held-out images, or the last one
    recalibrate: Literal["none", "bias"]  #: bias: shift the logit at each sigma to fit the held-out images
    seed: int  #: of initial weights, batches and noise
    crop: int | None = None  #: side, pixels, of the square that it sees of each image; None: the whole image
    #: changes that it must not go by, made to every training image (`ambient.annotation.nuisances`)
    nuisances: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(self.network.ENCODES, "network.kind", self.network.kind, "one with an encoder half: "
                + ", ".join(name for name, kind in NetworkSpec.KINDS.items() if kind.Spec.ENCODES))
        require(not self.network.conditional, "network.conditional", True,
                "false: a classifier is told no classes")
        require(self.optimiser.snapshot_precision == "float32", "optimiser.snapshot_precision",
                self.optimiser.snapshot_precision, "float32: a classifier keeps no snapshots")
        require(len(self.optimiser.ema_stds) < 2, "optimiser.ema_stds", self.optimiser.ema_stds,
                "one width, or none: a classifier has one average")
        unknown = [name for name in self.nuisances if name not in NUISANCES]
        require(not unknown, "nuisances", unknown, ", ".join(NUISANCES))
        require_distinct(self.nuisances, "nuisances")
        require((self.clean_fraction is not None) == (self.protocol == "leaky"), "clean_fraction",
                self.clean_fraction, "a fraction if protocol is leaky, else null")
        require(self.clean_fraction is None or 0 < self.clean_fraction <= 1, "clean_fraction",
                self.clean_fraction, "(0, 1]")
        require(self.sampling != "balanced" or self.optimiser.batch % 2 == 0, "optimiser.batch",
                self.optimiser.batch, "an even number: sampling is balanced, half of a batch is clean")
        require(0 < self.holdout < 1, "holdout", self.holdout, "(0, 1)")
        require(self.evaluations > 0, "evaluations", self.evaluations, ">= 1")
        require(self.crop is None or self.crop > 0, "crop", self.crop, ">= 1 pixel, or null")

    def held_out_draws(self, images: int) -> tuple[int, int]:
        """(images that are asked, noise draws of each) at a level, of so many held-out images of a class."""
        asked = min(images, self.DRAWS)
        return asked, max(1, min(16, self.DRAWS // asked))

    def words(self) -> str:
        """The protocol in a table's words: which images it saw, and how batches were drawn from them."""
        drawn = "balanced" if self.sampling == "balanced" else "uniform"
        shown = f" (clean fraction {self.clean_fraction:g})" if self.protocol == "leaky" else ""
        return f"{self.protocol} {drawn}{shown}"


@dataclass(frozen=True)
class AnnotationSpec(OfKinds):
    """How each corrupted (or other) sample gets its sigma_min and sigma_max (clean samples: 0, 0).

    This is what is told of it, whatever the method; a method says which of it is used.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.annotation.methods", tag="method")
    ASKS: ClassVar[Literal["noise", "crops"] | None] = None  # a noise classifier, classifiers of crops
    GIVEN: ClassVar[bool] = False  # sigma_min and sigma_max are settings
    BY_SOURCE: ClassVar[bool] = False  # sigma_min is that of the added dataset's entry
    SCORED: ClassVar[bool] = False  # it reads scores of the study's images, by `scorer`
    OF_MEAN: ClassVar[bool] = False  # one sigma_min for all, of the mean of their curves

    #: a file of `ambient/annotation/methods/`: `clean`, `fixed`, `population`, `per_sample`, `crops`,
    #: `by_quality`, `by_source`
    method: str
    #: methods fixed and by_quality: the value that all get; by_source: set by itself; else null
    sigma_min: float | None
    epsilon: float  #: threshold tau = 0.5 - epsilon on P(clean)
    num_sigmas: int  #: noise levels at which the classifier is asked
    #: levels drawn from `noise` and sorted, or evenly spaced in ln sigma
    grid: Literal["lognormal", "geometric"]
    noise: NoiseSpec  #: density of the lognormal grid
    sigma_low: float  #: lowest level of the geometric grid
    sigma_high: float  #: highest level of the geometric grid
    num_trials: int  #: noise draws for each level and image
    smoothing_span: int  #: dense: exponential smoothing along sigma with weight 2 / (span + 1); 1: none
    #: sigma_min of an image that never passes tau: the largest level, or infinity
    never_crosses: Literal["last", "exclude"]
    precision: Literal["float32", "bfloat16"]  #: of the classifier's arithmetic
    seed: int  #: of the noise draws
    sigma_max: float = 0.0  #: method fixed: the value that all get
    #: from context size to sigma_max: measured by the study's own denoiser, the released one, or (by_quality)
    #: given
    crop_map: Literal["measured", "released", "given"] = "measured"
    crop_threshold: float = 0.25  #: on the mean P(target) of an image's patches (the released value is 0.25)
    #: level that the crops classifier is told; the patches themselves are not noised
    crop_sigma: float = 0.001
    protocol: Literal["dense", "shared_noise"] = "dense"  #: see `ambient.annotation.trajectories`
    bandwidth: float = 0.25  #: shared_noise: smoothing of an image's difference from the mean, in ln sigma
    reference_draws: int = 512  #: shared_noise: (image, noise) pairs for each level, for the mean over images
    network: str = later("unet")  #: the classifiers' kind of network, whose code the job is of; set by itself

    def __post_init__(self) -> None:
        require_finite(self, "sigma_min")
        require(self.sigma_max >= 0 and (self.sigma_max == 0 or self.GIVEN), "sigma_max",
                self.sigma_max, ">= 0, and 0 unless the method takes it, as fixed does")
        require(0 < self.crop_threshold < 1, "crop_threshold", self.crop_threshold, "(0, 1)")
        require(self.crop_sigma > 0, "crop_sigma", self.crop_sigma, "> 0")
        require((self.sigma_min is not None) == self.GIVEN, "sigma_min", self.sigma_min,
                f"{'a number' if self.GIVEN else 'null'} for method {self.method}")
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

    def reads_locality(self) -> bool:
        """Whether it takes the study's measured crop(sigma)."""
        return False

    def unread(self) -> tuple[str, ...]:
        """The settings that it does not read: how classifiers are asked that it does not ask.

        A study's section has them for all methods. In an entry of `annotations` they are refused.
        """
        found = () if self.ASKS == "noise" else OF_NOISE
        found += () if self.ASKS == "crops" else OF_CROPS
        found += () if self.ASKS else ("precision",)
        return (*found, "sigma_min") if self.BY_SOURCE else found


@dataclass(frozen=True)
class LocalitySpec:
    """crop(sigma): the context a trained denoiser needs (Figures 16 to 19).

    The loss is measured on the centre patch while the denoiser sees a square of each context's side.
    """

    nimg: int | None  #: the snapshot, images seen; None: the last one
    contexts: tuple[int, ...]  #: sides, pixels, rising; the whole image is always added
    patch: int  #: side of the centre patch, pixels
    tolerance: float  #: crop(sigma) is the least context whose loss exceeds the whole image's by at most this
    sigma_low: float  #: lowest noise level
    sigma_high: float  #: highest noise level
    num_sigmas: int  #: levels, evenly spaced in ln sigma
    num_images: int  #: images that the loss is averaged over
    seed: int  #: of the choice of images and of the noise
    relative_tolerance: float | None = None  #: and by at most this fraction of it; None: `tolerance` alone
    network: str = later("unet")  #: the run's kind of network, whose code the job is of; set by itself

    def __post_init__(self) -> None:
        require_finite(self)
        require(list(self.contexts) == sorted(set(self.contexts)) and len(self.contexts) > 0
                and self.contexts[0] >= self.patch, "contexts", self.contexts,
                f"rising sizes, none below patch = {self.patch}")
        require(self.tolerance > 0, "tolerance", self.tolerance, "> 0")
        require(self.relative_tolerance is None or 0 < self.relative_tolerance < 1, "relative_tolerance",
                self.relative_tolerance, "(0, 1), or null")
        require(0 < self.sigma_low < self.sigma_high, "sigma_low", self.sigma_low,
                f"between 0 and sigma_high = {self.sigma_high}")
        for key in ("patch", "num_sigmas", "num_images"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")


@dataclass(frozen=True)
class PatchMapsSpec:
    """What classifiers of crops say of each patch of a few images (Figures 6 and 20 to 24)."""

    shown: Literal["other", "target"]  #: whose images: the other dataset's, or the target's
    images: int  #: how many
    crop_sigma: float  #: level that the classifiers are told
    seed: int  #: of the choice of images
    network: str = later("unet")  #: the classifiers' kind of network, whose code the job is of; set by itself

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.images > 0, "images", self.images, ">= 1")
        require(self.crop_sigma > 0, "crop_sigma", self.crop_sigma, "> 0")
