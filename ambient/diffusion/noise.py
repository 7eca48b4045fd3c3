r"""Noise levels: their training density, the sampling schedule, the weights of the losses.

Time *is* the noise level (variance exploding): x_sigma = x_0 + sigma z, z ~ N(0, I). All sigmas are
standard deviations in units of the data, which lie in [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lognormal(count: int, P_mean: float, P_std: float, generator: torch.Generator) -> Tensor:
    """Draw `count` training noise levels, ln sigma ~ N(P_mean, P_std^2). Shape (count,), float64.

    Source: Karras et al. 2022 (arXiv:2206.00364), table 1.
    """
    z = torch.randn(count, generator=generator, dtype=torch.float64, device=generator.device)
    return (P_mean + P_std * z).exp()


def karras_schedule(num_steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    r"""Sampling noise levels, sigma_max first, 0 last. Shape (num_steps + 1,), float64.

    sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, sigma_N = 0.
    Source: Karras et al. 2022, equation 5. Raises `ValueError` for fewer than 2 steps, for levels that rise
    or begin or end at 0 or infinity, and for a rho so small that rounding loses sigma_min.
    """
    if num_steps < 2:
        raise ValueError(f"num_steps: got {num_steps}, allowed: >= 2")
    if not (0 < sigma_min <= sigma_max < math.inf and 0 < rho < math.inf):
        raise ValueError(f"sigma_min, sigma_max, rho: got {sigma_min}, {sigma_max}, {rho}, allowed: "
                         "0 < sigma_min <= sigma_max, rho > 0")
    ramp = torch.arange(num_steps, dtype=torch.float64) / (num_steps - 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    if not abs(sigmas[-1] / sigma_min - 1) < 0.01:  # float64 has no place for so small a `low`
        raise ValueError(f"rho: got {rho}, allowed: larger for levels from {sigma_max} to {sigma_min}, of "
                         f"which rounding makes the last one {sigmas[-1]:.3g}")
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 (beside equation C.1)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def added_variance(sigma: Tensor, sigma_tn: Tensor) -> Tensor:
    """sigma^2 - sigma_tn^2, what leads from one level to the other, as (sigma - sigma_tn)(sigma + sigma_tn).

    Positive wherever sigma > sigma_tn, even for neighbouring floating-point numbers.
    """
    return (sigma - sigma_tn) * (sigma + sigma_tn)


def ambient_weight(sigma: Tensor, sigma_tn: Tensor) -> Tensor:
    """lambda_amb(sigma, sigma_tn) = sigma^4 / (sigma^2 - sigma_tn^2)^2, for sigma > sigma_tn (C.1).

    It grows without bound towards sigma_tn, and at sigma = sigma_tn is infinite: no sample is admitted there.
    """
    return sigma**4 / added_variance(sigma, sigma_tn) ** 2
