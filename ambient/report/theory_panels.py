"""The figure of the one-dimensional theory (section 4)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ambient.report.drawing import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    log_scale,
    plt,
    sigma_axis,
)
from ambient.specs import TheorySpec

MARKS = {"measured": (BLACK, "-"), "predicted": (PURPLE, "--"),
         "optimal_classifier": (GREEN, ":"), "trained_classifier": (GREEN, "-.")}
ALGORITHMS = {1: ORANGE, 2: BLUE}


def panel(axis: plt.Axes, table: pd.DataFrame, crossing: pd.Series, delta: float) -> None:
    """One pair: distances and bounds of both algorithms against sigma, and the four crossings."""
    for algorithm, rows in table.groupby("algorithm"):
        shade = ALGORITHMS[algorithm]
        label = f"Algorithm {algorithm}: median, {100 * delta:g} to {100 * (1 - delta):g} %"
        axis.plot(rows["sigma"], rows["tv_median"], color=shade, label=label)
        axis.fill_between(rows["sigma"], rows["tv_low"], rows["tv_high"], color=shade, alpha=0.2, lw=0)
        axis.plot(rows["sigma"], rows["bound"], color=shade, ls="--", lw=1,
                  label=f"bound 4.{2 + algorithm}")
    biased = table[table["algorithm"] == 2]
    axis.plot(biased["sigma"], biased["tv_bias"], color=ALGORITHMS[2], ls=":", label="bias of Algorithm 2")
    for name, (shade, line) in MARKS.items():
        at = crossing[f"sigma_min_{name}"]
        if np.isfinite(at):
            axis.axvline(at, color=shade, ls=line, lw=1.3)
    axis.set_title(crossing["pair"], fontsize=9)
    axis.set_ylim(3e-4, 3)
    log_scale(axis)
    sigma_axis(axis)


def contraction(axis: plt.Axes, table: pd.DataFrame) -> None:
    """Theorem 4.2: smoothed distance over its bound, against the noise level in diameters."""
    for kind, rows in table.groupby("kind"):
        axis.plot(rows["sigma"] / rows["diameter"], rows["ratio"], ".",
                  ms=7 if kind == "two points" else 2, label=kind,
                  color=RED if kind == "two points" else BLUE)
    axis.axhline(1, color=BLACK, lw=1, ls="--", label="Theorem 4.2")
    axis.axhline(np.sqrt(2 / np.pi), color=BLACK, lw=1, ls=":", label="sqrt(2 / pi)")
    axis.set(ylim=(0, 1.45), title="Theorem 4.2 on pairs of measures", ylabel="distance / bound")
    axis.title.set_fontsize(9)
    sigma_axis(axis, "noise level sigma / diameter D")
    axis.legend(frameon=False, fontsize=7, loc="upper left", ncol=2)


def panels(spec: TheorySpec, table: pd.DataFrame, crossings: pd.DataFrame,
           contracted: pd.DataFrame) -> plt.Figure:
    """A panel for each pair, and one for Theorem 4.2."""
    pairs = len(crossings)
    rows = -(-(pairs + 1) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(11, 3.3 * rows + 0.7), squeeze=False)
    for axis, (_, crossing) in zip(axes.flat, crossings.iterrows(), strict=False):
        panel(axis, table[table["pair"] == crossing["pair"]], crossing, spec.delta)
    limits = [axis.get_xlim() for axis in axes.flat[:pairs]]
    for axis in axes.flat[:pairs]:
        axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    contraction(axes.flat[pairs], contracted)
    for axis in axes.flat[pairs + 1:]:
        axis.axis("off")
    for line in axes[:, 0]:
        line.set_ylabel("total variation distance")
    legend(figure, axes[0][0], rows)
    figure.tight_layout()
    return figure


def legend(figure: plt.Figure, axis: plt.Axes, rows: int) -> None:
    """One legend under `rows` of panels: the lines of a pair's panel, and the four crossings."""
    handles, labels = axis.get_legend_handles_labels()
    marks = [plt.Line2D([], [], color=c, ls=s, label=f"sigma_min, {n.replace('_', ' ')}")
             for n, (c, s) in MARKS.items()]
    figure.legend(handles + marks, labels + [m.get_label() for m in marks], ncol=3, frameon=False,
                  fontsize=8, loc="lower center", bbox_to_anchor=(0.5, -0.12 / rows - 0.02))
