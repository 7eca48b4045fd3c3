"""The summary of an annotation table, and of a classifier's report. No torch: the audit computes it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

# Of a noise classifier: its balanced accuracy on held-out images, at the level where that is best. Guessing
# gives 0.5. Below this value sigma_min is mostly noise.
WEAK_ACCURACY = 0.75


def statistics(sigma_min: np.ndarray, corrupted: np.ndarray, sigma_max: np.ndarray | None = None) -> dict:
    """Counts, and mean and quartiles of sigma_min over the corrupted samples that are used above it.

    The same of sigma_max, over all corrupted samples (0 counts), where any has one.
    """
    above = sigma_min[corrupted & np.isfinite(sigma_min)]
    below = np.zeros(0) if sigma_max is None else sigma_max[corrupted]
    used = corrupted & (np.isfinite(sigma_min) | (0 if sigma_max is None else sigma_max > 0))
    found = {"samples": len(sigma_min), "corrupted": int(corrupted.sum()), "used": int(used.sum())}
    for name, values in (("sigma_min", above), ("sigma_max", below if below.any() else np.zeros(0))):
        if len(values):
            found |= {f"{name}_mean": float(values.mean()),
                      f"{name}_quartiles": np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()}
    return found


def best_level(levels: Sequence[Mapping]) -> Mapping:
    """Of the levels of a classifier's held-out report the one at which it tells most images right."""
    return max(levels, key=lambda level: level["accuracy"])


def crossing_of(levels: pd.DataFrame, tau: float) -> float | None:
    """Where P(clean) of corrupted images first exceeds tau, linear in ln sigma; None: nowhere."""
    above = np.flatnonzero(levels["p_clean_of_corrupted"] > tau)
    if not len(above):
        return None
    k = int(above[0])
    x, y = np.log(levels["sigma"].to_numpy()), levels["p_clean_of_corrupted"].to_numpy()
    return float(np.exp(x[k] if k == 0 else np.interp(tau, y[k - 1:k + 1], x[k - 1:k + 1])))
