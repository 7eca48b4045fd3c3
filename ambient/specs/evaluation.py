"""Specifications of samples and their scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.scores import BestSpec
from ambient.specs.strict import later, require, require_finite, require_seeds, require_unread
from ambient.specs.training import WIDEST

LEARNING = ("channels", "nimg", "batch", "lr", "seed", "members")  # settings of detectors that learn
OUTSIDE = ("weights", "sha256")  # settings of those whose weights come from outside


@dataclass(frozen=True)
class SamplerSpec:
    """Heun sampler with optional churn (Karras et al. 2022, algorithm 2)."""

    num_steps: int  #: noise levels; a sample takes 2 num_steps - 1 evaluations
    sigma_min: float  #: the last level before 0
    sigma_max: float  #: the first level
    rho: float  #: spacing of the levels: larger puts more of them at low noise
    S_churn: float = 0.0  #: amount of noise added again over all steps; 0: deterministic
    S_min: float = 0.0  #: churn at levels from here
    S_max: float = math.inf  #: to here
    S_noise: float = 1.0  #: factor of the added noise
    #: keys: latent and class of sample k of seed s are functions of (s, k). generators: those of EDM2's image
    #: s + k, by a generator of torch for each image
    draws: Literal["keys", "generators"] = later("keys")

    def __post_init__(self) -> None:
        require_finite(self, "S_max")
        require(self.num_steps >= 2, "num_steps", self.num_steps, ">= 2")
        require(0 < self.sigma_min < self.sigma_max, "sigma_min", self.sigma_min,
                f"between 0 and sigma_max = {self.sigma_max}")
        # 80^(1 / 0.1) is 1e19 still; beyond 100 the levels are evenly spaced in ln sigma but for rounding.
        require(0.1 <= self.rho <= 100, "rho", self.rho, "[0.1, 100]")
        # Beyond e^29 float64 has no place for the root of sigma_min beside that of sigma_max.
        least = (math.log(self.sigma_max) - math.log(self.sigma_min)) / 29
        require(self.rho >= least, "rho", self.rho, f"at least {math.ceil(100 * least) / 100}, or rounding "
                f"loses sigma_min = {self.sigma_min} beside sigma_max = {self.sigma_max}")
        require(self.S_churn >= 0, "S_churn", self.S_churn, ">= 0; 0 is the deterministic sampler")
        require(self.S_noise >= 0, "S_noise", self.S_noise, ">= 0")
        require(0 <= self.S_min <= self.S_max, "S_min", self.S_min, f"between 0 and S_max = {self.S_max}")
        if self.S_churn == 0:
            require_unread(self, ("S_min", "S_max", "S_noise"), "the sampler without churn (S_churn: 0)")
        require(self.draws == "keys" or self.S_churn == 0, "draws", self.draws, "keys if S_churn is above 0")


@dataclass(frozen=True)
class GuideSpec:
    """The denoiser that guides another one: which weights of a run's training it has."""

    network: str  #: the guide's kind of network, whose code the job is of; set by itself
    nimg: int | None = None  #: the snapshot, images seen; null: the last one
    ema_std: float | None = None  #: width of the average of weights; null: the first that the training kept
    #: false: the guide is the denoiser itself, told the null caption (classifier-free guidance)
    told: bool = later(True)

    def __post_init__(self) -> None:
        require_width(self.ema_std)
        require(self.told or self.nimg is self.ema_std is None, "told", self.told,
                "true where nimg or ema_std are given: a guide that is told nothing is the denoiser itself")


def require_width(ema_std: float | None) -> None:
    """Raise `SpecError` for a width that no average by a power function has."""
    require(ema_std is None or 0 < ema_std < WIDEST, "ema_std", ema_std, f"(0, {WIDEST:.4f}), or null")


