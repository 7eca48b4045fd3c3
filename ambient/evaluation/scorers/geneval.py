"""Scorer `geneval`: 1 for a sample that shows what its caption asks for, else 0, by GenEval's rules.

Captions have GenEval's six forms (`ambient.data.prompt_forms`). What an image shows is told by a detector of
objects. With `real`, one threshold of detections is chosen on real images: of one half of them as many as
possible are right. What the other half scores is the detector's own ceiling. Without, the thresholds are
those that are published, of the published detector: 0.3, and 0.9 where objects are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.prompt_forms import TASKS
from ambient.specs import DetectorSpec, ScorerSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.evaluation.captioned import Objects, Seen
    from ambient.evaluation.geneval import Prompt, Rules

THRESHOLDS = tuple(k / 20 for k in range(1, 20))
FEW = 0.2  # objects an image: with fewer a task says more of the detector than of the samples


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """The rules are GenEval's. The detector's kind says which of `window` and `model` it needs."""

    PER_IMAGE: ClassVar[bool] = False
    CAPTIONED: ClassVar[bool] = True
    ASKS: ClassVar[bool] = True
    ASKED_FOR: ClassVar[str] = "objects"
    FLOPS: ClassVar[float] = 1e8
    RATE: ClassVar[float] = 200.0

    detector: str  #: name in `detectors`, of one that gives objects
    window: int | None = None  #: kind classifier: pixels of a side of the single shapes that it learnt from
    model: str | None = None  #: kind mask2former: name in `text_encoders`, of the CLIP that tells colours
    #: name in `datasets`: real images with captions, on which the threshold is chosen; null: as published
    real: str | None = None
    asked: DetectorSpec | None = None  #: that detector; set by itself

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.window is None or self.window >= 8, "window", self.window, ">= 8 pixels")

    @property
    def MODEL(self) -> bool:
        return self.model is not None


class Verdicts:
    """The score by what sees objects, with its thresholds and its ceiling, where real images are given."""

    def __init__(self, objects: Objects, real: Path | None) -> None:
        from ambient.evaluation.captioned import in_parts
        from ambient.evaluation.geneval import PUBLISHED

        self.objects, self.rules = objects, PUBLISHED
        self.real: dict[str, np.ndarray] = {}
        if real is not None:
            asked, seen = [], []
            for images, captions in in_parts(real):
                some = self.asked(captions)
                asked += some
                seen += objects(images, some)
            self.rules = one_threshold(best_threshold(asked[::2], seen[::2]))
            self.real = self.judged(asked[1::2], seen[1::2])

    def asked(self, captions: Sequence[str]) -> list[Prompt]:
        """What each caption asks for. Raises `ValueError` for one of another form."""
        from ambient.data.prompt_forms import understood
        from ambient.evaluation.geneval import geneval_prompt

        return [geneval_prompt(understood(caption, self.objects.names)) for caption in captions]

    def judged(self, asked: Sequence[Prompt], seen: Sequence[Seen]) -> dict[str, np.ndarray]:
        """`score`, 1 or 0; `task`, its place in `TASKS`; `objects`, how many count; `threshold`, of its
        task."""
        least = [threshold_of(self.rules, prompt) for prompt in asked]
        count = [sum(one.score > above for ones in each.values() for one in ones)
                 for above, each in zip(least, seen, strict=True)]
        return {"score": right(asked, seen, self.rules).astype(np.float64),
                "task": np.array([TASKS.index(prompt.task) for prompt in asked]),
                "objects": np.array(count), "threshold": np.array(least)}

    def __call__(self, images: np.ndarray, captions: Sequence[str]) -> dict[str, np.ndarray]:
        asked = self.asked(captions)
        return self.judged(asked, self.objects(images, asked))

    def remarks(self, found: dict[str, np.ndarray]) -> list[str]:
        said = []
        for number, task in enumerate(TASKS):
            objects = found["objects"][found["task"] == number]
            if len(objects) and objects.mean() < FEW:
                said.append(f"geneval: {objects.mean():.2g} objects an image of {task} were detected: its "
                            "score says more of the detector than of the samples")
        return said


def threshold_of(rules: Rules, prompt: Prompt) -> float:
    """The score above which a detection counts for a prompt."""
    return rules.score_counting if prompt.task == "counting" else rules.score


def one_threshold(threshold: float) -> Rules:
    """GenEval's rules with one threshold for all tasks."""
    from ambient.evaluation.geneval import Rules

    return Rules(score=threshold, score_counting=threshold)


def right(asked: Sequence[Prompt], seen: Sequence[Seen], rules: Rules) -> np.ndarray:
    """Whether each image is right by the rules, bool (N,)."""
    from ambient.evaluation.geneval import geneval_faults

    return np.array([not geneval_faults(*one, rules) for one in zip(asked, seen, strict=True)])


def best_threshold(asked: Sequence[Prompt], seen: Sequence[Seen]) -> float:
    """The largest of the thresholds with which the mean of the tasks' shares of right images is largest."""
    from ambient.evaluation.geneval import geneval_score, of_tasks

    def overall(threshold: float) -> float:
        shown = right(asked, seen, one_threshold(threshold))
        return geneval_score(of_tasks(asked, shown))["overall"].share

    return max(THRESHOLDS, key=lambda threshold: (overall(threshold), threshold))


def scorer(spec: Spec, given: Path, real: Path | None, model: Path | None = None) -> Verdicts:
    """The verdict on each image; `given` is the file of the detector, `model` that of the CLIP."""
    from ambient.evaluation import detectors

    return Verdicts(detectors.KINDS[spec.asked.kind].objects(spec, given, model), real)
