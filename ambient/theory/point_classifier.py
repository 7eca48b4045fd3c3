"""A noise classifier of points on the line, trained: sigma_min as equations 3.1 and 3.2 find it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from ambient.diffusion import randomness
from ambient.specs import TheorySpec
from ambient.theory.densities import Density

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


def trained_clean(spec: TheorySpec, p: Density, q: Density, name: str, levels: np.ndarray) -> np.ndarray:
    """A trained classifier's mean P(clean) of fresh samples of q, at each of `levels` (equations 3.1, 3.2).

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
            torch.full_like(fresh, float(s)))).mean().item() for s in levels])
