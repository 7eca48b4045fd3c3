"""Method `by_quality`: one sigma_min for all that is not good, a sigma_max by the scores of patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ambient.annotation.levels import Inputs, Levels
from ambient.specs import AnnotationSpec
from ambient.specs.scores import Within
from ambient.specs.strict import require, require_distinct, require_unread


@dataclass(frozen=True, kw_only=True)
class Spec(AnnotationSpec):
    """`sigma_min` is the value that all get. sigma_max is that of the largest side of patches by whose mean
    score a sample is among the best: as many count as best as the mixture has clean samples (of its class).

    `crop_map` says which sides, and their levels. released: those of ImageNet at 512 pixels. given:
    `patch_px` and `patch_sigma_max`. measured: `patch_px`, by crop(sigma) of the study's own denoiser.
    """

    GIVEN: ClassVar[bool] = True
    SCORED: ClassVar[bool] = True

    scorer: str  #: name in `scorers`, of one that scores patches
    within: Within = "all"  #: samples are ranked in their class, or among all: as in the mixture
    patch_px: tuple[int, ...] = ()  #: sides of patches, pixels; crop_map released: none, they are known
    patch_sigma_max: tuple[float, ...] = ()  #: crop_map given: a level for each side
    pixel_factor: int = 1  #: crop_map measured: pixels of an image to one number of what the denoiser sees

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sigma_max == 0, "sigma_max", self.sigma_max, "0: a sample's follows from its scores")
        require((self.crop_map != "released") == bool(self.patch_px), "patch_px", self.patch_px,
                "sides of patches, or none if crop_map is released")
        require_distinct(self.patch_px, "patch_px")
        wanted = len(self.patch_px) if self.crop_map == "given" else 0
        require(len(self.patch_sigma_max) == wanted, "patch_sigma_max", self.patch_sigma_max,
                f"{wanted} levels if patch_px is {list(self.patch_px)} and crop_map {self.crop_map}")
        require(all(level >= 0 for level in self.patch_sigma_max), "patch_sigma_max", self.patch_sigma_max,
                "levels >= 0")
        if not self.reads_locality():
            require_unread(self, ("pixel_factor",), f"crop_map {self.crop_map}")
        require(self.pixel_factor > 0 and not any(side % self.pixel_factor for side in self.patch_px),
                "pixel_factor", self.pixel_factor, ">= 1, a divisor of each of patch_px")

    def sides(self) -> tuple[int, ...]:
        """The sides of patches whose mean scores are read."""
        from ambient.data.ranking import RELEASED

        return tuple(RELEASED) if self.crop_map == "released" else self.patch_px

    def reads_locality(self) -> bool:
        return self.crop_map == "measured"


def levels_of(spec: Spec, inputs: Inputs) -> dict[int, float]:
    """Side of a patch, pixels -> sigma_max."""
    from ambient.data.ranking import RELEASED
    from ambient.diffusion.crops import measured_map
    from ambient.storage.files import read_json

    if spec.crop_map == "released":
        return dict(RELEASED)
    if spec.crop_map == "given":
        return dict(zip(spec.patch_px, spec.patch_sigma_max, strict=True))
    if inputs.locality is None:
        raise ValueError("crop_map measured needs --locality, the map of a trained denoiser")
    found: Mapping = read_json(inputs.locality)
    sides = {side: side // spec.pixel_factor for side in spec.patch_px}
    known = measured_map(found["sigmas"], found["crop_px"], list(sides.values()))
    return {side: known[seen] for side, seen in sides.items()}


def annotate(spec: Spec, mixture, inputs: Inputs, state) -> Levels:
    """sigma_max by the rule of `ambient.data.ranking.sigma_max`."""
    from ambient.data import ranking
    from ambient.data.scores import Scores

    if inputs.scores is None:
        raise ValueError("annotation method by_quality needs --scores, the scores of the dataset")
    scores, levels = Scores.read(inputs.scores).of(mixture.ids), levels_of(spec, inputs)
    groups = ranking.groups_of(mixture.labels, spec.within)
    _, place = np.unique(groups, return_inverse=True)
    good = np.bincount(place, mixture.corrupted == 0)[place]
    found = ranking.sigma_max(scores.patch_means, good, groups, levels)
    return Levels(spec.sigma_min, found[mixture.corrupted == 1],
                  {"crop_map": {str(side): level for side, level in levels.items()}})
