"""Figure `score_histogram`: how scores are distributed, and which share counts as good (figure 30)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.report import scored
from ambient.report.scored import ScoredSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 40


@dataclass(frozen=True, kw_only=True)
class Spec(ScoredSpec):
    """The good images are the study's clean fraction, of all or of each class."""

    CAPTION: ClassVar[str] = (
        "How the images of the dataset score (left), and down to which score each fraction of them reaches "
        "(right). There is no step between good and poor images: where the good ones end is a choice.")


reads = scored.reads


def draw(spec: Spec, data: Path, scores: Path) -> Figure:
    """The histogram of the good images and of the others, and the score against the fraction of the data."""
    from ambient.data.datasets import read
    from ambient.data.ranking import best
    from ambient.data.scores import Scores
    from ambient.report.captions import title_of
    from ambient.report.drawing import heading, plt

    dataset = read(data)
    score = Scores.read(scores).of(dataset.ids).score
    good = best(score, dataset.labels, spec.share, spec.within)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    histogram(left, score, good, spec.scorer)
    against_fraction(right, score, good, spec)
    where = "In each class the best" if spec.within == "class" else "The best"
    heading(figure, title_of(spec), f"{where} {spec.share:.4g} of the images count as good; a higher score "
            "is better.")
    return figure


def histogram(axis: Axes, score: np.ndarray, good: np.ndarray, scorer: str) -> None:
    """Counts of the good images on top of the others, in common bins."""
    from ambient.report.drawing import CLEAN, CORRUPTED

    axis.hist([score[~good], score[good]], bins=np.histogram_bin_edges(score, BINS), stacked=True,
              color=(CORRUPTED, CLEAN), alpha=0.8,
              label=[f"{int((~good).sum()):,} others", f"{int(good.sum()):,} good images"])
    axis.set(xlabel=f"{scorer} (higher is better)", ylabel="images")
    axis.legend(frameon=False, fontsize=8)


def against_fraction(axis: Axes, score: np.ndarray, good: np.ndarray, spec: Spec) -> None:
    """The scores in falling order against the fraction of the images, and the least of the good ones."""
    from ambient.report.drawing import BLACK, BLUE

    axis.plot((np.arange(len(score)) + 1) / len(score), np.sort(score)[::-1], color=BLUE)
    axis.axvline(spec.share, color=BLACK, lw=0.8, ls=":", label=f"{spec.share:.4g} of the images")
    if good.any():
        least = score[good].min()
        name = "threshold" if spec.within == "all" else "the lowest threshold of a class"
        axis.axhline(least, color=BLACK, lw=1, ls="--", label=f"{name}, {least:.3g}")
    axis.set(xlim=(0, 1), xlabel="fraction of the images, from the best on", ylabel=spec.scorer)
    axis.legend(frameon=False, fontsize=8)
