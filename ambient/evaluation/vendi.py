r"""The Vendi score: how many different images a set amounts to.

Rows of unit length u_i, K = U U^T / n with eigenvalues l, and VS = exp(-sum l ln l): 1 for n equal images, n
for n images whose features are orthogonal. Source: Friedman and Dieng 2023 (arXiv:2210.02410).
"""

from __future__ import annotations

import numpy as np

TINY = 1e-12  # inside of the logarithm, as in the published scores


def vendi(features: np.ndarray) -> float:
    """exp(-sum l ln(l + 1e-12)) of features (n, D), by cosines: from 1 to min(n, D), but for rounding.

    The eigenvalues l of K = U U^T / n are those of U^T U / n and zeros, so the smaller matrix of the two is
    taken. What is below 0 by rounding counts as 0. In the paper a set is 16 images of one caption, features
    are those of DINO ViT-S/16, and the score is the mean over 100 captions. Raises `ValueError` for features
    that are no numbers (n, D), and for a row of zeros, which has no direction.
    """
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"features of the shape {rows.shape}, allowed: finite numbers (images, features)")
    largest = np.abs(rows).max(axis=1, keepdims=True)  # so that no square is too large or too small
    if not largest.all():
        raise ValueError(f"the features of image {int(np.argmin(largest))} are all 0: they have no direction")
    unit = rows / largest
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    values = np.linalg.eigvalsh(gram / len(unit)).clip(min=0)
    return float(np.exp(-(values * np.log(values + TINY)).sum()))
