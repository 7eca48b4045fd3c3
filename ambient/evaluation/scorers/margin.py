"""Scorer `margin`: how surely a detector's networks tell an image as one class, whatever its label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ambient.specs import ScorerSpec


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """The networks of `detector`, of kind classifier, judge images that they have not learnt from."""

    ASKS: ClassVar[bool] = True
    FLOPS: ClassVar[float] = 1e8

    detector: str  #: name in `detectors`, of one of kind classifier


def scorer(spec: Spec, given: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """ln p_1 - ln p_2, of the likeliest class and the next, where ln p is the mean over the networks."""
    from ambient.evaluation import small_nets

    network = small_nets.load(given)

    def of(images: np.ndarray) -> dict[str, np.ndarray]:
        log_p = np.sort(small_nets.log_probabilities(network, images).mean(axis=0), axis=1)
        return {"score": log_p[:, -1] - log_p[:, -2]}

    return of
