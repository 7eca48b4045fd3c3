r"""Operations that preserve magnitudes: inputs of unit RMS give outputs of unit RMS, in expectation.

Written after Karras et al. 2024 (arXiv:2312.02696, sections 2.3 and 2.5, appendix B). RMS(x) is the root of
the mean of x^2 over the axes named. A weight layer has no bias and a weight w whose scale does nothing: it
computes gain / sqrt(fan_in) w^ * x with w^ = w / (eps + RMS(w)), RMS over what makes one output unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.diffusion.network import Constrained
from ambient.diffusion.networks.operators import convolution

EPS = 1e-4
TINY = 1e-30  # in the root of a mean square: the root of 0 has no gradient
SILU_RMS = 0.596  # of silu(x), x standard normal: what follows silu has 1 / SILU_RMS among its factors


def magnitude(x: Tensor, axes: Sequence[int]) -> Tensor:
    """eps + RMS(x) over `axes`, which stay with size 1; in float32 or wider."""
    axes = tuple(axes)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return EPS + (wide.square().mean(axes, keepdim=True) + TINY).sqrt()  # on CPUs ten times as fast as a norm


def normalised(x: Tensor, axis: int) -> Tensor:
    """x / (eps + RMS(x)) over one axis."""
    return x / magnitude(x, (axis,)).to(x.dtype)


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2)."""
    size = math.hypot(1 - t, t)
    return torch.add(a * ((1 - t) / size), b, alpha=t / size)


def mp_cat(a: Tensor, b: Tensor, t: float) -> Tensor:
    """a (B, N_a, ...) and b (B, N_b, ...) joined along channels, with shares 1 - t and t of the magnitude.

    [s (1 - t) / sqrt(N_a) a, s t / sqrt(N_b) b], s = sqrt((N_a + N_b) / ((1 - t)^2 + t^2)).
    """
    of_a, of_b = a.shape[1], b.shape[1]
    s = math.sqrt(of_a + of_b) / math.hypot(1 - t, t)
    return torch.cat([a * (s * (1 - t) / math.sqrt(of_a)), b * (s * t / math.sqrt(of_b))], dim=1)


class Fourier(nn.Module):
    """sqrt(2) cos(f x + p) for x (B,): (B, channels). f = 2 pi N(0, 1) and p = 2 pi U(0, 1) are drawn once.

    They are part of the state that is saved, and no parameters.
    """

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(channels, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return math.sqrt(2) * (x.to(self.freqs.dtype)[:, None] * self.freqs + self.phases).cos()


class Weight(Constrained):
    """A weight layer: convolution with an odd kernel that keeps the size, or (kernel 0) a linear layer.

    The weight is normalised in its own precision, float32 in training, and cast afterwards. Training also
    normalises it in place before each step: the gradient is orthogonal to it, so that it would only grow, and
    the steps become small beside it. A second normalisation still does a little: RMS 1 becomes
    1 / (1 + eps).
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, generator: torch.Generator) -> None:
        super().__init__()
        sides = (kernel, kernel) if kernel else ()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, *sides, generator=generator))

    def magnitude(self) -> Tensor:
        return magnitude(self.weight, range(1, self.weight.ndim))

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        weight = self.weight * (gain / math.sqrt(self.weight[0].numel()) / self.magnitude())
        return convolution(x, weight) if self.weight.ndim > 2 else F.linear(x, weight)
