"""Stage: the figures of a table: distances beside the paper's, learning curves, classifiers, samples."""

from __future__ import annotations

from ambient import stage
from ambient.spec import TableSpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, TableSpec, many=("metrics", "samples", "losses", "reports", "annotations"),
                      inputs=("table", "metrics", "samples", "losses", "reports", "annotations"),
                      outputs=("out", "out_pdf", "out_curves", "out_classifiers", "out_grid"))

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.annotation_panels import classifiers
from ambient.drawing import STYLE, colour, log_scale, named, plt, save, sheet, show
from ambient.files import read_arrays, read_json
from ambient.spec import RowSpec


def level_key(spec: TableSpec) -> str | None:
    """The one numeric parameter along which a table's rows are levels; None where there is no such."""
    keys = {key for row in spec.rows for key in row.parameters}
    values = [(row.method, value) for row in spec.rows for value in row.parameters.values()]
    numeric = all(isinstance(value, (int, float)) for _, value in values)
    plain = not any(row.settings or row.id for row in spec.rows)
    return keys.pop() if len(keys) == 1 and numeric and plain and len(set(values)) == len(values) else None


def label_of(row: RowSpec) -> str:
    """A row's name in a figure."""
    return named(row.dataset, row.method, parameters=row.parameters)


def bars(axis: plt.Axes, spec: TableSpec, table: pd.DataFrame, value: str, error: str | None,
         label: str) -> None:
    """One panel: `value` of each row, in the table's order from the top."""
    spread = table[error] if error else None
    place = np.arange(len(table))
    axis.errorbar(table[value], place, xerr=spread, fmt="o", capsize=3, color=colour("Ambient-o"))
    axis.set_yticks(place, [label_of(row) for row in spec.rows], fontsize=7)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlabel(label)


def levels(axis: plt.Axes, table: pd.DataFrame, key: str | None, value: str, error: str | None,
           label: str) -> None:
    """One panel: `value` against the corruption's parameter, a line a method, clean as a level."""
    for method, rows in table.groupby("method", sort=False):
        rows = rows.dropna(subset=[value])
        if key is None or rows[key].isna().all():
            for level in rows[value]:
                axis.axhline(level, color=colour(method), ls="--", lw=1.2, label=method)
                if error and np.isfinite(rows[error]).all():
                    spread = float(rows[error].iloc[0])
                    axis.axhspan(level - spread, level + spread, color=colour(method), alpha=0.15)
            continue
        spread = rows[error].fillna(0) if error else None
        axis.errorbar(rows[key], rows[value], yerr=spread, marker="o", capsize=3, lw=1.5,
                      color=colour(method), label=method)
    if (table[value].max() / max(table[value].min(), 1e-9)) > 8:
        log_scale(axis)
    names = {"sigma_px": "blur, standard deviation [pixels]", "quality": "JPEG quality",
             "length_px": "motion blur, length [pixels]"}
    axis.set_xlabel(names.get(key, str(key)))
    axis.set_ylabel(label)


def distances(spec: TableSpec, table: pd.DataFrame) -> plt.Figure:
    """Our distances with the spread over sampling seeds, and the paper's, side by side."""
    metric, samples = table["metric"].iloc[0], int(table["num_samples"].iloc[0])
    key, ours = level_key(spec), f"{metric} ({samples:,} samples)"
    row_by_row = table[key].nunique() == 1 if key else any(r.parameters or r.settings for r in spec.rows)
    if row_by_row:
        figure, axes = plt.subplots(1, 2, figsize=(9.5, 1.2 + 0.32 * len(table)), sharey=True)
        bars(axes[0], spec, table, "value", "value_std", ours)
        bars(axes[1], spec, table, "paper_value", None, "FID (50,000 samples)")
        axes[0].set_title("ours (bar: one std over sampling seeds)", fontsize=9)
        axes[1].set_title("paper (one value each)", fontsize=9)
        figure.tight_layout()
        return figure
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.3))
    levels(axes[0], table, key, "value", "value_std", ours)
    axes[0].set_title("ours (bar: one std over sampling seeds)", fontsize=9)
    levels(axes[1], table, key, "paper_value", None, "FID (50,000 samples)")
    axes[1].set_title("paper (CIFAR-10, one value each)", fontsize=9)
    axes[0].legend(frameon=False)
    figure.tight_layout()
    return figure


