r"""The Frechet distance between Gaussians, in float64.

FD^2 = |mu_1 - mu_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)). With S_i = R_i R_i^T, the last trace is the sum of
the singular values of R_1^T R_2. So no complex numbers arise, and no square root is taken of the rounding
noise of a product, which of two sets of fewer samples than features would be a part of the distance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

LARGEST = float(np.finfo(np.float32).max)  # of a feature: a mean is at most this, a covariance its square
PART = 250  # features that are added up at once
ROUNDING = 1e-9  # relative, by which a covariance may miss its own transpose


@dataclass(frozen=True)
class Moments:
    """Mean (D,), unbiased covariance (D, D), both float64, and the number of samples behind them.

    Raises `ValueError` for what can't be the moments of float32 features: other shapes, entries that are not
    finite or too large, a covariance that is not symmetric, fewer than 2 samples.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("covariance", self.covariance)):
            if values.dtype.kind != "f":
                raise ValueError(f"{name} is of {values.dtype}, allowed: floating-point numbers")
            object.__setattr__(self, name, values.astype(np.float64, copy=False))
        mean, covariance = self.mean, self.covariance
        if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
            raise ValueError(f"mean has the shape {mean.shape} and covariance {covariance.shape}, "
                             "allowed: (D,) and (D, D)")
        for name, values, bound in (("mean", mean, LARGEST), ("covariance", covariance, 2 * LARGEST**2)):
            if not (np.abs(values) <= bound).all():  # NaN too
                raise ValueError(f"{name} has entries that are no finite numbers, or beyond what float32 "
                                 f"features can give ({bound:.3g})")
        largest = float(np.abs(covariance).max())
        if not (np.abs(covariance - covariance.T) <= ROUNDING * largest).all():
            raise ValueError("covariance is not symmetric")
        if self.count < 2:
            raise ValueError(f"{self.count} samples have no covariance: at least 2 are needed")


def stored(arrays: Mapping[str, np.ndarray], where: str, prefix: str = "",
           count: int | None = None) -> Moments:
    """Moments from the arrays of a file, `<prefix>mean` and `<prefix>covariance` (and `count`).

    Raises `ValueError` naming `where`, the file, and what is wrong in it.
    """
    try:
        number = int(arrays["count"].item()) if count is None else count
        return Moments(arrays[f"{prefix}mean"], arrays[f"{prefix}covariance"], number)
    except KeyError as error:
        raise ValueError(f"{where}: no moments of features: {error.args[0]} is missing") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {prefix}moments: {error}") from None


def moments(features: np.ndarray) -> Moments:
    """Moments of features (N, D). Raises `ValueError` for N < 2 or NaN."""
    return moments_of(features[first:first + PART] for first in range(0, len(features), PART))


def moments_of(parts: Iterable[np.ndarray]) -> Moments:
    """Moments of features that come in parts (n, D), of which one is in memory at a time; in float64.

    Sums are of differences d from the mean of the first part: S = sum d d^T - (sum d)(sum d)^T / N, so that
    no digits are lost to a mean that is large. Raises `ValueError` for N < 2 or NaN.
    """
    count, origin, total, squares = 0, 0.0, 0.0, 0.0
    for part in parts:
        part = np.asarray(part, np.float64)
        if not np.isfinite(part).all():
            raise ValueError("features are not finite")
        if not count:
            origin = part.mean(0)
        part = part - origin
        count, total, squares = count + len(part), total + part.sum(0), squares + part.T @ part
    if count < 2:
        raise ValueError(f"{count} samples have no covariance: at least 2 are needed")
    return Moments(origin + total / count, (squares - np.outer(total, total) / count) / (count - 1), count)


def without(whole: Moments, some: Moments) -> Moments:
    r"""Moments of what is left of N samples when k of them are taken away, n = N - k.

    Of scatters S = (count - 1) covariance and d = mu_some - mu_left: S = S_some + S_left + (k n / N) d d^T.
    Raises `ValueError` for n < 2.
    """
    left = whole.count - some.count
    if left < 2:
        raise ValueError(f"{some.count} of {whole.count} samples are taken away: at least 2 have to be left")
    mean = (whole.count * whole.mean - some.count * some.mean) / left
    apart = some.mean - mean
    scatter = ((whole.count - 1) * whole.covariance - (some.count - 1) * some.covariance
               - some.count * left / whole.count * np.outer(apart, apart))
    return Moments(mean, scatter / (left - 1), left)


def frechet_distance(first: Moments, second: Moments) -> float:
    """The squared Frechet distance, the number that the field calls FID for Inception features.

    Below 0 by rounding, as of a set to itself, is 0. Raises `ValueError` for moments of different dimensions,
    `ArithmeticError` where a covariance is not positive semi-definite beyond rounding, or where the distance
    is not finite.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"moments of {len(first.mean)} and of {len(second.mean)} features do not compare: "
                         "they are of different detectors")
    cross = np.linalg.svd(root(first.covariance).T @ root(second.covariance), compute_uv=False).sum()
    gap = first.mean - second.mean
    distance = gap @ gap + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross
    if not np.isfinite(distance):
        raise ArithmeticError(f"the distance is {distance}: the moments are too large, or not finite")
    return max(float(distance), 0.0)


def root(covariance: np.ndarray) -> np.ndarray:
    """R (D, r) with R R^T = covariance, of rank r: its eigenvectors, times the roots of their eigenvalues.

    Eigenvalues that are rounding noise are left out. One further below 0 is an error, and not repaired.
    """
    values, vectors = np.linalg.eigh(covariance)
    largest = float(np.abs(values).max())
    if values[0] < -1e-6 * max(largest, 1e-30):
        raise ArithmeticError(f"covariance has the eigenvalue {values[0]:.3e}")
    above = values > len(values) * np.finfo(np.float64).eps * largest
    return vectors[:, above] * np.sqrt(values[above])
