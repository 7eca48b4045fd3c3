"""The Frechet distance at Inception's width: ours against scipy's general matrix square root."""

from __future__ import annotations

import numpy as np
from scipy.linalg import sqrtm

from ambient.frechet import Moments, frechet_distance
from benchmarks.timing import Pair, paired


def by_sqrtm(first: Moments, second: Moments) -> float:
    """The textbook formula, as FID programs have it."""
    gap = first.mean - second.mean
    cross = np.trace(sqrtm(first.covariance @ second.covariance)).real
    return float(gap @ gap + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross)


def distance(dimensions: int, repeats: int) -> Pair:
    """Two random sets of moments of twice as many samples as dimensions; both must agree."""
    draws = np.random.default_rng(0)
    sets = []
    for _ in range(2):
        features = draws.standard_normal((2 * dimensions, dimensions)) * np.geomspace(1, 0.01, dimensions)
        sets.append(Moments(features.mean(0), np.cov(features, rowvar=False), len(features)))
    found, expected = frechet_distance(*sets), by_sqrtm(*sets)
    if abs(found - expected) > 1e-6 * max(abs(expected), 1):
        raise ArithmeticError(f"the two distances differ: {found} and {expected}")
    return paired(f"Frechet distance, {dimensions} dimensions", "distances", 1,
                  lambda: by_sqrtm(*sets), lambda: frechet_distance(*sets), repeats)
