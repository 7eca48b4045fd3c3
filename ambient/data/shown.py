"""Which images figures show: a few, drawn by their ids, so that figures of one dataset show the same."""

from __future__ import annotations

import numpy as np

from ambient.diffusion import randomness


def shown(ids: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Places in `ids` of `count` images, or of all where there are fewer; in the order of the draw."""
    return np.argsort(randomness.uniform("shown", seed, ids), kind="stable")[:count]
