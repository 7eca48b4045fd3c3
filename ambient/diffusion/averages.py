r"""Averages of weights of any width, made of stored ones after the training.

The average over a training of length T whose weights are proportional to t^gamma has the profile
p(t) = (gamma + 1) t^gamma / T^(gamma + 1) on [0, T], which integrates to 1. A sum of stored averages has the
sum of their profiles, so that of another width is the sum whose profile comes nearest to its own.

Source: Karras et al. 2024 (arXiv:2312.02696), section 3.2 and appendix C.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ambient.diffusion.schedules import power_gamma


def inner_products(times_a: np.ndarray, gammas_a: np.ndarray, times_b: np.ndarray,
                   gammas_b: np.ndarray) -> np.ndarray:
    """<p_a, p_b>, the integral of the product of each two profiles: (A, B) for A and B profiles.

    (gamma_a + 1) (gamma_b + 1) (T_a / T_b)^gamma_b / ((gamma_a + gamma_b + 1) T_b), where T_a <= T_b.
    """
    t_a, t_b = times_a[:, None], times_b[None, :]
    g_a, g_b = gammas_a[:, None], gammas_b[None, :]
    longer = np.maximum(t_a, t_b)
    ratio = np.minimum(t_a, t_b) / longer
    return (g_a + 1) * (g_b + 1) * ratio ** np.where(t_a < t_b, g_b, g_a) / ((g_a + g_b + 1) * longer)


def coefficients(times: Sequence[float], stds: Sequence[float], time: float,
                 std: float) -> tuple[np.ndarray, float]:
    """(what each stored average counts in the one of width `std` at `time`, the error that remains).

    `times` and `stds` are the time (images seen) and the width of each stored average, none of them later
    than `time`. The coefficients solve <p_i, p_j> x = <p_i, p>, and are divided by their sum, so that weights
    which did not change stay as they are. The error is |sum of profiles - p|^2 / |p|^2. Raises `ValueError`
    for other times and widths, and where there is no average.
    """
    if not len(stds) == len(times) > 0:
        raise ValueError(f"times, stds: got {len(times)} and {len(stds)}, allowed: one each of every average")
    if not all(0 < one <= time for one in times):
        raise ValueError(f"times: got {list(times)}, allowed: above 0, and none later than {time}")
    if len(set(zip(times, stds, strict=True))) < len(times):
        raise ValueError(f"times, stds: got {list(times)} and {list(stds)}, allowed: each average once")
    at = np.array(times, np.float64), np.array([power_gamma(one) for one in stds])
    wanted = np.array([time], np.float64), np.array([power_gamma(std)])
    products, own = inner_products(*at, *at), inner_products(*at, *wanted)[:, 0]
    solved = np.linalg.solve(products, own)
    solved /= solved.sum()
    square = inner_products(*wanted, *wanted)[0, 0]
    error = (solved @ products @ solved - 2 * solved @ own + square) / square
    return solved, max(float(error), 0.0)