@dataclass(frozen=True)
class SamplingSpec:
    """`num_samples` images for each sampling seed; sample k of seed s is drawn from key (s, k).

    With `guidance` g > 1 they are drawn by D = D_guide + g (D_main - D_guide), two evaluations of networks at
    each step of the sampler in the place of one.
    """

    sampler: SamplerSpec  #: levels and churn
    num_samples: int  #: images for each sampling seed
    seeds: tuple[int, ...]  #: sampling seeds
    precision: Literal["float32", "bfloat16"]  #: of the network's arithmetic; the sampler's steps are float64
    #: how many of the seeds snapshots before the last get; None: all; 0: the last one alone is sampled
    earlier_seeds: int | None = None
    network: str = later("unet")  #: the run's kind of network, whose code the job is of; set by itself
    encoder: str | None = later(None)  #: the same of its study's encoder, which decodes; null: pixels
    #: width of the average of weights that is sampled, made of those that the training kept; null: its first
    ema_std: float | None = later(None)
    guidance: float = later(1.0)  #: g; 1: without a guide
    guide: GuideSpec | None = later(None)  #: what guides; null at guidance 1
    #: name in `datasets`: sample k of each seed is of the caption of its image k // `captions_each`, counted
    #: from the first again after the last
    captions: str | None = later(None)
    captions_each: int = later(1)  #: samples of each caption, one after the other
    #: a detector of the study, by whose distances of the first `earlier_seeds` seeds the best snapshot is
    #: found, which gets all seeds; null: the last alone has them
    best_by: DetectorSpec | None = later(None)

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.guidance >= 1, "guidance", self.guidance, ">= 1; less would lead to the guide")
        require(self.guidance == 1 or self.guide is not None, "guide", self.guide,
                f"the run that guides, {{run: NAME}}, or {{told: false}}, at guidance {self.guidance:g}")
        require(self.guidance > 1 or self.guide is None, "guide", self.guide, "null at guidance 1")
        require(self.num_samples > 1, "num_samples", self.num_samples, ">= 2: one has no covariance")
        require_seeds(self.seeds, "seeds")
        require(self.earlier_seeds is None or 0 <= self.earlier_seeds <= len(self.seeds), "earlier_seeds",
                self.earlier_seeds, f"0 to {len(self.seeds)}, or null for all")
        few, every = len(self.seeds_at(last=False)), len(self.seeds)
        require(self.best_by is None or 0 < few < every, "best_by", self.best_by and self.best_by.kind,
                f"null where earlier_seeds gives snapshots before the last {few or 'none'} of {every} seeds: "
                "one or more find the best, which gets the others")
        require_width(self.ema_std)
        if self.sampler.draws == "generators":
            numbers = sorted(seed % 2**32 for seed in self.seeds)
            gaps = [b - a for a, b in pairwise([*numbers, numbers[0] + 2**32])]
            require(min(gaps) >= self.num_samples, "seeds", self.seeds, f"{self.num_samples} or more apart, "
                    "modulo 2^32, since draws: generators counts samples from them")
        require(self.captions_each == 1 or self.captions is not None and self.captions_each > 1,
                "captions_each", self.captions_each, ">= 1, and 1 where captions is null")

    @property
    def guided_by_another(self) -> bool:
        """Whether the guide has weights of its own."""
        return self.guide is not None and self.guide.told

    @property
    def nfe(self) -> int:
        """Evaluations of the main network for a sample: 2 num_steps - 1."""
        return 2 * self.sampler.num_steps - 1

    @property
    def guide_nfe(self) -> int:
        """Evaluations of the guide for a sample: as many, or none."""
        return 0 if self.guide is None else self.nfe

    def seeds_at(self, last: bool) -> tuple[int, ...]:
        """The sampling seeds of the last snapshot, or of an earlier one that is not known for the best."""
        return self.seeds if last else self.seeds[:self.earlier_seeds]

    def looked_at(self, snapshots: int) -> int:
        """How many images the best of so many snapshots is found by."""
        return self.num_samples * len(self.seeds_at(last=False)) * snapshots if self.best_by else 0

    def images(self, snapshots: int) -> int:
        """How many images are drawn from a model of so many snapshots: at the most, where it has a best one
        before the last."""
        earlier = len(self.seeds_at(last=False))
        further = len(self.seeds) - earlier if self.best_by and snapshots > 1 else 0
        return self.num_samples * (len(self.seeds) + (snapshots - 1) * earlier + further)


@dataclass(frozen=True)
class PublishedSpec:
    """Moments of a dataset that others published, in the place of those that the workflow would measure."""

    dataset: str  #: the dataset that they are of
    entry: str  #: the name of these features in the file: `fid` or `fd_dinov2`
    path: str | None = None  #: of the file
    sha256: str | None = None  #: of the file; any other content is refused


