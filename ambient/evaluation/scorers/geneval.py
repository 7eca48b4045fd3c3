"""Scorer `geneval`: 1 for a sample that shows what its caption asks for, else 0, by GenEval's rules.

Captions have GenEval's six forms (`ambient.data.prompt_forms`). What an image shows is told by a detector
that learnt single shapes in the workflow. From which score a detection counts is chosen on real images: of
one half of them as many as possible are right. What the other half scores is the detector's own ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.prompt_forms import TASKS
from ambient.specs import ScorerSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.evaluation.geneval import Prompt
    from ambient.evaluation.scene_objects import SceneObjects, Seen

THRESHOLDS = tuple(k / 20 for k in range(1, 20))
FEW = 0.2  # objects an image: with fewer a task says more of the detector than of the samples


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """The rules are GenEval's, but for the threshold of detections."""

    PER_IMAGE: ClassVar[bool] = False
    CAPTIONED: ClassVar[bool] = True
    ASKS: ClassVar[bool] = True
    FLOPS: ClassVar[float] = 1e8
    RATE: ClassVar[float] = 200.0

    detector: str  #: name in `detectors`, of one of kind classifier that learnt single shapes
    window: int  #: pixels of a side of the images that it learnt from
    real: str  #: name in `datasets`: real images with captions, on which the threshold is chosen

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.window >= 8, "window", self.window, ">= 8 pixels")


class Verdicts:
    """The score by a detector, with its threshold and its ceiling."""

    def __init__(self, objects: SceneObjects, real: Path) -> None:
        from ambient.evaluation.captioned import captioned

        self.objects = objects
        data, captions = captioned(real)
        seen, asked = objects(data.images[:]), self.asked(captions)
        self.threshold = best_threshold(asked[::2], seen[::2])
        self.real = self.judged(asked[1::2], seen[1::2])

    def asked(self, captions: Sequence[str]) -> list[Prompt]:
        """What each caption asks for. Raises `ValueError` for one of another form."""
        from ambient.data.prompt_forms import understood
        from ambient.data.shapes import SHAPES
        from ambient.evaluation.geneval import geneval_prompt

        return [geneval_prompt(understood(caption, SHAPES)) for caption in captions]

    def judged(self, asked: Sequence[Prompt], seen: Sequence[Seen]) -> dict[str, np.ndarray]:
        """`score`, 1 or 0; `task`, its place in `TASKS`; `objects`, how many count; `threshold`."""
        count = [sum(one.score > self.threshold for ones in each.values() for one in ones) for each in seen]
        return {"score": right(asked, seen, self.threshold).astype(np.float64),
                "task": np.array([TASKS.index(prompt.task) for prompt in asked]),
                "objects": np.array(count), "threshold": np.full(len(seen), self.threshold)}

    def __call__(self, images: np.ndarray, captions: Sequence[str]) -> dict[str, np.ndarray]:
        return self.judged(self.asked(captions), self.objects(images))

    def remarks(self, found: dict[str, np.ndarray]) -> list[str]:
        said = []
        for number, task in enumerate(TASKS):
            objects = found["objects"][found["task"] == number]
            if len(objects) and objects.mean() < FEW:
                said.append(f"geneval: {objects.mean():.2g} objects an image of {task} were detected: its "
                            "score says more of the detector than of the samples")
        return said


def right(asked: Sequence[Prompt], seen: Sequence[Seen], threshold: float) -> np.ndarray:
    """Whether each image is right where detections count above a threshold, bool (N,)."""
    from ambient.evaluation.geneval import Rules, geneval_faults

    rules = Rules(score=threshold, score_counting=threshold)
    return np.array([not geneval_faults(*one, rules) for one in zip(asked, seen, strict=True)])


def best_threshold(asked: Sequence[Prompt], seen: Sequence[Seen]) -> float:
    """The largest of the thresholds with which the mean of the tasks' shares of right images is largest."""
    from ambient.evaluation.geneval import geneval_score, of_tasks

    def overall(threshold: float) -> float:
        return geneval_score(of_tasks(asked, right(asked, seen, threshold)))["overall"].share

    return max(THRESHOLDS, key=lambda threshold: (overall(threshold), threshold))


def scorer(spec: Spec, given: Path, real: Path) -> Verdicts:
    """The verdict on each image; `given` is the file of the detector."""
    from ambient.evaluation.scene_objects import SceneObjects

    return Verdicts(SceneObjects(given, spec.window), real)
