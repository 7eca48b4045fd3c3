"""Operation `rank`: the best images by a score are clean, all others stay as they are and count as bad."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from ambient.specs import MixtureSpec, OperationSpec
from ambient.specs.scores import Within
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset
    from ambient.data.scores import Scores

WORDS = {"best": "the best by {scorer}{within}",
         "random": "as many at random as are best by {scorer}{within}",
         "released": "the released rule's by {scorer}"}


@dataclass(frozen=True)
class Spec(OperationSpec):
    """The clean images are the exact share `clean_fraction` of all, or of each class."""

    SCORED: ClassVar[str] = "scorer"
    KEEPS: ClassVar[bool] = True

    scorer: str  #: name in `scorers`
    within: Within = "all"  #: the share is of each class, or of all images
    #: best: the highest scores. random: as many, drawn by (seed, id), which is what a score is held against.
    #: released: those that the released code takes for the best, by mistake (`ambient.data.ranking`)
    choice: Literal["best", "random", "released"] = "best"
    drop: bool = False  #: leave the other images out: for Only Good

    def __post_init__(self) -> None:
        require(self.choice != "released" or self.within == "all", "within", self.within,
                "all if choice is released: that rule knows no classes")

    def words(self, dataset: str | None) -> str:
        within = " within each class" * (self.within == "class")
        return WORDS[self.choice].format(scorer=self.scorer, within=within) + " alone" * self.drop

    def columns(self) -> dict[str, Any]:
        return {"scorer": self.scorer, "within": self.within, "choice": self.choice}


def mix(spec: MixtureSpec, data: Dataset, beside: Scores | None) -> Dataset:
    """All images of `data`, those that are not among the good ones marked; or (`drop`) the good ones alone.

    `beside` are the scores of its images. Raises `ValueError` where the share leaves no image good.
    """
    if beside is None:
        raise ValueError("op rank needs --scores, the scores of the dataset")
    rule, good = spec.operation, is_good(spec, data, beside)
    if not good.any():
        raise ValueError(f"clean_fraction {spec.clean_fraction} leaves none of {len(good)} images clean: "
                         "raise it, or give more images" + " of each class" * (rule.within == "class"))
    mixed = dataclasses.replace(data, corrupted=(~good).astype(np.uint8), scores=None,
                                images=data.images if spec.images else None)
    return mixed.taken(good) if rule.drop else mixed


def is_good(spec: MixtureSpec, data: Dataset, scores: Scores) -> np.ndarray:
    """Whether each image (N,) is among the clean share of its group, by the operation's choice."""
    from ambient.data import ranking
    from ambient.diffusion import randomness

    rule = spec.operation
    score = scores.of(data.ids).score
    if rule.choice == "released":
        return ranking.released_ranks(score) < ranking.count(len(score), spec.clean_fraction)
    if rule.choice == "random":
        score = randomness.uniform("rank", spec.seed, data.ids)
    return ranking.best(score, data.labels, spec.clean_fraction, rule.within)
