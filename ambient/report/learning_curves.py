"""Learning curves of a table's runs: distance and training loss against images seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.report.captions import plural
from ambient.report.drawing import heading, line_of, log_scale, plt
from ambient.specs import RowSpec, TableSpec
from ambient.storage.files import read_json


def panel_of(row: RowSpec) -> tuple[str | None, str]:
    """What a row shares a panel by: target and corruption level, which is "" for clean data alone."""
    return row.dataset, ", ".join(f"{key}={value}" for key, value in row.parameters.items())


def statistics(metrics: Sequence[dict]) -> pd.DataFrame:
    """Mean and spread at each snapshot (index nimg), from the scores of a row's training seeds.

    Several training seeds: the standard deviation of their means. One: that over its sampling seeds, NaN at
    snapshots that have one sample of samples only.
    """
    scores = pd.concat([pd.DataFrame(m["scores"]).assign(training=k) for k, m in enumerate(metrics)])
    means = scores.groupby(["nimg", "training"])["value"].mean().groupby("nimg").agg(["mean", "std"])
    if len(metrics) == 1:
        means["std"] = scores.groupby("nimg")["value"].std()
    return means


def note_of(runs: Sequence[tuple]) -> str:
    """Which seeds the bars are, and what the loss is of."""
    trainings = len(runs[0][1])
    counts = [pd.DataFrame(m["scores"]).groupby("nimg").size() for _, metrics, _ in runs for m in metrics]
    last = plural(max(int(one.iloc[-1]) for one in counts), "sampling seed")
    first = min(int(one.min()) for one in counts)
    fewer = f", {first} at earlier snapshots" if any(one.nunique() > 1 for one in counts) else ""
    bars = (f"{trainings} training seeds" if trainings > 1 else f"{last}{fewer}, of one training seed")
    return (f"Bars: standard deviation over {bars}. Losses are of the first training seed; methods have "
            "losses of their own, so that only a curve's shape says something.")


def curves(spec: TableSpec, metrics: Sequence[Path], losses: Sequence[Path]) -> plt.Figure:
    """Distance and training loss against images seen, a panel for each level, its clean run in all."""
    seeds = len(spec.training_seeds)
    runs = [(row, [read_json(p) for p in metrics[i * seeds:(i + 1) * seeds]], losses[i])
            for i, row in enumerate(spec.rows)]
    every = list(dict.fromkeys(panel_of(row) for row in spec.rows))
    panels = [panel for panel in every if panel[1]] or every
    most = max(score["nimg"] for score in runs[0][1][0]["scores"])
    unit, word = (1e6, "millions") if most > 2e6 else (1e3, "thousands")
    distinct = len({row.method for row in spec.rows}) > 3  # methods with names of their own
    figure, axes = plt.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row",
                                layout="constrained", figsize=(2.0 + 2.9 * len(panels), 5.8))
    for (top, bottom), panel in zip(axes.T, panels, strict=True):
        shown = [run for run in runs if panel_of(run[0]) in (panel, (panel[0], ""))]
        for row, found, log in shown:
            look = line_of(row.method, [r.method for r in spec.rows])
            stats = statistics(found)
            top.errorbar(stats.index / unit, stats["mean"], yerr=stats["std"].fillna(0), capsize=2,
                         label=row.method, ms=4, **look)
            seen, loss = smoothed(log)
            bottom.plot(seen / unit, loss, color=look["color"], ls=look["ls"], lw=1)
        top.set_title(title_of(panel, spec.rows), fontsize=9)
        bottom.set_xlabel(f"images seen [{word}]")
        for axis in (top, bottom):
            log_scale(axis)
    axes[0][0].set_ylabel(f"{runs[0][1][0]['metric']} (lower is better)")
    axes[1][0].set_ylabel("training loss")
    for axis in axes[0] if distinct else axes[0][:1]:
        axis.legend(frameon=False, fontsize=7 if distinct else 9)
    heading(figure, f"Learning curves. {spec.title or spec.name}", note_of(runs))
    return figure


def title_of(panel: tuple, rows: Sequence[RowSpec]) -> str:
    """A panel's target and corruption in words, the target where there are several."""
    row = next(row for row in rows if panel_of(row) == panel)
    several = len({r.dataset for r in rows}) > 1
    parts = [row.target or row.dataset] if several or not row.corruption_label else []
    return ", ".join(part for part in [*parts, row.corruption_label] if part)


def smoothed(log: Path, parts: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(images seen, loss): means of a training's log over equal parts of it."""
    table = pd.read_json(log, lines=True)
    part = np.arange(len(table)) * min(parts, len(table)) // len(table)
    means = table.groupby(part)[["nimg", "loss"]].mean()
    return means["nimg"].to_numpy(), means["loss"].to_numpy()
