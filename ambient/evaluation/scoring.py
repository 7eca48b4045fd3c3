"""Scores of images in shards: the ranks share them out, and a kill costs the shard at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ambient.data.scores import EACH, MEAN, Scores, by_side, means
from ambient.jobs.shards import collect
from ambient.jobs.state import State

SHARD = 1000  # images that are saved together, and lost together
Arrays = Mapping[str, np.ndarray]


def in_shards(name: str, count: int, score: Callable[[slice], Arrays], state: State) -> Arrays | None:
    """The arrays of `count` images, which `score` gives for a slice of them; None but on the first rank."""
    parts = [slice(first, min(first + SHARD, count)) for first in range(0, count, SHARD)]
    pieces = [(f"scores-{part.start}", part.stop - part.start) for part in parts]
    found = collect(name, state, pieces, lambda k: score(parts[k]))
    if found is None:
        return None
    return {key: np.concatenate([shard[key] for shard in found]) for key in found[0]}


def scores_of(ids: np.ndarray, arrays: Arrays) -> Scores:
    """The table of what a scorer gave: where it scored each patch, their mean is a column, too."""
    each = {side: values.astype(np.float32) for side, values in by_side(arrays, EACH).items()}
    mean = by_side(arrays, MEAN) | {side: means(values) for side, values in each.items()}
    return Scores(ids, arrays["score"].astype(np.float64), dict(sorted(mean.items())), each)
