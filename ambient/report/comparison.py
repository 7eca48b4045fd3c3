"""A table with rows from outside: scores under its protocol of images that nobody here saw being made."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ambient.report.captions import joined, label_of, metric_axis, uncertainty
from ambient.report.distance_panels import bar, spreads
from ambient.report.drawing import heading, line_of, plt
from ambient.report.tables import PROTOCOL
from ambient.specs import ComparisonSpec
from ambient.specs.strict import build
from ambient.storage.files import read_json

HERE, OUTSIDE = "here", "outside"  # in the column `origin`


def row(found: Mapping, table: pd.DataFrame) -> dict:
    """The row of a score from outside. Raises `ValueError` where no row of the table has its protocol."""
    keys = [key for key in ("metric", *PROTOCOL, "reference_dataset") if key in table]
    own = {key: str(found[key]) for key in keys if key in found}
    same = table[[all(str(one[key]) == value for key, value in own.items()) for _, one in table.iterrows()]]
    if same.empty:
        raise ValueError(f"outside/{found['name']}: measured by {own}, which no row of the table is: score "
                         "it again")
    value = f"{found['value']:.6g}"
    return {"origin": OUTSIDE, "method": found["label"], **own, "value": value, "value_min": value,
            "num_seeds": "1", "run_id": f"outside/{found['name']}"}


def rebuild(spec: Mapping, inputs: Mapping[str, Sequence[Path]]) -> str:
    """The CSV text, from the plain specification and the inputs that its manifest holds.

    The cells of the table's own rows stand as they are in it.
    """
    build(ComparisonSpec, spec, "comparison")
    (path,) = inputs["table"]
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = [row(read_json(one), table) for one in inputs["outside"]]
    whole = pd.concat([table.assign(origin=HERE), pd.DataFrame(rows)], ignore_index=True)
    columns = ["origin", *table.columns]
    return whole[columns].to_csv(index=False, lineterminator="\n")


def panel(spec: ComparisonSpec, text: str) -> plt.Figure:
    """The distances of all rows from the top, those from outside as hollow marks."""
    table = pd.read_csv(io.StringIO(text))
    methods, names = list(table["method"]), labels(spec, table)
    figure, axis = plt.subplots(figsize=(7.0, 1.5 + 0.34 * len(table)), layout="constrained")
    for place, (_, one) in enumerate(table.iterrows()):
        look = line_of(one["method"], methods)
        filled = {} if one["origin"] == HERE else {"markerfacecolor": "none"}
        axis.plot([one["value"]], [place], ls="none", marker=look["marker"], color=look["color"], **filled)
        for values, width in spreads(table, "value"):
            axis.errorbar([one["value"]], [place], xerr=values[place:place + 1], color=look["color"],
                          **bar(width))
    axis.set_yticks(range(len(table)), names, fontsize=8)
    axis.set_ylim(len(table) - 0.5, -0.5)
    axis.set_xlabel(metric_axis(joined(table["metric"]), table["num_samples"]))
    own = table[table["origin"] == HERE]
    seeds = uncertainty(int(own["num_training_seeds"].max()), int(own["num_seeds"].max()))
    heading(figure, spec.table.title or spec.table.name, "Hollow: from outside, one set of samples; nobody "
            f"here saw how they were made. Filled: {seeds}.")
    return figure


def labels(spec: ComparisonSpec, table: pd.DataFrame) -> list[str]:
    """What each row is called: the table's own as in its figure, the others as from outside."""
    rows = spec.table.rows
    return [label_of(row, rows) for row in rows] + [
        f"{label} (from outside)" for label in table["method"][table["origin"] == OUTSIDE]]
