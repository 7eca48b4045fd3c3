"""Figure `sources`: the best and the worst images of several datasets, and how their scores are distributed.

Figures 26 to 29 of the paper, which are its reason for using one source's images at high noise alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ambient.specs import DatasetSpec, FigureSpec
from ambient.specs.data import SUBSET_SEED
from ambient.specs.strict import require_distinct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 40


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`datasets` are ranked by `scorer`; `images` are shown of the best and of the worst of each."""

    STAGE: ClassVar[str] = "crops_figures"
    READS: ClassVar[tuple[str, ...]] = ("images",)
    FOLLOWS: ClassVar[tuple[str, ...]] = ("labels", "levels")
    CAPTION: ClassVar[str] = (
        "The best and the worst images of each source by their score, and how its scores are distributed. A "
        "source whose images score low throughout teaches at high noise alone, from its sigma_min on.")

    scorer: str  #: name in `scorers`
    datasets: tuple[str, ...]  #: names in `datasets`
    labels: tuple[str, ...]  #: the datasets, in a reader's words
    levels: tuple[float, ...]  #: the sigma_min of each dataset's entry

    def __post_init__(self) -> None:
        super().__post_init__()
        require_distinct(self.datasets, "datasets")

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """Words and levels of the datasets. Raises `SpecError` for images that the scorer can't score."""
        names = cls.listed(settings, where, own, "datasets")
        for name in names:
            settings.check_scorer(name, own.get("scorer"), f"{where}.scorer")
        entries = {name: settings.dataset(name) for name in names}
        return {"labels": [settings.label("datasets", name) + subset(one) for name, one in entries.items()],
                "levels": [one.sigma_min for one in entries.values()]}


def subset(spec: DatasetSpec) -> str:
    """Words on the images of a source where a dataset has some of them alone."""
    if spec.max_images is None or spec.max_images >= (spec.num_images or math.inf):
        return ""
    of = f" of {spec.num_images:,}" if spec.num_images else ""
    return f" ({spec.max_images:,} images{of}, drawn by seed {SUBSET_SEED})"


def reads(files, name: str, entry) -> dict:
    """Each dataset, and its scores."""
    spec = files.experiments.figure(name)
    return {"sources": [files.path("prepare", dataset=one) for one in spec.datasets],
            "scored": [files.scores(one, spec.scorer) for one in spec.datasets]}


def draw(spec: Spec, sources: Sequence[Path], scored: Sequence[Path]) -> Figure:
    """Two strips for each dataset, and below them the histograms of all scores."""
    from ambient.data.datasets import read
    from ambient.data.scores import Scores
    from ambient.report.captions import title_of
    from ambient.report.drawing import SIGMA_MIN, heading, plt, sheet, show
    from ambient.report.scored import extremes

    found = []
    for path, scores, label, level in zip(sources, scored, spec.labels, spec.levels, strict=True):
        dataset = read(path)
        found.append((label, level, dataset.images, Scores.read(scores).of(dataset.ids).score))
    figure = plt.figure(figsize=(0.6 * spec.images + 0.4, 2.1 * len(found) + 3.2), layout="constrained")
    places = figure.add_gridspec(2 * len(found) + 1, 1, height_ratios=[1] * 2 * len(found) + [3])
    for k, (label, level, images, score) in enumerate(found):
        named = f"{label} ({SIGMA_MIN} = {level:g})" if level else label
        ranked = extremes(score, np.zeros(len(score), np.int64), spec.images)
        for j, (what, rows) in enumerate(zip(("best", "worst"), ranked, strict=True)):
            title = f"{named}, the {what}: {spec.scorer} {score[rows].max():.3g} to {score[rows].min():.3g}"
            chosen = np.stack([images[row] for row in rows])
            show(figure.add_subplot(places[2 * k + j]), sheet(chosen, spec.images), title)
    histograms(figure.add_subplot(places[-1]), {label: score for label, _, _, score in found}, spec.scorer)
    heading(figure, title_of(spec), "All images of each source, or of the part that is named, are "
            "ranked. From the best on, and from the worst on; a higher score is better.")
    return figure


def histograms(axis: Axes, scores: Mapping[str, np.ndarray], scorer: str) -> None:
    """The share of each source's images in common bins."""
    from ambient.report.drawing import line_of

    edges = np.histogram_bin_edges(np.concatenate(list(scores.values())), BINS)
    for label, score in scores.items():
        look = line_of(label, list(scores))
        axis.hist(score, bins=edges, weights=np.full(len(score), 1 / len(score)), histtype="step",
                  color=look["color"], ls=look["ls"], label=f"{label}, {len(score):,} images")
    axis.set(xlabel=f"{scorer} (higher is better)", ylabel="share of the source")
    axis.legend(frameon=False, fontsize=8)
