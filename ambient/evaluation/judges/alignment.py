"""Judge `alignment`: the image that is nearer to its caption, by a model of images and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ambient.evaluation.judges import FIRST, NONE, SECOND, Answer
from ambient.specs import JudgeSpec
from ambient.specs.strict import require


@dataclass(frozen=True, kw_only=True)
class Spec(JudgeSpec):
    """No vision model: it says which image fits its caption, and nothing of how real it looks."""

    MODEL: ClassVar[bool] = True

    model: str  #: name in `text_encoders`, of one that sees images
    tie: float = 0.0  #: difference of cosines up to which neither is preferred

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.tie < 2, "tie", self.tie, "[0, 2)")


def judge(spec: Spec, given: Path) -> Callable[[Sequence[str], np.ndarray, np.ndarray], list[Answer]]:
    """The answer by the difference of the cosines, which is what it says."""
    from ambient.training.hardware import device
    from ambient.training.text_encoding import TextEncoder

    model = TextEncoder(given, device()).coder

    def ask(captions: Sequence[str], first: np.ndarray, second: np.ndarray) -> list[Answer]:
        differences = model.cosines(first, captions) - model.cosines(second, captions)
        if not np.isfinite(differences).all():
            row = int(np.argmin(np.isfinite(differences)))
            raise ValueError(f"{spec.model}: no number for the caption {captions[row]!r} and its two images")
        return [Answer(NONE if abs(one) <= spec.tie else FIRST if one > 0 else SECOND, f"{one:.6f}")
                for one in differences.tolist()]

    return ask
