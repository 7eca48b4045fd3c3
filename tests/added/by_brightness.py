"""Method `by_brightness`: the brighter an image is, the higher its sigma_min."""

from __future__ import annotations

from dataclasses import dataclass

from ambient.annotation.levels import Inputs, Levels
from ambient.specs import AnnotationSpec
from ambient.specs.strict import require


@dataclass(frozen=True, kw_only=True)
class Spec(AnnotationSpec):
    """sigma_min = `of_white` times the mean of an image's pixels, which is 1 for white."""

    of_white: float  #: sigma_min of a white image

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.of_white > 0, "of_white", self.of_white, "> 0")


def annotate(spec: Spec, mixture, inputs: Inputs, state) -> Levels:
    """From the images alone."""
    images = mixture.images[mixture.corrupted == 1]
    return Levels(spec.of_white * images.mean(axis=(1, 2, 3)) / 255, about={"of_white": spec.of_white})
