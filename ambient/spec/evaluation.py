"""Specifications of samples and their scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ambient.strict import require, require_finite, require_seeds


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

    sampler: SamplerSpec
    num_samples: int
    seeds: tuple[int, ...]
    precision: Literal["float32", "bfloat16"]
    earlier_seeds: int | None = None  # how many of them snapshots before the last get; None: all

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
        require_finite(self)
        require(self.features > 0, "features", self.features, ">= 1")
        if self.kind == "classifier":
            for key in ("channels", "nimg", "batch", "lr"):
                require(getattr(self, key) > 0, key, getattr(self, key), "> 0 for kind classifier")
            require(self.channels % 8 == 0, "channels", self.channels, "a multiple of 8")
            require(self.nimg % self.batch == 0, "nimg", self.nimg, f"a multiple of batch = {self.batch}")


@dataclass(frozen=True)
class EvaluationSpec:
    """How a run's samples are scored; `seeds` are the sampling seeds, in the samples' order."""

    metric: str  # `fid`, or `fd-<detector>`
    detector: DetectorSpec
    seeds: tuple[int, ...]
    earlier_seeds: int | None = None  # of `seeds`, those of snapshots before the last; None: all

    def seeds_at(self, last: bool) -> tuple[int, ...]:
        """The sampling seeds of the last snapshot, or of an earlier one."""
        return seeds_at(self.seeds, self.earlier_seeds, last)

    def __post_init__(self) -> None:
        require_seeds(self.seeds, "seeds")
        require((self.metric == "fid") == (self.detector.kind == "inception"), "metric", self.metric,
                "fid for Inception features, and only for those")
