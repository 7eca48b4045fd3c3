"""Scorer `white`: the share of an image's pixels that are brighter than a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ambient.specs import ScorerSpec
from ambient.specs.strict import require


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """`above` is the threshold."""

    above: int = 127  #: of 255

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.above < 255, "above", self.above, "[0, 255)")


def scorer(spec: Spec, given: Path | None):
    """`given` is None: it reads no file."""
    return lambda images: {"score": (images > spec.above).mean(axis=(1, 2, 3))}
