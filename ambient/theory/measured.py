r"""Section 4 in one dimension, measured: when do more, biased samples beat few clean ones?

For pairs (p0, q0) of densities on [0, 1]: Monte-Carlo distances d_TV(p_sigma, p^_sigma) of Algorithm 1
(n1 clean samples) and Algorithm 2 (n1 clean and n2 of q0), beside the bounds 4.3 and 4.4; the level at
which Algorithm 2 takes over, measured, predicted by the bounds, and found by a classifier (equations
3.1 and 3.2), optimal and trained; and Theorem 4.2 on random pairs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ambient.diffusion import randomness
from ambient.specs import TheorySpec
from ambient.theory import densities
from ambient.theory.densities import Density
from ambient.theory.point_classifier import trained_clean

WIDE = 1e4  # the bounds are searched so far: their crossing can lie beyond the levels measured
FAR = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels, in diameters, of the two-point pairs


def named(p: Density, q: Density, name: str) -> dict:
    """What is said of a pair in every row."""
    return {"pair": name, "lambda_p": p.lipschitz, "lambda_q": q.lipschitz,
            "tv_p0_q0": densities.distance(p, q)}


def estimates(spec: TheorySpec, p: Density, q: Density, name: str) -> pd.DataFrame:
    """A row for each level and algorithm: quantiles of d_TV over the trials, and the bound."""
    rows, (low, high) = [], (spec.delta, 1 - spec.delta)
    apart, total = densities.distance(p, q), spec.n_clean + spec.n_other
    draws = randomness.numpy_generator("theory", spec.seed, name)
    clean = p.sample(draws.random((spec.trials, spec.n_clean)))
    other = q.sample(draws.random((spec.trials, spec.n_other)))
    mixed = densities.mixture(p, q, spec.n_other / total)
    for sigma in levels(spec):
        x = densities.grid(sigma)
        truth = p.smoothed(x, sigma)
        samples = {"1": clean, "2": np.concatenate([clean, other], axis=1)}
        bounds = {"1": densities.bound(sigma, spec.n_clean, p.lipschitz, spec.delta),
                  "2": densities.mixed_bound(sigma, spec.n_clean, spec.n_other,
                                             (p.lipschitz, q.lipschitz), apart, spec.delta)}
        bias = {"1": 0.0, "2": densities.total_variation(truth, mixed.smoothed(x, sigma), x)}
        for algorithm, drawn in samples.items():
            found = densities.total_variation(densities.kernel_estimates(drawn, x, sigma), truth, x)
            rows.append({"algorithm": algorithm, "sigma": sigma, "tv_median": np.median(found),
                         "tv_low": np.quantile(found, low), "tv_high": np.quantile(found, high),
                         "tv_bias": bias[algorithm], "bound": bounds[algorithm],
                         "share_above_bound": np.mean(found > bounds[algorithm])})
    return pd.DataFrame(rows).assign(**named(p, q, name))


def levels(spec: TheorySpec) -> np.ndarray:
    """The noise levels, even in the logarithm."""
    return np.geomspace(spec.sigma_low, spec.sigma_high, spec.num_sigmas)


def crossings(spec: TheorySpec, p: Density, q: Density, name: str, table: pd.DataFrame) -> dict:
    """The pair's sigma_min by each rule: measured, predicted, optimal classifier, trained classifier."""
    sigma = levels(spec)
    one, two = (table[table["algorithm"] == a] for a in ("1", "2"))
    tau = 0.5 - spec.epsilon
    bayes = np.array([densities.bayes_clean(p, q, s) for s in sigma])
    trained = trained_clean(spec, p, q, name, sigma)
    wide = np.geomspace(spec.sigma_low, WIDE, 500)
    bounds = (densities.bound(wide, spec.n_clean, p.lipschitz, spec.delta),
              densities.mixed_bound(wide, spec.n_clean, spec.n_other, (p.lipschitz, q.lipschitz),
                                    densities.distance(p, q), spec.delta))
    found = {"predicted": densities.crossover(wide, *bounds)} | {
        key: densities.crossover(sigma, *pair) for key, pair in {
            "measured": (one["tv_median"].to_numpy(), two["tv_median"].to_numpy()),
            "optimal_classifier": (bayes, np.full_like(bayes, tau)),
            "trained_classifier": (trained, np.full_like(trained, tau))}.items()}
    return named(p, q, name) | {f"sigma_min_{key}": value for key, value in found.items()}


def contraction(spec: TheorySpec) -> pd.DataFrame:
    r"""Theorem 4.2 on pairs of atomic measures: d_TV smoothed, over its bound d_TV(P, Q) D / (2 sigma).

    Random pairs, and two single points, whose ratio tends to sqrt(2 / pi) = 0.798 as sigma grows:
    d_TV(N(0, s^2), N(D, s^2)) = 2 Phi(D / 2s) - 1 <= D / (s sqrt(2 pi)). So the theorem's constant 1/2
    could be 1 / sqrt(2 pi); nothing comes nearer to it than these.
    """
    draws, rows = randomness.numpy_generator("theory-contraction", spec.seed), []
    for pair in range(spec.contraction_pairs + len(FAR)):
        if pair < spec.contraction_pairs:
            points = draws.random(int(draws.integers(2, 9)))
            masses = draws.dirichlet(np.full(len(points), 0.5), size=2)
            sigma, kind = float(np.exp(draws.uniform(np.log(0.01), np.log(10)))), "random"
        else:
            points, masses = np.array([0.0, 1.0]), np.eye(2)
            sigma, kind = FAR[pair - spec.contraction_pairs], "two points"
        x = densities.grid(sigma)
        smooth = [densities.smoothed_atoms(points, m, x, sigma) for m in masses]
        apart, diameter = np.abs(masses[0] - masses[1]).sum() / 2, np.ptp(points)
        rows.append({"kind": kind, "sigma": sigma, "diameter": diameter, "tv": apart,
                     "tv_smoothed": densities.total_variation(*smooth, x),
                     "bound": apart * diameter / (2 * sigma)})
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["tv_smoothed"] / table["bound"])
