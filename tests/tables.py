"""Tables of the paper's scale with made-up values, and what can be read in a figure: for tests of figures."""

import dataclasses
import math

import pandas as pd


def table_of(spec, value=7.0):
    """A table's CSV as the `tables` stage names its columns, with one value everywhere."""
    rows = [{"method": r.method, "corruption": r.corruption or "none", **r.parameters, **r.settings,
             "metric": "fd-x", "value": value, "value_std": 0.5, "value_best": value, "num_samples": 10,
             "training_std": math.nan,
             "num_seeds": 2, "num_training_seeds": 1, "nimg": 100, "sigma_min_mean": r.paper.get("sigma_min"),
             "paper_value": r.paper.get("fid"), "paper_sigma_min_mean": r.paper.get("sigma_min"),
             "run_id": r.run_id} for r in spec.rows]
    return pd.DataFrame(rows)


def by_the_strict_classifier(spec):
    """A table of the paper's scale without the rows by the paper's protocol."""
    return dataclasses.replace(spec, rows=[row for row in spec.rows if not row.run.startswith("leaky-")])


def texts(figure):
    """All that can be read in a figure."""
    found = [figure.get_suptitle(), figure.get_supxlabel()]
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_title(loc="left"), axis.get_xlabel(), axis.get_ylabel()]
        found += [label.get_text() for label in (*axis.get_yticklabels(), *axis.get_xticklabels())]
        found += [text.get_text() for text in (axis.get_legend().get_texts() if axis.get_legend() else ())]
    return "\n".join(found)
