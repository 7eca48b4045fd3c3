"""Method `per_sample`: each sample gets the sigma_min at which its own curve crosses (section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ambient.annotation.levels import Inputs, Levels
from ambient.specs import AnnotationSpec


@dataclass(frozen=True)
class Spec(AnnotationSpec):
    """`epsilon`, the levels and `protocol` say how a noise classifier is asked."""

    ASKS: ClassVar[str] = "noise"


def annotate(spec: AnnotationSpec, mixture, inputs: Inputs, state) -> Levels | None:
    """sigma_min_i = inf { sigma : E[c(w_sigma, sigma) | w_i] > 0.5 - epsilon }."""
    from ambient.annotation.crossings import crossings

    return crossings(spec, mixture, inputs, state)
