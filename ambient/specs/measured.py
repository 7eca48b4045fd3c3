"""Specifications of what is measured of trained denoisers and of their samples, for figures and the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ambient.specs.evaluation import DetectorSpec
from ambient.specs.scores import BestSpec
from ambient.specs.strict import later, require, require_distinct, require_finite


@dataclass(frozen=True)
class NoiseFloorSpec:
    """The losses of clean images and of those that are used above one sigma_min, and u(sigma), by level."""

    NEAREST: ClassVar[float] = 0.01  # of the levels above sigma_min the lowest, sigma / sigma_min - 1

    runs: tuple[str, ...]  #: whose denoisers are measured, by name; they learn from the same images
    sigma_min: float  #: of every image that is not clean
    sigma_low: float  #: lowest noise level
    sigma_high: float  #: highest noise level
    num_sigmas: int  #: levels below sigma_min, evenly in ln sigma; as many above, in ln(sigma - sigma_min)
    num_images: int  #: clean images that a loss is averaged over, and as many others
    seed: int  #: of the choice of images and of the noise
    network: str = later("unet")  #: the runs' kind of network, whose code the job is of; set by itself

    def __post_init__(self) -> None:
        require_finite(self)
        require(len(self.runs) > 0, "runs", self.runs, "one run or more")
        require_distinct(self.runs, "runs")
        require(self.sigma_min > 0, "sigma_min", self.sigma_min, "> 0")
        require(0 < self.sigma_low < self.sigma_min, "sigma_low", self.sigma_low,
                f"between 0 and sigma_min = {self.sigma_min}")
        least = self.sigma_min * (1 + self.NEAREST)
        require(self.sigma_high > least, "sigma_high", self.sigma_high, f"> {least:g}")
        require(self.num_sigmas > 1, "num_sigmas", self.num_sigmas, ">= 2")
        require(self.num_images > 1, "num_images", self.num_images, ">= 2")


@dataclass(frozen=True)
class NeighboursSpec:
    """How far the samples of some runs are from training images and from as many unseen ones."""

    runs: tuple[str, ...]  #: whose samples are compared, by name: of the last snapshot, the first seed
    num_samples: int  #: of each run, at the most
    best: BestSpec | None  #: the best images of both datasets are compared with, too; None: all alone
    detector: DetectorSpec | None  #: distances are in its features; None: in pixels
    seed: int  #: of the parts of the same number of images

    def __post_init__(self) -> None:
        require(len(self.runs) > 0, "runs", self.runs, "one run or more")
        require_distinct(self.runs, "runs")
        require(self.num_samples > 1, "num_samples", self.num_samples, ">= 2")
