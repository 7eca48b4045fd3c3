"""How often a judge prefers the samples of one run to those of another, by the form of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ambient.data.prompt_forms import TASKS, understood
from ambient.data.shapes import SHAPES
from ambient.report.drawing import wilson

ALL = "all prompts"


def category(caption: str) -> str | None:
    """The form of a caption of scenes, as GenEval calls it; None for any other one."""
    try:
        return understood(caption, SHAPES)["tag"]
    except ValueError:
        return None


def bars(records: Sequence[dict]) -> pd.DataFrame:
    """A row for all pairs and for each form of their captions: `pairs`, `wins`, `ties`, `losses`, the share
    p = (wins + ties / 2) / pairs of the run that is judged, and its 95 % interval `low` to `high` (Wilson).

    Ties are split in half, as the paper's bars have them. Verdicts of pairs with one caption are alike, so
    that the true interval is wider. Raises `ValueError` for no records.
    """
    if not records:
        raise ValueError("no pairs were judged")
    forms = [category(record["caption"]) for record in records]
    verdicts = pd.Series([record["verdict"] for record in records])
    rows = []
    for name in [ALL, *(task for task in TASKS if task in forms)]:
        own = verdicts[[name in (ALL, form) for form in forms]]
        wins, losses = int((own == "run").sum()), int((own == "than").sum())
        ties = len(own) - wins - losses
        share = (wins + ties / 2) / len(own)
        low, high = wilson(share, len(own))
        rows.append({"prompts": name, "pairs": len(own), "wins": wins, "ties": ties, "losses": losses,
                     "share": share, "low": float(low), "high": float(high)})
    return pd.DataFrame(rows)
