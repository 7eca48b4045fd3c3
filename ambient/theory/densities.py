r"""Densities on [0, 1], exactly smoothed, and their kernel estimates: the objects of section 4.

Time is the noise level sigma: p_sigma = p * N(0, sigma^2), and p^_sigma is the same of the empirical
measure of n samples, which is a Gaussian kernel estimate (Theorem 4.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

TAIL = 8.0  # standard deviations kept beyond [0, 1]; the mass beyond is below 2e-15
POINTS = 24  # grid points in one sigma: the rule's error is given by `total_variation`'s test


def phi(u: np.ndarray) -> np.ndarray:
    """The standard normal density."""
    return np.exp(-u * u / 2) / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class Density:
    """A piecewise linear density on [0, 1]: its `heights` at rising `knots`, normalised to mass 1.

    Both are (K,), knots[0] = 0 and knots[-1] = 1. It may jump at 0 and at 1 (uniform), where it is not
    Lipschitz on the whole line; `lipschitz` is that of [0, 1], the lambda of the theorems.
    """

    knots: np.ndarray
    heights: np.ndarray

    def __post_init__(self) -> None:
        x, y = (np.asarray(v, np.float64) for v in (self.knots, self.heights))
        if x[0] != 0 or x[-1] != 1 or (np.diff(x) <= 0).any() or (y < 0).any() or not y.any():
            raise ValueError(f"density: knots {x} must rise from 0 to 1, heights {y} must be >= 0, not all 0")
        object.__setattr__(self, "knots", x)
        object.__setattr__(self, "heights", y / np.trapezoid(y, x))

    @cached_property
    def slopes(self) -> np.ndarray:
        """d p / d x on each piece, (K - 1,)."""
        return np.diff(self.heights) / np.diff(self.knots)

    @property
    def lipschitz(self) -> float:
        """lambda: the steepest slope."""
        return float(np.abs(self.slopes).max())

    def smoothed(self, x: np.ndarray, sigma: float) -> np.ndarray:
        r"""p_sigma(x), in closed form.

        A piece alpha + beta y on [a, b] gives (alpha + beta x) (Phi(u_a) - Phi(u_b)) + beta sigma
        (phi(u_a) - phi(u_b)), with u_a = (x - a) / sigma and u_b = (x - b) / sigma.
        """
        u = (np.asarray(x)[:, None] - self.knots) / sigma
        mass, bell = ndtr(u), phi(u)
        line = self.heights[:-1] + self.slopes * (np.asarray(x)[:, None] - self.knots[:-1])
        return (line * (mass[:, :-1] - mass[:, 1:])
                + self.slopes * sigma * (bell[:, :-1] - bell[:, 1:])).sum(axis=1)

    def sample(self, u: np.ndarray) -> np.ndarray:
        """Draws from uniforms `u` in [0, 1): the inverse of the distribution function, exactly."""
        width = np.diff(self.knots)
        below = np.r_[0, np.cumsum((self.heights[:-1] + self.heights[1:]) / 2 * width)]
        piece = np.clip(np.searchsorted(below, u, side="right") - 1, 0, len(width) - 1)
        rest, height, slope = u - below[piece], self.heights[piece], self.slopes[piece]
        # Solves height t + slope t^2 / 2 = rest, in the form that is stable as the slope goes to 0.
        root = np.sqrt(np.maximum(height**2 + 2 * slope * rest, 0))
        step = np.divide(2 * rest, height + root, out=np.zeros_like(rest), where=height + root > 0)
        return self.knots[piece] + np.minimum(step, width[piece])


def mixture(p: Density, q: Density, share: float) -> Density:
    """(1 - share) p + share q."""
    knots = np.union1d(p.knots, q.knots)
    heights = [np.interp(knots, d.knots, d.heights) for d in (p, q)]
    return Density(knots, (1 - share) * heights[0] + share * heights[1])


def distance(p: Density, q: Density) -> float:
    """d_TV(p, q) = 1/2 int |p - q|, exactly: the integrand is linear between knots and zeros."""
    knots = np.union1d(p.knots, q.knots)
    gap = np.interp(knots, p.knots, p.heights) - np.interp(knots, q.knots, q.heights)
    crossing = np.flatnonzero(gap[:-1] * gap[1:] < 0)
    share = gap[crossing] / (gap[crossing] - gap[crossing + 1])
    zeros = knots[crossing] + share * (knots[crossing + 1] - knots[crossing])
    fine = np.union1d(knots, zeros)
    return float(np.trapezoid(np.abs(np.interp(fine, knots, gap)), fine) / 2)


def grid(sigma: float, points: float = POINTS) -> np.ndarray:
    """Evenly spaced points of [-8 sigma, 1 + 8 sigma], at most sigma / `points` and 1/512 apart."""
    step = min(sigma / points, 1 / 512)
    count = math.ceil((1 + 2 * TAIL * sigma) / step)
    return -TAIL * sigma + step * np.arange(count + 1)


def total_variation(p: np.ndarray, q: np.ndarray, x: np.ndarray) -> np.ndarray:
    """1/2 int |p - q| over the grid `x`, along the last axis: an even sum.

    The densities are smooth and vanish at both ends, so only the corners of |.| cost accuracy: the
    error is of second order in the spacing (tests: below 2e-4 at the spacing of `grid`).
    """
    return np.abs(p - q).sum(axis=-1) * (x[1] - x[0]) / 2


def kernel_estimates(samples: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """p^_sigma on the even grid `x` (M,) for each row of `samples` (T, n), shape (T, M).

    Each sample is shared between its two grid points, then smoothed by FFT: the relative error is
    (spacing / sigma)^2 / 8 at most, 2e-4. The grid must reach far enough beyond the samples (`grid`).
    """
    trials, n = samples.shape
    step = x[1] - x[0]
    place = (samples - x[0]) / step
    left = place.astype(np.int64)
    share = place - left
    cells = (np.arange(trials)[:, None] * len(x) + left).ravel()
    counts = np.bincount(cells, (1 - share).ravel(), trials * len(x))
    counts += np.bincount(cells + 1, share.ravel(), trials * len(x))
    frequency = 2 * math.pi * np.fft.rfftfreq(len(x), step)
    spectrum = np.fft.rfft(counts.reshape(trials, -1), axis=1) * np.exp(-((sigma * frequency) ** 2) / 2)
    return np.fft.irfft(spectrum, len(x), axis=1) / (n * step)


def bound(sigma: np.ndarray, n: int, lipschitz: float, delta: float) -> np.ndarray:
    r"""Theorem 4.1 with the constants of its proof (A.1), L = n max(lambda, 1) bins.

    lambda / (2 L) + 1 / (2 L sigma^2 sqrt(2 pi e)) + sqrt(log(2 L / delta) / (4 pi sigma^2 n)).
    Equation 4.3 at n = n1; with probability >= 1 - delta, d_TV(p_sigma, p^_sigma) is below it.
    """
    bins = n * max(lipschitz, 1.0)
    return (lipschitz / (2 * bins) + 1 / (2 * bins * sigma**2 * math.sqrt(2 * math.pi * math.e))
            + np.sqrt(math.log(2 * bins / delta) / (4 * math.pi * sigma**2 * n)))


def mixed_bound(sigma: np.ndarray, n1: int, n2: int, lipschitz: tuple[float, float], apart: float,
                delta: float) -> np.ndarray:
    """Equation 4.4: `bound` for all n1 + n2 samples, plus the bias n2 / (n1 + n2) apart / (2 sigma).

    `lipschitz`: of the clean and the other density; `apart` = d_TV(p0, q0).
    """
    share = n2 / (n1 + n2)
    mixed = (1 - share) * lipschitz[0] + share * lipschitz[1]
    return bound(sigma, n1 + n2, mixed, delta) + share * apart / (2 * sigma)


def crossover(sigma: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """The level from which on `second` is below `first`, linear in ln sigma; inf where it never is."""
    gap = second - first
    above = np.flatnonzero(gap > 0)
    if not len(above):
        return float(sigma[0])
    last = int(above[-1])
    if last == len(sigma) - 1:
        return math.inf
    share = gap[last] / (gap[last] - gap[last + 1])
    return float(sigma[last] * (sigma[last + 1] / sigma[last]) ** share)


def bayes_clean(p: Density, q: Density, sigma: float) -> float:
    """The optimal classifier's mean P(clean) of the other samples: int q p / (p + q), both smoothed.

    It is 1/2 where the two densities agree and falls as they part: c of equation 3.1 at its best.
    """
    x = grid(sigma)
    one, two = p.smoothed(x, sigma), q.smoothed(x, sigma)
    total = one + two
    overlap = np.divide(one * two, total, out=np.zeros_like(total), where=total > 0)
    return float(overlap.sum() * (x[1] - x[0]))


def smoothed_atoms(points: np.ndarray, masses: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """The density on `x` of atoms `points` (K,) of `masses` (K,), smoothed."""
    return phi((x[:, None] - points) / sigma) @ masses / sigma
