"""How often a judge prefers the samples of one run to those of another, by the category of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ambient.data.prompt_forms import TASKS, understood
from ambient.data.shapes import SHAPES
from ambient.evaluation.judges import NONE, UNCLEAR
from ambient.evaluation.judging import SIDES
from ambient.report.drawing import wilson

ALL = "all prompts"


def category(record: dict) -> str | None:
    """What a list of prompts says of a caption, or its form where it is of scenes, as GenEval calls it.

    None for any other one.
    """
    if "group" in record:
        return record["group"]
    try:
        return understood(record["caption"], SHAPES)["tag"]
    except ValueError:
        return None


def bars(records: Sequence[dict]) -> pd.DataFrame:
    """A row for all pairs and for each category of their captions: `pairs`, `wins`, `ties`, `losses`, the
    share p = (wins + ties / 2) / pairs of the run that is judged, and its 95 % interval `low` to `high`
    (Wilson). `unclear`: further pairs, of which the judge said nothing clear.

    Ties are split in half, as the paper's bars have them. Verdicts of pairs with one caption are alike, so
    that the true interval is wider. Raises `ValueError` for no pairs, and for a verdict that is none.
    """
    if unknown := {record["verdict"] for record in records} - {*SIDES, NONE, UNCLEAR}:
        raise ValueError(f"verdict: got {', '.join(map(repr, sorted(unknown)))}, allowed: "
                         f"{', '.join((*SIDES, NONE, UNCLEAR))}")
    if all(record["verdict"] == UNCLEAR for record in records):
        raise ValueError("no pairs were judged")
    groups = [category(record) for record in records]
    verdicts = pd.Series([record["verdict"] for record in records])
    others = sorted({group for group in groups if group not in (None, *TASKS)})
    rows = []
    for name in [ALL, *(task for task in TASKS if task in groups), *others]:
        own = verdicts[[name in (ALL, group) for group in groups]]
        unclear = int((own == UNCLEAR).sum())
        if (pairs := len(own) - unclear) == 0:
            continue
        wins, losses = int((own == "run").sum()), int((own == "than").sum())
        ties = pairs - wins - losses
        share = (wins + ties / 2) / pairs
        low, high = wilson(share, pairs)
        rows.append({"prompts": name, "pairs": pairs, "wins": wins, "ties": ties, "losses": losses,
                     "share": share, "low": float(low), "high": float(high), "unclear": unclear})
    return pd.DataFrame(rows)
