"""Scores of images by a measure of quality, with the images on both sides of the threshold."""

from __future__ import annotations

import numpy as np

from ambient.data.datasets import Dataset
from ambient.report.drawing import BLACK, CLEAN, CORRUPTED, heading, plt, sheet, show
from ambient.storage.arrays import concatenated

BINS = 40
NOTE = ("Images from the threshold on are good. Where those just below it look as good as those above, a "
        "lower threshold (at_least) gives more good images. Where those above look poor, raise it.")


def examples(scores: np.ndarray, threshold: float, count: int) -> dict[str, np.ndarray]:
    """The places of up to `count` images each: the worst, those next to the threshold, the best.

    Each list rises by score. No image is in two of them: where there are few, those next to the threshold
    come first.
    """
    order = np.argsort(scores, kind="stable")
    first_good = int((scores < threshold).sum())
    below, above = order[:first_good], order[first_good:]
    near = max(len(below) - count, 0)  # the place in `below` from which images are next to the threshold
    return {"the worst": below[:near][:count], "just below the threshold": below[near:],
            "just above the threshold": above[:count], "the best": above[count:][-count:]}


def check(good: Dataset, poor: Dataset, threshold: float) -> None:
    """Refuse images without scores, or that lie on the wrong side of the threshold."""
    for name, part in (("good", good), ("poor", poor)):
        if part.scores is None:
            raise ValueError(f"the {name} images have no scores, allowed: datasets that are selected by "
                             "quality or scores")
        wrong = part.scores[(part.scores >= threshold) != (name == "good")]
        if len(wrong):
            raise ValueError(f"a {name} image scores {wrong[0]:.4g}, on the wrong side of {threshold:g}: "
                             "select both datasets by the same rule")


def quality(good: Dataset, poor: Dataset, measure: str, threshold: float, count: int,
            title: str | None) -> plt.Figure:
    """The histogram of both parts' scores, above rows of `count` images each (`examples`).

    Raises `ValueError` for a dataset that no score has chosen, or whose scores contradict the threshold.
    """
    check(good, poor, threshold)
    images, scores = concatenated([poor.images, good.images]), np.concatenate([poor.scores, good.scores])
    lines = {name: rows for name, rows in examples(scores, threshold, count).items() if len(rows)}
    figure, axes = plt.subplots(1 + len(lines), 1, layout="constrained",
                                height_ratios=[2.4] + [0.9] * len(lines),
                                figsize=(max(0.75 * count, 5.0), 3.2 + 0.95 * len(lines)))
    histogram(axes[0], good.scores, poor.scores, measure, threshold)
    for axis, (name, rows) in zip(axes[1:], lines.items(), strict=True):
        ends = f"{scores[rows[0]]:.3g} to {scores[rows[-1]]:.3g}"
        show(axis, sheet(images[rows], count), f"{name}: {ends}")
    heading(figure, title, NOTE)
    return figure


def histogram(axis: plt.Axes, good: np.ndarray, poor: np.ndarray, measure: str, threshold: float) -> None:
    """Counts of both parts by score, in common bins of which the threshold is an edge."""
    every = np.concatenate([poor, good, [threshold]])
    width = max(float(np.ptp(every)), 1e-9) / BINS
    low, high = (int(np.floor((end - threshold) / width)) for end in (every.min(), every.max()))
    edges = threshold + width * np.arange(low, high + 2)
    for values, shade, name in ((poor, CORRUPTED, "poor"), (good, CLEAN, "good")):
        share = len(values) / (len(every) - 1)
        axis.hist(values, bins=edges, color=shade, alpha=0.8,
                  label=f"{len(values):,} {name} images ({share:.0%})")
    axis.axvline(threshold, color=BLACK, lw=1.2, ls="--", label=f"threshold, {threshold:g}")
    axis.set(xlabel=f"{measure} (higher is better)", ylabel="images")
    axis.legend(frameon=False, fontsize=8)
