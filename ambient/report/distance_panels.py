"""A table's distances beside the paper's: row by row, or against the level of a corruption."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ambient.report.captions import (
    MAIN,
    PARAMETERS,
    corruption_of_all,
    distinct,
    label_of,
    metric_axis,
    published,
    published_axis,
    published_title,
    targets,
    uncertainty,
)
from ambient.report.drawing import heading, line_of, log_scale, plt
from ambient.specs import TableSpec

WIDTHS = 3.5, 1.0  # of bars over training seeds, and over sampling seeds


def level_key(spec: TableSpec) -> str | None:
    """The one numeric parameter along which a table's rows are levels; None where there is no such."""
    keys = {key for row in spec.rows for key in row.parameters}
    values = [(row.method, value) for row in spec.rows for value in row.parameters.values()]
    numeric = all(isinstance(value, (int, float)) for _, value in values)
    plain = not any(row.settings or row.id for row in spec.rows)
    return keys.pop() if len(keys) == 1 and numeric and plain and len(set(values)) == len(values) else None


def note_of(table: pd.DataFrame) -> str:
    """Which seeds the bars of ours are."""
    return f"Ours: {uncertainty(int(table['num_training_seeds'].max()), int(table['num_seeds'].max()))}."


def spreads(table: pd.DataFrame, value: str) -> list[tuple[np.ndarray, float]]:
    """(standard deviations, width of their bar): over training seeds if several; the distance's over sampling
    seeds, and a score's standard error."""
    scorer = value.removesuffix("_overall").removesuffix("_mean")
    names = ("training_std", "value_std") if value == "value" else (f"{scorer}_training_std", f"{value}_se")
    found = [(table[name].to_numpy(float), width) for name, width in zip(names, WIDTHS, strict=True)
             if name in table]
    return [(values, width) for values, width in found if np.isfinite(values).any()]


def bar(width: float) -> dict:
    """How an error bar looks: a thick one is pale, and has no caps."""
    thick = width > 2
    return {"fmt": "none", "elinewidth": width, "capsize": 0 if thick else 3, "alpha": 0.45 if thick else 1.0}


def bars(axis: plt.Axes, spec: TableSpec, table: pd.DataFrame, value: str, label: str) -> None:
    """One panel: `value` of each row, in the table's order from the top."""
    for place, (row, one) in enumerate(zip(spec.rows, table[value], strict=True)):
        look = line_of(row.method, [r.method for r in spec.rows])
        axis.plot([one], [place], ls="none", marker=look["marker"], color=look["color"])
        for values, width in spreads(table, value):
            axis.errorbar([one], [place], xerr=values[place:place + 1], color=look["color"], **bar(width))
    axis.set_yticks(range(len(table)), [label_of(row, spec.rows) for row in spec.rows], fontsize=8)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.locator_params(axis="x", nbins=5)  # more labels of four digits would run into each other
    axis.set_xlabel(label)


def levels(axis: plt.Axes, spec: TableSpec, table: pd.DataFrame, value: str, label: str) -> None:
    """One panel: `value` against the corruption's parameter, a line a method, clean data as a level."""
    key, methods = level_key(spec), [row.method for row in spec.rows]
    for method, rows in table.groupby("method", sort=False):
        rows, look = rows.dropna(subset=[value]), line_of(method, methods)
        bands = spreads(rows, value)
        if rows[key].isna().all():
            for level in rows[value]:
                axis.axhline(level, color=look["color"], ls=look["ls"], lw=1.2, label=method)
            for values, _ in bands:
                axis.axhspan(level - values[0], level + values[0], color=look["color"], alpha=0.1, lw=0)
            continue
        axis.plot(rows[key], rows[value], lw=1.5, label=method, **look)
        for values, width in bands:
            axis.errorbar(rows[key], rows[value], yerr=np.nan_to_num(values), color=look["color"],
                          **bar(width))
    if (table[value].max() / max(table[value].min(), 1e-9)) > 8:
        log_scale(axis)
    axis.set_xlabel(PARAMETERS.get(key, str(key)))
    axis.set_ylabel(label)


def scored(spec: TableSpec, table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(column, axis, title) of the panel of each scorer, which has the number that the scorer is about.

    Beside it stands a panel of the published ones, where there are any.
    """
    found = []
    for one in spec.scorers:
        key = next(key for key in MAIN if f"{one}_{key}" in table)
        column, axis = f"{one}_{key}", f"{one}, {key} (higher is better)"
        found.append((column, axis, f"ours: {one}"))
        if f"paper_{column}" in table and table[f"paper_{column}"].notna().any():
            found.append((f"paper_{column}", axis, f"paper: {one}, one value each"))
    return found


def distances(spec: TableSpec, table: pd.DataFrame) -> plt.Figure:
    """Our distances with both spreads, beside them published ones where there are any, and scores."""
    ours = metric_axis(joined_metrics(table), table["num_samples"])
    key = level_key(spec)
    by_level = key is not None and table[key].nunique() > 1
    panels = [("value", ours, f"ours: {targets(spec.rows)}".removesuffix(": "))]
    if published(spec.rows):
        panels.append(("paper_value", published_axis(spec.rows),
                       f"{published_title(spec.rows)}, one value each"))
    panels += scored(spec, table)
    more = 3.65 * max(len(panels) - 2, 0)
    size = (8.6 + more, 3.6) if by_level else (9.5 + more, 1.5 + 0.34 * len(table))
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharey=not by_level,
                                sharex=by_level, squeeze=False)
    for axis, (value, label, title) in zip(axes[0], panels, strict=True):
        axis.set_title(title, fontsize=9)
        if by_level:
            levels(axis, spec, table, value, label)
        else:
            bars(axis, spec, table, value, label)
    if by_level:
        axes[0, 0].legend(frameon=False)
    heading(figure, f"{spec.title or spec.name}{corruption_of_all(spec.rows)}", note_of(table))
    return figure


def joined_metrics(table: pd.DataFrame) -> str:
    """The metric of a table; its rows have one as a rule."""
    return " / ".join(distinct(table["metric"]))
