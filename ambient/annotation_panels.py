"""Panels of the annotated runs of a table: what their classifiers say, and what came of it for the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.drawing import CLEAN, CORRUPTED, OTHER, colour, named, plt, sigma_axis
from ambient.files import read_arrays, read_json
from ambient.spec import RowSpec


def classifiers(rows: Sequence[RowSpec], reports: Sequence[Path], annotations: Sequence[Path]) -> plt.Figure:
    """A column for each annotated row of a table.

    By a noise classifier: its held-out P(clean) against sigma, and the histogram of sigma_min. By crops:
    the mean P(target) of the other images against the crop's size, and the histogram of their sigma_max.
    """
    if not rows:
        figure = plt.figure(figsize=(4.6, 1.0))
        figure.text(0.5, 0.5, "no row of this table is annotated by a classifier", ha="center")
        return figure
    figure, axes = plt.subplots(2, len(rows), squeeze=False, figsize=(1.2 + 3.4 * len(rows), 5.0))
    for (top, bottom), row, report, table in zip(axes.T, rows, reports, annotations, strict=True):
        panel = {"noise": noise, "crops": crops}[row.annotated]
        panel(top, bottom, read_json(report), read_arrays(table))
        top.set_title(named(row.dataset, row.method, parameters=row.parameters), fontsize=8)
        top.legend(frameon=False)
    figure.tight_layout()
    return figure


def noise(top: plt.Axes, bottom: plt.Axes, report: Mapping, table: Mapping[str, np.ndarray]) -> None:
    """The panels of a noise classifier."""
    levels = pd.DataFrame(report["levels"])
    top.plot(levels["sigma"], levels["p_clean_of_clean"], color=CLEAN, label="clean images")
    top.plot(levels["sigma"], levels["p_clean_of_corrupted"], color=CORRUPTED, label="corrupted images")
    top.axhline(0.5, color="black", lw=0.7, ls=":")
    top.set(ylim=(0, 1), ylabel="held-out mean P(clean)")
    sigma_min = table["sigma_min"]
    histogram(bottom, sigma_min[(sigma_min > 0) & np.isfinite(sigma_min)])
    bottom.set_xlim(levels["sigma"].min() * 0.8, levels["sigma"].max() * 1.25)
    bottom.set_ylabel("corrupted images, by sigma_min")
    for axis in (top, bottom):
        sigma_axis(axis)


def crops(top: plt.Axes, bottom: plt.Axes, report: Mapping, table: Mapping[str, np.ndarray]) -> None:
    """The panels of an annotation by crops; `table` holds sigma_min = infinity for each of its images."""
    sizes = sorted(report["p_target_mean"], key=int)
    top.plot(sizes, [report["p_target_mean"][size] for size in sizes], "o-", color=OTHER,
             label="other images, all patches")
    top.set(ylim=(0, 1), xlabel="crop [pixels]", ylabel="mean P(target)")
    sigma_max = table["sigma_max"][np.isinf(table["sigma_min"])]
    histogram(bottom, sigma_max[sigma_max > 0])
    never = float((sigma_max == 0).mean())
    bottom.set_ylabel("other images, by sigma_max")
    bottom.set_title(f"never usable: {100 * never:.0f} %", fontsize=8)
    if never < 1:
        bottom.set_xlim(sigma_max[sigma_max > 0].min() / 3, sigma_max.max() * 3)
        sigma_axis(bottom)


def histogram(axis: plt.Axes, values: np.ndarray) -> None:
    """Counts of positive levels and their mean; nothing where there are none."""
    if len(values):
        axis.hist(values, bins=edges_of(values), color=colour("Ambient-o"))
        axis.axvline(values.mean(), color="black", lw=1, label=f"mean {values.mean():.2g}")
        axis.legend(frameon=False)


def edges_of(values: np.ndarray) -> np.ndarray:
    """Histogram edges, even in the logarithm; one bin a level where the values are few levels."""
    levels_found = np.unique(values)
    if len(levels_found) == 1:  # one bin wide enough to be seen
        return levels_found[0] * np.array([0.85, 1.15])
    if len(levels_found) <= 40:
        middles = np.sqrt(levels_found[1:] * levels_found[:-1])
        return np.r_[levels_found[0] ** 2 / middles[0], middles, levels_found[-1] ** 2 / middles[-1]]
    return np.geomspace(values.min() * 0.95, values.max() * 1.05, 30)
