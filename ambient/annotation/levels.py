"""What a way of annotating reads and gives. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Inputs:
    """Files beside the mixture: latents, classifiers, the measured crop(sigma), scores."""

    classifier: Path | None = None
    crops: Sequence[Path] = ()
    locality: Path | None = None
    latents: Sequence[Path] = ()
    scores: Path | None = None


@dataclass(frozen=True)
class Levels:
    """sigma_min and sigma_max of M samples, float64 (M,) or one number for all; and what the summary says.

    A sample trains at levels above sigma_min, infinity: at none; and below sigma_max, 0: at none.
    """

    sigma_min: np.ndarray | float
    sigma_max: np.ndarray | float = 0.0
    about: Mapping[str, Any] = field(default_factory=dict)
