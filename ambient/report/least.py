"""The least distance of a training in a sweep over widths of averages and guidance, for each metric.

A table takes it where the published numbers are taken so: EDM2 chooses width and guidance for each metric, on
the reported metric itself. The least of several noisy numbers is lower than a number of one such choice that
is measured anew, so it is optimistic, the more the more points there are. Columns say how many there were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ambient.specs import RowSpec

RULE = "least of the points, on the metric itself: optimistic"
KINDS = ("unguided", "guided")  # points with guidance 1, with more
ENDS = ("", "_std", "_ema_std", "_guidance", "_points")  # of the names of columns of one kind


def column_of(points: pd.DataFrame, metric: str) -> str:
    """The column of a sweep that holds a metric: `value` for its own one."""
    return "value" if metric == points["metric"].iloc[0] else metric


def of_kind(points: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The points without guidance, or those with it."""
    return points[(points["guidance"] > 1) == (kind == "guided")]


def least(points: pd.DataFrame, metric: str) -> pd.Series | None:
    """The point with the least distance, the first of several; None where there is no point."""
    return None if points.empty else points.loc[points[column_of(points, metric)].idxmin()]


def columns(row: RowSpec, metrics: Sequence[str], points: pd.DataFrame) -> dict:
    """The columns of a table's row from the points of all sweeps.

    Of each metric, without and with guidance: the least distance, its standard deviation where points have
    several sampling seeds, the width and guidance that it is at, how many points it is the least of, and the
    published number. Beside them the grid, and the rule.
    """
    own, found = points[points["training_id"] == row.training_id], {}
    for metric in metrics:
        for kind in KINDS:
            chosen, name = least(of_kind(own, kind), metric), f"{metric}_{kind}"
            paper = row.paper.get(metric if kind == "unguided" else name)
            one: Mapping = {} if chosen is None else chosen
            value = column_of(points, metric)
            found |= {name: one.get(value), f"{name}_std": one.get(f"{value}_std"),
                      f"{name}_ema_std": one.get("ema_std"),
                      f"{name}_guidance": one.get("guidance"),
                      f"{name}_points": len(of_kind(own, kind)) or None, f"paper_{name}": paper}
    return found | {"sweep_rule": None if own.empty else RULE, "sweep_grid": grid(own)}


def grid(points: pd.DataFrame) -> str | None:
    """The values of a sweep's grid in words; None where there is no point."""
    if points.empty:
        return None
    values = {key: sorted(points[key].dropna().unique()) for key in ("ema_std", "guidance") if key in points}
    return "; ".join(f"{key} {', '.join(f'{value:g}' for value in of)}" for key, of in values.items() if of)


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """The points of several sweeps, one below the other."""
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
