"""Tables of one dataset's samples beside each other: by their ids, never by their places."""

from __future__ import annotations

import numpy as np


def rows_of(known: np.ndarray, ids: np.ndarray, what: str) -> np.ndarray:
    """Where the samples `ids` (M,) stand in a table that has the ids `known` (N,).

    Raises `ValueError` naming a sample that is not in it; `what` the table has of each is said.
    """
    order = np.argsort(known)
    place = np.clip(np.searchsorted(known, ids, sorter=order), 0, len(order) - 1)
    rows = order[place]
    missing = ids[known[rows] != ids]
    if len(missing):
        raise ValueError(f"no {what} for sample {missing[0]} ({len(missing)} missing): "
                         f"the {what}s were made for another dataset")
    return rows
