"""Scorer `clip_score`: how near an image is to its caption, by a model of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import ScorerSpec

if TYPE_CHECKING:
    from ambient.training.contrasting import ImageTextModel


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """The cosine of both, in [-1, 1], not times 100. A model whose states a denoiser was told of is no
    independent judge of it: name a second one beside it."""

    PER_IMAGE: ClassVar[bool] = False
    CAPTIONED: ClassVar[bool] = True
    MODEL: ClassVar[bool] = True
    FLOPS: ClassVar[float] = 1e8

    model: str  #: name in `text_encoders`, of one with an image tower
    real: str | None = None  #: name in `datasets`: real images with captions, whose score stands beside


class Cosines:
    """The score by a stored model."""

    def __init__(self, model: ImageTextModel) -> None:
        self.model = model
        self.real: dict[str, np.ndarray] = {}

    def __call__(self, images: np.ndarray, captions: Sequence[str]) -> dict[str, np.ndarray]:
        return {"score": self.model.cosines(images, captions)}

    def remarks(self, found: dict[str, np.ndarray]) -> list[str]:
        return []


def scorer(spec: Spec, given: Path, real: Path | None) -> Cosines:
    """The cosine of each image with its caption; `given` is the file of the model."""
    from ambient.evaluation.captioned import in_parts
    from ambient.training.hardware import device
    from ambient.training.text_encoding import TextEncoder

    found = Cosines(TextEncoder(given, device()).coder)
    if real is not None:
        scores = [found(images, captions)["score"] for images, captions in in_parts(real)]
        found.real = {"score": np.concatenate(scores)}
    return found
