"""How good the samples of a table's rows are by a scorer, and how often they beat those of the first row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ambient.storage.files import read_arrays


def preference(scores: np.ndarray, first: np.ndarray) -> dict[str, float]:
    """How often samples score higher than those of another row that are drawn from the same latents.

    win_rate p = (wins + ties / 2) / n of n pairs, so that both rows' are 1 together; its standard error is
    sqrt(p (1 - p) / n), of pairs that are independent; ties is their share. Raises `ValueError` for arrays of
    other shapes, whose samples are no pairs.
    """
    if scores.shape != first.shape:
        raise ValueError(f"samples of the shapes {scores.shape} and {first.shape} are no pairs: all rows of "
                         "a table are scored with as many samples and seeds")
    ties = float((scores == first).mean())
    rate = float((scores > first).mean()) + ties / 2
    return {"win_rate": rate, "win_rate_se": float(np.sqrt(rate * (1 - rate) / scores.size)), "ties": ties}


def columns(scorer: str, files: Sequence[Path], first: Sequence[Path]) -> dict[str, float]:
    """The columns of one row by a scorer: mean and median score, and the preference to the first row.

    `files` and `first` hold one file for each training seed, of this row and of the first one. The first row
    has no preference.
    """
    own, other = (np.stack([read_arrays(path)["score"] for path in paths]) for paths in (files, first))
    found = {"mean": float(own.mean()), "median": float(np.median(own))}
    if list(files) != list(first):
        found |= preference(own, other)
    return {f"{scorer}_{name}": value for name, value in found.items()}
