"""The summary of an annotation table. No torch: the audit computes it again."""

from __future__ import annotations

import numpy as np


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
