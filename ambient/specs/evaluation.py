"""Specifications of samples and their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ambient.specs.strict import require, require_finite, require_seeds


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

    def __post_init__(self) -> None:
        require_finite(self, "S_max")
        require(self.num_steps >= 2, "num_steps", self.num_steps, ">= 2")
        require(0 < self.sigma_min < self.sigma_max, "sigma_min", self.sigma_min,
                f"between 0 and sigma_max = {self.sigma_max}")
        # 80^(1 / 0.1) is 1e19 still; beyond 100 the levels are evenly spaced in ln sigma but for rounding.
        require(0.1 <= self.rho <= 100, "rho", self.rho, "[0.1, 100]")
        require(self.S_churn >= 0, "S_churn", self.S_churn, ">= 0; 0 is the deterministic sampler")
        require(self.S_noise >= 0, "S_noise", self.S_noise, ">= 0")
        require(0 <= self.S_min <= self.S_max, "S_min", self.S_min, f"between 0 and S_max = {self.S_max}")


def seeds_at(seeds: tuple[int, ...], earlier: int | None, last: bool) -> tuple[int, ...]:
    """A snapshot's sampling seeds: all of the last one, the first `earlier` of those before."""
    return seeds if last else seeds[:earlier]


@dataclass(frozen=True)
class SamplingSpec:
    """`num_samples` images for each sampling seed; sample k of seed s is drawn from key (s, k)."""

    sampler: SamplerSpec  #: levels and churn
    num_samples: int  #: images for each sampling seed
    seeds: tuple[int, ...]  #: sampling seeds
    precision: Literal["float32", "bfloat16"]  #: of the network's arithmetic; the sampler's steps are float64
    earlier_seeds: int | None = None  #: how many of the seeds snapshots before the last get; None: all

    def __post_init__(self) -> None:
        require(self.num_samples > 1, "num_samples", self.num_samples, ">= 2: one has no covariance")
        require_seeds(self.seeds, "seeds")
        require(self.earlier_seeds is None or 1 <= self.earlier_seeds <= len(self.seeds), "earlier_seeds",
                self.earlier_seeds, f"1 to {len(self.seeds)}, or null for all")

    def seeds_at(self, last: bool) -> tuple[int, ...]:
        """The sampling seeds of the last snapshot, or of an earlier one."""
        return seeds_at(self.seeds, self.earlier_seeds, last)

    def images(self, snapshots: int) -> int:
        """How many images are drawn from a model of so many snapshots."""
        return self.num_samples * (len(self.seeds) + (snapshots - 1) * len(self.seeds_at(last=False)))


# NVIDIA's inception-2015-12-05.pt, the TorchScript port of the FID network: 95,607,719 bytes. The published
# FIDs of EDM and its successors, and clean-fid's, are of this very file; k-diffusion pins the same digest.
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
METRICS = {"legacy": "fid", "clean": "fid-clean"}  # of Inception's features, by who resizes


@dataclass(frozen=True)
class DetectorSpec:
    """Features in which distances are measured.

    kind `inception`: Inception-v3 in NVIDIA's port. `resize` says who brings its images to 299 x 299 pixels:
    `legacy`, the network itself, from uint8 images, as for published FIDs (the metric is `fid`); `clean`,
    clean-fid's bicubic resizing before it (`fid-clean`). kind `classifier`: `members` small class classifiers
    trained in the workflow on the clean dataset (`fd-<name>`); `features` and `channels` are each one's.
    """

    kind: Literal["inception", "classifier"]  #: Inception-v3, or class classifiers trained in the workflow
    weights: str | None = None  #: inception: a local file; None: clean-fid's download
    sha256: str | None = None  #: inception: of that file; None: the only one allowed
    features: int = 2048  #: numbers for each image; classifier: of each member
    channels: int = 0  #: classifier: width of the first block
    nimg: int = 0  #: classifier: images seen in training
    batch: int = 0  #: classifier: images of a step
    lr: float = 0.0  #: classifier: learning rate
    seed: int = 0  #: classifier: of initial weights and batches
    resize: Literal["legacy", "clean"] = "clean"  #: inception: who resizes images (see above)
    members: int = 1  #: classifier: networks side by side, each with its own initial weights

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.features > 0, "features", self.features, ">= 1")
        if self.kind == "classifier":
            for key in ("channels", "nimg", "batch", "lr"):
                require(getattr(self, key) > 0, key, getattr(self, key), "> 0 for kind classifier")
            require(self.members > 0, "members", self.members, ">= 1")
            require(self.channels % 8 == 0, "channels", self.channels, "a multiple of 8")
            require(self.nimg % self.batch == 0, "nimg", self.nimg, f"a multiple of batch = {self.batch}")
        elif self.sha256 is not None:
            require(self.sha256 == INCEPTION_SHA256, "sha256", self.sha256,
                    f"{INCEPTION_SHA256} or null: the file is a program, and only this one is run")

    def protocol(self) -> dict:
        """What a score in these features is recorded with: who resized, and Inception's digest."""
        if self.kind == "classifier":
            return {"resize": "none"}
        return {"resize": self.resize, "weights_sha256": INCEPTION_SHA256}


@dataclass(frozen=True)
class EvaluationSpec:
    """How a run's samples are scored; `seeds` are the sampling seeds, in the samples' order."""

    metric: str  #: `fid`, `fid-clean`, or `fd-<detector>`
    detector: DetectorSpec  #: whose features are compared
    seeds: tuple[int, ...]  #: sampling seeds, in the samples' order
    earlier_seeds: int | None = None  #: how many of them snapshots before the last have; None: all

    def seeds_at(self, last: bool) -> tuple[int, ...]:
        """The sampling seeds of the last snapshot, or of an earlier one."""
        return seeds_at(self.seeds, self.earlier_seeds, last)

    def __post_init__(self) -> None:
        require_seeds(self.seeds, "seeds")
        inception = METRICS[self.detector.resize] if self.detector.kind == "inception" else None
        require(self.metric == inception if inception else self.metric.startswith("fd-"), "metric",
                self.metric, "fid for Inception features of resize legacy, fid-clean for those of resize "
                "clean, fd-<detector> for all others")


def misnamed(spec: Mapping, detector_sha256: str) -> str | None:
    """Why a score must not be called what it is called, in words; None where it may.

    `spec` is the plain specification of the score's manifest, `detector_sha256` the digest of the detector
    that it was measured with. A score named after Inception is one of INCEPTION_SHA256 and of nothing else.
    """
    detector = spec.get("detector")
    detector = detector if isinstance(detector, Mapping) else {}
    metric, kind = spec.get("metric"), detector.get("kind")
    if kind != "inception" and metric not in METRICS.values():
        return None
    if kind != "inception" or detector_sha256 != INCEPTION_SHA256:
        return (f"called {metric}, but its detector {detector_sha256[:12]}… is not Inception's file "
                f"{INCEPTION_SHA256[:12]}…")
    expected = METRICS.get(str(detector.get("resize", "clean")))
    return None if metric == expected else f"called {metric}, but its images were resized as for {expected}"
