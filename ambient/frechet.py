r"""The Frechet distance between Gaussians, in float64.

FD^2 = |mu_1 - mu_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)). With A = S_1^(1/2), the last trace is the sum
of the square roots of the eigenvalues of A S_2 A, which is symmetric: no complex numbers arise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Mean (D,), unbiased covariance (D, D), and the number of samples behind them."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int


def moments(features: np.ndarray) -> Moments:
    """Moments of features (N, D), accumulated in float64. Raises `ValueError` for N < 2 or NaN."""
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise ValueError(f"{len(features)} samples have no covariance: at least 2 are needed")
    if not np.isfinite(features).all():
        raise ValueError("features are not finite")
    return Moments(features.mean(0), np.cov(features, rowvar=False).reshape(
        features.shape[1], features.shape[1]), len(features))


def frechet_distance(first: Moments, second: Moments) -> float:
    """The squared Frechet distance, the number that the field calls FID for Inception features.

    Raises `ArithmeticError` where a covariance is not positive semi-definite beyond rounding, or where the
    distance is not finite: moments that overflow are no moments of images.
    """
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(clean(values))) @ vectors.T
    inner = root @ second.covariance @ root
    cross = np.sqrt(clean(np.linalg.eigvalsh((inner + inner.T) / 2))).sum()
    gap = first.mean - second.mean
    distance = gap @ gap + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross
    if not np.isfinite(distance):
        raise ArithmeticError(f"the distance is {distance}: the moments are too large, or not finite")
    return float(distance)


def clean(eigenvalues: np.ndarray) -> np.ndarray:
    """Eigenvalues with rounding noise below 0 set to 0; anything worse is an error, not repaired."""
    floor = -1e-6 * max(float(np.abs(eigenvalues).max(initial=0.0)), 1e-30)
    if eigenvalues.min(initial=0.0) < floor:
        raise ArithmeticError(f"covariance has the eigenvalue {eigenvalues.min():.3e}")
    return np.maximum(eigenvalues, 0)