def panel_of(row: RowSpec) -> tuple:
    """What a row shares a panel by: target and corruption level, the latter () for clean data alone."""
    return row.dataset, tuple(row.parameters.items())


def curves(spec: TableSpec, metrics: Sequence[Path], losses: Sequence[Path]) -> plt.Figure:
    """Distance and training loss against images seen, a panel for each level, its clean run in all."""
    seeds = len(spec.training_seeds)
    runs = [(row, [read_json(p) for p in metrics[i * seeds:(i + 1) * seeds]], losses[i])
            for i, row in enumerate(spec.rows)]
    every = list(dict.fromkeys(panel_of(row) for row, *_ in runs))
    panels = [panel for panel in every if panel[1]] or every
    distinct = len({row.method for row, *_ in runs}) > 3  # methods with names of their own
    figure, axes = plt.subplots(2, len(panels), squeeze=False, sharex="col", sharey="row",
                                figsize=(1.5 + 2.7 * len(panels), 5.4))
    for (top, bottom), panel in zip(axes.T, panels, strict=True):
        for row, found, log in runs:
            if panel_of(row) not in (panel, (panel[0], ())):
                continue
            shade = None if distinct else colour(row.method)
            scores = pd.DataFrame([s for m in found for s in m["scores"]])
            stats = scores.groupby("nimg")["value"].agg(["mean", "std"]).fillna(0)
            line = top.errorbar(stats.index / 1000, stats["mean"], yerr=stats["std"], marker=".",
                                capsize=2, color=shade, label=row.method)
            seen, loss = smoothed(log)
            bottom.plot(seen / 1000, loss, color=line.lines[0].get_color(), lw=1)
        top.set_title(named(panel[0], parameters=dict(panel[1])), fontsize=9)
        bottom.set_xlabel("images seen [thousands]")
        for axis in (top, bottom):
            log_scale(axis)
    axes[0][0].set_ylabel(runs[0][1][0]["metric"])
    axes[1][0].set_ylabel("training loss (first seed)")
    for axis in axes[0] if distinct else axes[0][:1]:
        axis.legend(frameon=False, fontsize=7 if distinct else 9)
    figure.tight_layout()
    return figure


def smoothed(log: Path, parts: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """(images seen, loss): means of a training's log over equal parts of it."""
    table = pd.read_json(log, lines=True)
    part = np.arange(len(table)) * min(parts, len(table)) // len(table)
    means = table.groupby(part)[["nimg", "loss"]].mean()
    return means["nimg"].to_numpy(), means["loss"].to_numpy()


def grid(samples: Sequence[Path], names: Sequence[str], columns: int = 12, rows: int = 3) -> plt.Figure:
    """Uncurated samples of each run's last snapshot, all from the same latents (first sampling seed)."""
    figure, axes = plt.subplots(len(names), 1, squeeze=False,
                                figsize=(columns * 0.55, len(names) * (rows * 0.55 + 0.25)))
    for axis, path, name in zip(axes[:, 0], samples, names, strict=True):
        arrays = read_arrays(path)
        images = arrays[max(arrays, key=int)][0][:columns * rows]
        show(axis, sheet(images, columns), name)
    figure.tight_layout()
    return figure


def main(spec: TableSpec, record, *, table: Path, metrics: list[Path], samples: list[Path],
         losses: list[Path], reports: list[Path], annotations: list[Path], out: Path, out_pdf: Path,
         out_curves: Path, out_classifiers: Path, out_grid: Path) -> None:
    """Draw everything that belongs to one table."""
    names = [label_of(row) for row in spec.rows]
    annotated = [row for row in spec.rows if row.annotated]
    with plt.rc_context(STYLE):
        data = pd.read_csv(table)
        save(distances(spec, data), out, out_pdf)
        save(curves(spec, metrics, losses), out_curves)
        save(classifiers(annotated, reports, annotations), out_classifiers)
        save(grid(samples, names), out_grid)


if __name__ == "__main__":
    job.run(main)
