"""Figure `best_worst`: the images with the highest and the lowest scores (figure 4 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ambient.report import scored
from ambient.report.scored import ScoredSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 2  # of each group


@dataclass(frozen=True, kw_only=True)
class Spec(ScoredSpec):
    """`images` are shown in a row, two rows of each group."""

    READS: ClassVar[tuple[str, ...]] = ("images",)
    CAPTION: ClassVar[str] = (
        "The best and the worst images of the dataset by their score. Nobody damaged them: they differ in "
        "quality by nature. The best count as good, and the others are used at high noise alone.")


reads = scored.reads


def draw(spec: Spec, data: Path, scores: Path) -> Figure:
    """Rows of the best images and of the worst, with the range of their scores."""
    from ambient.data.datasets import read
    from ambient.data.ranking import groups_of
    from ambient.data.scores import Scores
    from ambient.report.captions import title_of
    from ambient.report.drawing import strips

    dataset = read(data)
    score = Scores.read(scores).of(dataset.ids).score
    best, worst = scored.extremes(score, groups_of(dataset.labels, spec.within), ROWS * spec.images)
    lines = [(f"{name}: {spec.scorer} {score[rows].max():.3g} to {score[rows].min():.3g}",
              dataset.images[rows]) for name, rows in (("the best", best), ("the worst", worst))]
    how = "in each class by turns" if spec.within == "class" else "of all images"
    return strips(lines, spec.images, title_of(spec),
                  f"From the best on, and from the worst on, {how}; a higher score is better.")
