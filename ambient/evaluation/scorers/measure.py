"""Scorer `measure`: a measure of quality (`ambient.data.quality`), of each image and of its patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.data import quality
from ambient.data.measures import SMALLEST
from ambient.specs import DatasetSpec, ScorerSpec
from ambient.specs.scores import require_cover, require_sides
from ambient.specs.strict import require


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """`measure` names a file of `ambient/data/quality/`."""

    measure: str  #: `sharpness`, `noise`, `blockiness`, `exposure`, `contrast`, `detail`, `quality`
    patches: tuple[int, ...] = ()  #: sides of non-overlapping patches that are scored one by one, pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.measure in quality.KINDS, "measure", self.measure, ", ".join(quality.KINDS))
        require_sides(self.patches, SMALLEST)

    def check(self, dataset: DatasetSpec) -> None:
        require(dataset.resolution >= SMALLEST, "measure", self.measure,
                f"one for images of {dataset.resolution} pixels; measures need {SMALLEST}")
        require_cover(self.patches, dataset)

    def patch_sides(self) -> tuple[int, ...]:
        return self.patches


def scorer(spec: Spec, given: Path | None) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The score of each image, and of each of its patches."""
    from ambient.data.measures import measure
    from ambient.data.scores import EACH, cut

    score = measure(spec.measure)

    def of(images: np.ndarray) -> dict[str, np.ndarray]:
        found = {"score": np.array([score(image) for image in images])}
        for side in spec.patches:
            parts = np.stack([cut(image, side) for image in images])
            each = np.array([score(part) for part in parts.reshape(-1, *parts.shape[3:])], np.float32)
            found[f"{EACH}{side}"] = each.reshape(parts.shape[:3])
        return found

    return of
