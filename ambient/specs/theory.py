"""Specification of section 4 in one dimension."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ambient.specs.strict import number, require, require_finite


@dataclass(frozen=True)
class TheorySpec:
    """Section 4 in one dimension. `pairs`: name -> {clean, other}, each a list of [knot, height]."""

    pairs: Mapping[str, Any]  #: name to {clean, other}, each a list of [knot, height]
    n_clean: int  #: clean samples, the paper's n1
    n_other: int  #: other samples, the paper's n2
    trials: int  #: Monte-Carlo draws of the samples
    delta: float  #: the bounds hold with probability 1 - delta; also the quantiles reported
    epsilon: float  #: tau = 0.5 - epsilon of the classifiers
    sigma_low: float  #: lowest noise level
    sigma_high: float  #: highest noise level
    num_sigmas: int  #: levels, evenly spaced in ln sigma
    contraction_pairs: int  #: random pairs of Theorem 4.2
    classifier_width: int  #: hidden units
    classifier_batch: int  #: samples of a training step
    classifier_steps: int  #: training steps
    seed: int  #: of all draws

    def __post_init__(self) -> None:
        require_finite(self)
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
            for side, points in pair.items():
                self.check_density(points, f"pairs.{name}.{side}")

    @staticmethod
    def check_density(points: Any, where: str) -> None:
        """Refuse what is not [knot, height] at knots that rise from 0 to 1, with heights >= 0, not all 0."""
        shaped = isinstance(points, (list, tuple)) and len(points) > 1 and all(
            isinstance(point, (list, tuple)) and len(point) == 2 for point in points)
        require(shaped, where, points, "two points or more, each [knot, height]")
        knots, heights = zip(*[[number(value, where) for value in point] for point in points], strict=True)
        rising = knots[0] == 0 and knots[-1] == 1 and all(a < b for a, b in itertools.pairwise(knots))
        require(rising, where, list(knots), "knots that rise from 0 to 1")
        require(all(0 <= height < math.inf for height in heights) and any(heights), where, list(heights),
                "finite heights >= 0, not all 0")
