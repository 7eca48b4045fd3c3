"""Panels of the annotated runs of a table: what their classifiers say, and what came of it for the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.report.captions import corruption_of_all, label_of
from ambient.report.drawing import (
    BLACK,
    OTHER,
    SIGMA_MAX,
    SIGMA_MIN,
    SKY,
    heading,
    plt,
    sigma_axis,
    verdicts,
)
from ambient.specs import RowSpec, TableSpec
from ambient.storage.files import read_arrays, read_json

NOTE = ("Top: a noise classifier's verdict on images that it was not trained on; the band is Wilson's 95 % "
        "interval for so many images. Bottom: what came of it for the images that were trained on.")


def classifiers(spec: TableSpec, rows: Sequence[tuple[RowSpec, Path, Path]],
                reports: Sequence[Path]) -> plt.Figure:
    """A column for each annotated row of a table, given as (row, its annotations, their summary).

    By a noise classifier: its held-out P(clean) against sigma, and the histogram of sigma_min. By crops:
    the mean P(target) of the other images against the crop's size, and the histogram of their sigma_max.
    """
    if not rows:
        figure = plt.figure(figsize=(4.6, 1.0))
        figure.text(0.5, 0.5, "no row of this table is annotated by a classifier", ha="center")
        return figure
    figure, axes = plt.subplots(2, len(rows), squeeze=False, layout="constrained",
                                figsize=(1.2 + 3.6 * len(rows), 5.8))
    for (top, bottom), (row, table, summary), report in zip(axes.T, rows, reports, strict=True):
        if row.annotated == "noise":
            noise(top, bottom, read_json(report), read_arrays(table), read_json(summary), row.tau)
        else:
            crops(top, bottom, read_json(report), read_arrays(table))
        top.set_title(label_of(row, spec.rows), fontsize=9)
        top.legend(frameon=False, fontsize=8)
    one_sigma_axis([axis for pair, (row, *_) in zip(axes.T, rows, strict=True) if row.annotated == "noise"
                    for axis in pair])
    note = NOTE + " Of a row that learns from several mixtures the first is shown."
    heading(figure, f"Noise classifiers. {spec.title or spec.name}{corruption_of_all(spec.rows)}",
            note if any(row.parts > 1 for row, *_ in rows) else NOTE)
    return figure


def one_sigma_axis(axes: Sequence[plt.Axes]) -> None:
    """The same noise levels on all panels, so that a crossing above lies over its levels below."""
    if axes:
        limits = [axis.get_xlim() for axis in axes]
        for axis in axes:
            axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
            sigma_axis(axis)


def noise(top: plt.Axes, bottom: plt.Axes, report: Mapping, table: Mapping[str, np.ndarray], summary: Mapping,
          tau: float | None) -> None:
    """The panels of a noise classifier."""
    verdicts(top, pd.DataFrame(report["levels"]), report.get("held_out", {}), tau)
    sigma_min = table["sigma_min"]
    used = sigma_min[(sigma_min > 0) & np.isfinite(sigma_min)]
    never, last = summary.get("never_crossed", 0), summary.get("last_level")
    histogram(bottom, used)
    if never and last and last in used:
        bottom.axvspan(last / 1.1, last * 1.1, color=BLACK, alpha=0.15, lw=0,
                       label=f"{never:,} never cross: given the last level, {last:.2g}")
        bottom.legend(frameon=False, fontsize=8)
    bottom.set_ylabel(f"corrupted images, by {SIGMA_MIN}")
    for axis in (top, bottom):
        axis.set_xscale("log")


def crops(top: plt.Axes, bottom: plt.Axes, report: Mapping, table: Mapping[str, np.ndarray]) -> None:
    """The panels of an annotation by crops; `table` holds sigma_min = infinity for each of its images."""
    sizes = sorted(report["p_target_mean"], key=int)
    top.plot(sizes, [report["p_target_mean"][size] for size in sizes], "o-", color=OTHER,
             label="other images, all patches")
    top.set(ylim=(0, 1), xlabel="crop [pixels]", ylabel="mean P(patch is the target's)")
    sigma_max = table["sigma_max"][np.isinf(table["sigma_min"])]
    histogram(bottom, sigma_max[sigma_max > 0])
    never, count = int((sigma_max == 0).sum()), len(sigma_max)
    bottom.set_ylabel(f"other images, by {SIGMA_MAX}")
    bottom.set_title(f"never usable: {never:,} of {count:,} ({100 * never / count:.0f} %)", fontsize=8)
    if never < count:
        bottom.set_xlim(sigma_max[sigma_max > 0].min() / 3, sigma_max.max() * 3)
        sigma_axis(bottom)


def histogram(axis: plt.Axes, values: np.ndarray) -> None:
    """Counts of positive levels and their mean; nothing where there are none."""
    if len(values):
        axis.hist(values, bins=edges_of(values), color=SKY)
        label = f"mean {values.mean():.2g}, of {len(values):,} images"
        axis.axvline(values.mean(), color=BLACK, lw=1, label=label)
        axis.legend(frameon=False, fontsize=8)


def edges_of(values: np.ndarray) -> np.ndarray:
    """Histogram edges, even in the logarithm; one bin a level where the values are few levels."""
    levels_found = np.unique(values)
    if len(levels_found) == 1:  # one bin wide enough to be seen
        return levels_found[0] * np.array([0.85, 1.15])
    if len(levels_found) <= 40:
        middles = np.sqrt(levels_found[1:] * levels_found[:-1])
        return np.r_[levels_found[0] ** 2 / middles[0], middles, levels_found[-1] ** 2 / middles[-1]]
    return np.geomspace(values.min() * 0.95, values.max() * 1.05, 30)
