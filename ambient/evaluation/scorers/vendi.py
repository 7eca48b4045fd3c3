"""Scorer `vendi`: how many different images a caption's samples amount to, by a detector's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DetectorSpec, ScorerSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """The samples of a caption have one score together: from 1 (all alike) to as many as they are."""

    PER_IMAGE: ClassVar[bool] = False
    CAPTIONED: ClassVar[bool] = True
    GROUPED: ClassVar[bool] = True
    ASKS: ClassVar[bool] = True
    ASKED_FOR: ClassVar[str] = "features"
    FLOPS: ClassVar[float] = 1e9

    detector: str  #: name in `detectors`
    asked: DetectorSpec | None = None  #: that detector; set by itself

    def check_samples(self, each: int, count: int) -> None:
        require(each > 1 and count % each == 0, "each", each, f">= 2 samples of a caption, and a divisor of "
                f"num_samples = {count}: of one image there is no diversity")


class Diversity:
    """The score by a detector's features."""

    def __init__(self, features: Callable[[np.ndarray], Tensor], each: int) -> None:
        self.features, self.each = features, each
        self.real: dict[str, np.ndarray] = {}

    def __call__(self, images: np.ndarray, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """`score` of each group of images with one caption, and `of` how many images it is."""
        import torch

        from ambient.evaluation.vendi import vendi

        with torch.no_grad():
            rows = self.features(images).double().cpu().numpy()
        groups = rows.reshape(-1, self.each, rows.shape[1])
        return {"score": np.array([vendi(group) for group in groups]), "of": np.full(len(groups), self.each)}

    def remarks(self, found: dict[str, np.ndarray]) -> list[str]:
        return []


def scorer(spec: Spec, given: Path, real: None) -> Diversity:
    """The Vendi score of the images of each caption; `given` is the file of the detector."""
    from ambient.evaluation.features import checked_features

    return Diversity(checked_features(spec.asked, given), spec.each)
