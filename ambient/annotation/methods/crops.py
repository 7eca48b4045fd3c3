"""Method `crops`: each sample gets a sigma_max by how its crops pass for the target's (section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ambient.annotation.levels import Inputs, Levels
from ambient.specs import AnnotationSpec
from ambient.specs.strict import require


@dataclass(frozen=True)
class Spec(AnnotationSpec):
    """`crop_map`, `crop_threshold` and `crop_sigma` say how classifiers are asked; sigma_min = inf."""

    ASKS: ClassVar[str] = "crops"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.crop_map != "given", "crop_map", self.crop_map, "measured or released")

    def reads_locality(self) -> bool:
        return self.crop_map == "measured"


def annotate(spec: Spec, mixture, inputs: Inputs, state) -> Levels | None:
    """The sigma_max of the largest crop size whose mean P(target) exceeds the threshold."""
    from ambient.annotation.crop_likeness import sigma_max

    if not inputs.crops:
        raise ValueError("annotation method crops needs --crops, a classifier for each size")
    likeness = sigma_max(spec, mixture, inputs, state)
    return None if likeness is None else Levels(math.inf, *likeness)
