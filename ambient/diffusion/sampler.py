"""The Heun sampler: from noise to samples through a denoiser, each sample by its own key."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ambient.diffusion.noise import karras_schedule


class Schedule(Protocol):
    """The numbers of algorithm 2: its noise levels, and how much noise it adds between them."""

    num_steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    S_churn: float  # 0: deterministic
    S_min: float
    S_max: float
    S_noise: float


def heun(denoiser: Callable[[Tensor, Tensor], Tensor], latents: Tensor, spec: Schedule,
         noise: Callable[[int], Tensor] | None = None) -> Tensor:
    r"""Integrate dx/dsigma = (x - D(x, sigma)) / sigma from sigma_max to 0, second order.

    Source: Karras et al. 2022, algorithm 2; deterministic (algorithm 1) when S_churn = 0.

    Args:
        denoiser: D(x, sigma) with x (B, C, H, W) float64 and sigma (B,); returns an estimate of x_0.
        latents: standard normal, (B, C, H, W), float64; the state starts at sigma_max * latents.
        spec: the schedule and churn. nfe = 2 num_steps - 1: the last step to 0 is an Euler step.
        noise: standard normal of the same shape for step i; needed where S_churn > 0.

    Returns: samples (B, C, H, W), float64.
    """
    sigmas = karras_schedule(spec.num_steps, spec.sigma_min, spec.sigma_max, spec.rho)
    sigmas = [float(sigma) for sigma in sigmas]
    x = latents.to(torch.float64) * sigmas[0]
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        churned = spec.S_churn > 0 and spec.S_min <= sigma <= spec.S_max
        if churned:
            if noise is None:
                raise ValueError("S_churn > 0 needs a source of noise for each step")
            gamma = min(spec.S_churn / spec.num_steps, math.sqrt(2) - 1)
            sigma_hat = sigma * (1 + gamma)
            x = x + math.sqrt(sigma_hat**2 - sigma**2) * spec.S_noise * noise(i).to(x)
            sigma = sigma_hat
        d = slope(denoiser, x, sigma)
        x_next = x + (sigma_next - sigma) * d
        if sigma_next > 0:
            d_next = slope(denoiser, x_next, sigma_next)
            x_next = x + (sigma_next - sigma) * (d + d_next) / 2
        x = x_next
    return x


def slope(denoiser: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: float) -> Tensor:
    """dx/dsigma = (x - D(x, sigma)) / sigma, in float64."""
    level = torch.full((len(x),), sigma, dtype=torch.float64, device=x.device)
    return (x - denoiser(x, level).to(torch.float64)) / sigma