@dataclass(frozen=True)
class AgainstSpec:
    """Other images than a study's own that distances of its samples are to: those of a test set, say."""

    dataset: str  #: name in `datasets`, of the same size and channels
    of: str  #: name in `datasets`: the study's own

    def __post_init__(self) -> None:
        require(self.dataset != self.of, "dataset", self.dataset, "another dataset than the study's own")


@dataclass(frozen=True)
class DetectorSpec(OfKinds):
    """Features in which distances are measured: what detectors are told, whatever their kind.

    A kind is a file of `ambient/evaluation/detectors/`, which says what of this it uses; one that learns in
    the workflow is `members` small networks, `features` and `channels` are each one's.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.evaluation.detectors")
    LEARNS: ClassVar[bool] = False  # from images of the workflow; else its weights come from outside
    RESIZES: ClassVar[bool] = False  # `resize` says how; else nobody resizes images
    NEEDS_CLASSES: ClassVar[bool] = False  # of the images that it learns from, two or more
    MODEL: ClassVar[bool] = False  # the image tower of a model of images and texts, named by `model`
    # What it gives of an image: `features` for distances, `classes` with their probabilities, `objects`.
    GIVES: ClassVar[tuple[str, ...]] = ("features",)
    OBJECTS_BY: ClassVar[tuple[str, ...]] = ()  # settings of a scorer that are needed where it gives objects
    FULL_RANK: ClassVar[bool] = False  # a distance takes more samples than there are features
    FLOPS: ClassVar[float] = 1e8  # of an image's features, where no network of the workflow gives them
    RATE: ClassVar[float] = math.inf  # images/s that one process prepares for it
    PACKAGES: ClassVar[tuple[str, ...]] = ()  # that are imported for it, beyond those that are always there
    ADVICE: ClassVar[str | None] = None  # how its weights are had, where no job downloads them
    LICENCE: ClassVar[str | None] = None  # of what it reads from outside: docs/licences.md
    APART_FROM_WEIGHTS: ClassVar[Mapping] = {}  # settings, at any allowed value, that weights don't depend on
    OWN_METRICS: ClassVar[Mapping[str, Mapping]] = {}  # names that this kind alone measures -> their protocol

    #: a file of `ambient/evaluation/detectors/`: `inception`, `dinov2`, `dino`, `classifier`, `selfnet`,
    #: `contrastive`, `mask2former`
    kind: str
    weights: str | None = None  #: a local file; None: inception: clean-fid's download
    sha256: str | None = None  #: of that file; None: inception: the only one allowed, dinov2: any
    features: int = 2048  #: numbers for each image; where it learns: of each member
    channels: int = 0  #: where it learns: width of the first block
    nimg: int = 0  #: where it learns: images seen in training
    batch: int = 0  #: where it learns: images of a step
    lr: float = 0.0  #: where it learns: learning rate
    seed: int = 0  #: where it learns: of initial weights and batches
    resize: Literal["legacy", "clean"] = "clean"  #: inception: who resizes images
    members: int = 1  #: where it learns: networks side by side, each with its own initial weights
    best: BestSpec | None = later(None)  #: distances are to the best images of the dataset; None: to all
    #: distances are to published moments of the dataset; None: to measured ones
    published: PublishedSpec | None = later(None)
    against: AgainstSpec | None = later(None)  #: distances are to other images; None: to the study's own

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.against is None or self.published is None, "against", self.against,
                "null for published moments, which are of the images that they are of")
        require(self.published is None or not self.LEARNS and self.best is None, "published", self.published,
                f"null for {'kind ' + self.kind if self.LEARNS else 'best'}: nobody published such moments")
        require(self.features > 0, "features", self.features, ">= 1")
        self.check_read()

    def check_read(self) -> None:
        """Refuse settings that its kind does not read."""
        unread = () if self.RESIZES else ("resize",)
        unread += () if self.LEARNS else LEARNING
        unread += OUTSIDE if self.LEARNS or self.MODEL else ()
        require_unread(self, unread, f"kind {self.kind}")

    def metric(self, name: str) -> str:
        """What a distance in these features is called; `name` is the detector's in the configuration."""
        return f"fd-{name}"

    def portable(self) -> DetectorSpec:
        """This specification without local paths, which say nothing of the result."""
        published = self.published and dataclasses.replace(self.published, path=None)
        return dataclasses.replace(self, weights=None, published=published)

    @property
    def dimensions(self) -> int:
        """D, numbers for each image: the features of all members."""
        return self.members * self.features

    def flops(self, channels: int, resolution: int) -> float:
        """Floating-point operations of the features of an image (C, H, H)."""
        return self.FLOPS

    def training_flops(self, channels: int, resolution: int) -> float:
        """Those of all its training on such images; 0 where it learns nothing."""
        return 0.0

    def too_few(self, images: int) -> bool:
        """Whether the covariance of so many images' features is singular: its rank is at most images - 1."""
        return images <= self.dimensions

    def remark(self, images: int) -> str | None:
        """What to say of a distance to or from so many images: that it is biased, or nothing."""
        if not self.too_few(images):
            return None
        return (f"{images:,} images against {self.dimensions:,} features; their covariance is singular and "
                "distances are biased upwards: take more, or compare them with those of as many images alone")

    def protocol(self) -> dict:
        """What a score in these features is recorded with: who resized, and whose weights they are."""
        return {"resize": "none"}

    def recorded(self) -> dict:
        """All that a score in these features is recorded with: the protocol, and to which images it is."""
        best = {"reference_best": self.best.words()} if self.best else {}
        return self.protocol() | best | ({"against": self.against.dataset} if self.against else {})

    @classmethod
    def protocol_of(cls, metric: str) -> Mapping:
        """The protocol that every score of a name is recorded with; empty for a name of no certain kind."""
        return next((kind.Spec.OWN_METRICS[metric] for kind in cls.KINDS.values()
                     if metric in kind.Spec.OWN_METRICS), {})


