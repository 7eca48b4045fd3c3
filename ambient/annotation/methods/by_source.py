"""Method `by_source`: added images get the sigma_min of the dataset that they were added from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ambient.annotation.levels import Inputs, Levels
from ambient.specs import AnnotationSpec
from ambient.specs.strict import require


@dataclass(frozen=True)
class Spec(AnnotationSpec):
    """`sigma_min` is set by itself: it is a property of the added dataset's entry."""

    GIVEN: ClassVar[bool] = True
    BY_SOURCE: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sigma_max == 0, "sigma_max", self.sigma_max, "0: method by_source gives no sigma_max")


def annotate(spec: Spec, mixture, inputs: Inputs, state) -> Levels:
    """The value of the source. Raises `ValueError` where nobody filled it in."""
    if spec.sigma_min is None:
        raise ValueError("sigma_min: got null, allowed for method by_source: the level of the added dataset")
    return Levels(spec.sigma_min, 0.0)
