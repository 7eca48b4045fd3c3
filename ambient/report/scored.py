"""What figures of scores have in common: whose scores they show, and from which files. No matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ambient.specs import FigureSpec
from ambient.specs.scores import Within


@dataclass(frozen=True, kw_only=True)
class ScoredSpec(FigureSpec):
    """The images of the study's dataset with their scores by `scorer`."""

    STAGE: ClassVar[str] = "crops_figures"
    FOLLOWS: ClassVar[tuple[str, ...]] = ("share",)

    scorer: str  #: name in `scorers`
    within: Within = "all"  #: images are ranked in their class, or among all
    share: float  #: of the images that count as good: the study's `clean_fraction`

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The study's share of good images. Raises `SpecError` for images that the scorer can't score."""
        settings.check_scorer(settings.study(entry.study).dataset, own.get("scorer"), f"{where}.scorer",
                              own.get("within", "all"))
        return {"share": settings.fraction(entry.study)}


def reads(files, name: str, entry) -> dict:
    """The study's dataset, and its scores."""
    dataset = files.experiments.study(entry.study).dataset
    return {"data": files.images(entry.study),
            "scores": files.scores(dataset, files.experiments.figure(name).scorer)}


def extremes(score: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the `count` best images, from the best on, and of the `count` worst, from the worst on.

    In several groups the best of each come first, then the second best of each.
    """
    from ambient.data.ranking import ranks

    best, worst = (np.lexsort((-one, ranks(one, groups))) for one in (score, -score))
    return best[:count], worst[:count]
