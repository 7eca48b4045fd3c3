r"""Stage: section 4 in one dimension, measured: when do more, biased samples beat few clean ones?

For pairs (p0, q0) of densities on [0, 1]: Monte-Carlo distances d_TV(p_sigma, p^_sigma) of Algorithm 1
(n1 clean samples) and Algorithm 2 (n1 clean and n2 of q0), beside the bounds 4.3 and 4.4; the level at
which Algorithm 2 takes over, measured, predicted by the bounds, and found by a classifier (equations
3.1 and 3.2), optimal and trained; and Theorem 4.2 on random pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from ambient.diffusion import randomness
from ambient.specs import TheorySpec
from ambient.storage.files import atomic
from ambient.theory import densities
from ambient.theory.densities import Density


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


FREQUENCIES = (1.0, 2.0, 4.0, 8.0)  # periods in [0, 1]; each fades where the noise hides it


class PointClassifier(nn.Module):
    """The logit of P(other | x, sigma) for points on the line: three layers on scaled and periodic inputs."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [2 + 2 * len(FREQUENCIES), width, width, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        scaled = torch.stack([(x - 0.5) / (sigma**2 + 1 / 12).sqrt(), sigma.log() / 4], dim=-1)
        waves = 2 * torch.pi * x[:, None] * torch.tensor(FREQUENCIES)
        fade = torch.exp(-((2 * torch.pi * sigma[:, None] * torch.tensor(FREQUENCIES)) ** 2) / 2)
        h = torch.cat([scaled, fade * waves.sin(), fade * waves.cos()], dim=-1)
        for layer in self.layers[:-1]:
            h = torch.nn.functional.silu(layer(h))
        return self.layers[-1](h)[..., 0]


def trained_clean(spec: TheorySpec, p: Density, q: Density, name: str) -> np.ndarray:
    """A trained classifier's mean P(clean) of fresh samples of q at each level (equations 3.1, 3.2).

    It is trained on n_clean samples of p and n_other of q, balanced, with fresh noise at each step.
    """
    draws = randomness.numpy_generator("theory-classifier", spec.seed, name)
    data = [torch.from_numpy(d.sample(draws.random(n))).float()
            for d, n in ((p, spec.n_clean), (q, spec.n_other))]
    generator = randomness.torch_generator("cpu", "theory-classifier", spec.seed, name)
    network = PointClassifier(spec.classifier_width, generator)
    adam = torch.optim.Adam(network.parameters(), lr=3e-3, weight_decay=1e-4)
    half = spec.classifier_batch // 2
    labels = torch.arange(2 * half).ge(half).float()
    low, high = np.log(spec.sigma_low), np.log(spec.sigma_high)
    for step in range(spec.classifier_steps):
        for group in adam.param_groups:
            group["lr"] = 3e-3 * (1 + np.cos(np.pi * step / spec.classifier_steps)) / 2
        x0 = torch.cat([d[torch.randint(len(d), (half,), generator=generator)] for d in data])
        sigma = (low + (high - low) * torch.rand(2 * half, generator=generator)).exp()
        x = x0 + sigma * torch.randn(2 * half, generator=generator)
        adam.zero_grad()
        cross_entropy(network(x, sigma), labels).backward()
        adam.step()
    fresh = torch.from_numpy(q.sample(draws.random(4096))).float()
    with torch.no_grad():
        return np.array([torch.sigmoid(-network(
            fresh + float(s) * torch.randn(len(fresh), generator=generator),
            torch.full_like(fresh, float(s)))).mean().item() for s in levels(spec)])


WIDE = 1e4  # the bounds are searched so far: their crossing can lie beyond the levels measured


def crossings(spec: TheorySpec, p: Density, q: Density, name: str, table: pd.DataFrame) -> dict:
    """The pair's sigma_min by each rule: measured, predicted, optimal classifier, trained classifier."""
    sigma = levels(spec)
    one, two = (table[table["algorithm"] == a] for a in ("1", "2"))
    tau = 0.5 - spec.epsilon
    bayes = np.array([densities.bayes_clean(p, q, s) for s in sigma])
    trained = trained_clean(spec, p, q, name)
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


FAR = (0.1, 0.3, 1.0, 3.0, 10.0)  # noise levels, in diameters, of the two-point pairs


def main(spec: TheorySpec, record, *, out: Path, crossings_out: Path, contraction_out: Path) -> None:
    """`out` gets the estimates and bounds, `crossings_out` each pair's sigma_min, `contraction_out` 4.2."""
    torch.set_num_threads(1)  # networks of a few thousand weights
    tables, found = [], []
    for name, pair in spec.pairs.items():
        p, q = (Density(*np.array(pair[key], float).T) for key in ("clean", "other"))
        tables.append(estimates(spec, p, q, name))
        found.append(crossings(spec, p, q, name, tables[-1]))
        print(f"theory: {name} done", flush=True)
    contracted = contraction(spec)
    for path, table in ((out, pd.concat(tables)), (crossings_out, pd.DataFrame(found)),
                        (contraction_out, contracted)):
        with atomic(path) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    record.facts |= {"largest_contraction_ratio": float(contracted["ratio"].max()), "raw": "none"}
