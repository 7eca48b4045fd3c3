"""Method `population`: all samples get the level at which the mean curve crosses (equation 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ambient.annotation.methods import per_sample


@dataclass(frozen=True)
class Spec(per_sample.Spec):
    """`epsilon`, the levels and `protocol` say how a noise classifier is asked."""

    OF_MEAN: ClassVar[bool] = True


annotate = per_sample.annotate