@dataclass(frozen=True)
class EvaluationSpec:
    """How a run's samples are scored; `seeds` are the sampling seeds, in the samples' order."""

    metric: str  #: `fid`, `fid-clean`, or `fd-<detector>`
    detector: DetectorSpec  #: whose features are compared
    seeds: tuple[int, ...]  #: sampling seeds, in the samples' order
    #: how many of them snapshots before the last have, but for a best one that has all; None: all
    earlier_seeds: int | None = None

    @property
    def first_seeds(self) -> tuple[int, ...]:
        """The sampling seeds that all snapshots have; none where the last alone is sampled."""
        return self.seeds[:self.earlier_seeds]

    def seeds_of(self, sets: int, last: bool) -> tuple[int, ...]:
        """The sampling seeds of a snapshot of which there are so many sets of samples: of the last one all.

        Raises `ValueError` for another number of sets.
        """
        every, few = len(self.seeds), len(self.first_seeds)
        if sets not in ((every,) if last else (few, every)):
            raise ValueError(f"samples of {sets} seeds, allowed: {every if last else f'{few} or {every}'}")
        return self.seeds[:sets]

    def __post_init__(self) -> None:
        require_seeds(self.seeds, "seeds")
        named = self.detector.metric(self.metric.removeprefix("fd-"))
        require(self.metric == named, "metric", self.metric, f"{self.detector.metric('<detector>')} for "
                f"features of kind {self.detector.kind} with resize {self.detector.resize}")


@dataclass(frozen=True)
class LandmarksSpec:
    """What a distance is for images that are known, so that a score of samples can be read."""

    metric: str  #: as of the scores that it stands beside
    detector: DetectorSpec  #: whose features are compared
    num_samples: int  #: images of a set at the most: as many as scores are of
    draws: int = 8  #: of the held-out images, each with its own distance
    seed: int = 0  #: of these draws

    def __post_init__(self) -> None:
        require(self.num_samples > 1, "num_samples", self.num_samples, ">= 2: one has no covariance")
        require(self.draws > 1, "draws", self.draws, ">= 2: one has no spread")


@dataclass(frozen=True)
class OutsideSpec:
    """Images that were made elsewhere, scored under the protocol of a table's samples."""

    name: str  #: of its files
    label: str  #: in tables and figures
    metric: str  #: as of the table's rows
    detector: DetectorSpec  #: whose features are compared
    reference: str  #: the dataset that the distance is to
    num_samples: int  #: images that are scored: as many as of the table's rows
    resolution: int  #: pixels, height = width
    channels: int  #: 1 (grey) or 3 (RGB)
    sha256: str  #: of the file or folder of images; any other content is refused

    def __post_init__(self) -> None:
        require(self.num_samples > 1, "num_samples", self.num_samples, ">= 2: one has no covariance")
