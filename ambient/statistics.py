"""The summary of an annotation table. No torch: the audit computes it again."""

from __future__ import annotations

import numpy as np


def statistics(sigma_min: np.ndarray, corrupted: np.ndarray) -> dict:
    """Counts, and mean and quartiles of sigma_min over the corrupted samples that are ever used."""
    used = sigma_min[corrupted & np.isfinite(sigma_min)]
    found = {"samples": len(sigma_min), "corrupted": int(corrupted.sum()), "used": len(used)}
    if len(used):
        found |= {"sigma_min_mean": float(used.mean()),
                  "sigma_min_quartiles": np.quantile(used, [0, 0.25, 0.5, 0.75, 1]).tolist()}
    return found
