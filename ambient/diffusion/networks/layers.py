r"""Layers of transformers: linear maps, norms, attention with normalised queries and keys, a gated MLP.

LN(v) = (v - mean) / sqrt(var + 1e-6) w, biased variance, no shift. Weights are drawn by a generator that the
caller has; a standard deviation of None means Xavier's uniform law, 0 means zeros. Biases start at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.diffusion.networks.operators import attention

EPS = 1e-6


class Linear(nn.Linear):
    """x W^T + b, with b only where `bias`; weight (channels_out, channels_in)."""

    def __init__(self, channels_in: int, channels_out: int, generator: torch.Generator | None,
                 std: float | None = None, bias: bool = False) -> None:
        super().__init__(channels_in, channels_out, bias)
        if std is None:
            nn.init.xavier_uniform_(self.weight, generator=generator)
        elif std:
            nn.init.normal_(self.weight, std=std, generator=generator)
        else:
            nn.init.zeros_(self.weight)
        if bias:
            nn.init.zeros_(self.bias)

    def reset_parameters(self) -> None:
        """Nothing: torch would draw from its global generator here."""


def layer_norm(width: int) -> nn.LayerNorm:
    """LN over the last axis, with a scale and no shift."""
    return nn.LayerNorm(width, eps=EPS, bias=False)


def attended(q: Tensor, k: Tensor, v: Tensor, head: int) -> Tensor:
    """softmax(q k^T / sqrt(head)) v, head by head: (B, T, h) for q (B, T, h) and k, v (B, L, h).

    Queries and keys are normalised first, over the channels of all heads together.
    """
    q, k = (F.layer_norm(one, one.shape[-1:], eps=EPS) for one in (q, k))
    q, k, v = (one.unflatten(2, (-1, head)).transpose(1, 2) for one in (q, k, v))
    return attention(q, k, v).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of tokens (B, T, width) to each other, through `inside` channels in heads of `head`."""

    def __init__(self, width: int, inside: int, head: int, generator: torch.Generator | None, *, std: float,
                 std_out: float) -> None:
        super().__init__()
        self.head = head
        self.qkv = Linear(width, 3 * inside, generator, std)
        self.proj = Linear(inside, width, generator, std_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attended(*self.qkv(x).chunk(3, dim=2), self.head))


class CrossAttention(nn.Module):
    """Attention of tokens (B, T, width) to others (B, L, width), all of which count.

    `inside` and `head` as in `SelfAttention`.
    """

    def __init__(self, width: int, inside: int, head: int, generator: torch.Generator | None, *, std: float,
                 std_out: float) -> None:
        super().__init__()
        self.head = head
        self.q_linear = Linear(width, inside, generator, std)
        self.kv_linear = Linear(width, 2 * inside, generator, std)
        self.proj = Linear(inside, width, generator, std_out)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        return self.proj(attended(self.q_linear(x), *self.kv_linear(others).chunk(2, dim=2), self.head))


class GatedMLP(nn.Module):
    """W3 (silu(W1 x) W2 x), `inside` channels between."""

    def __init__(self, width: int, inside: int, generator: torch.Generator | None, *, std: float,
                 std_out: float, std_last: float | None = None) -> None:
        """std of W1, `std_out` of W2, `std_last` of W3; None: `std_out`."""
        super().__init__()
        self.w1 = Linear(width, inside, generator, std)
        self.w2 = Linear(width, inside, generator, std_out)
        self.w3 = Linear(inside, width, generator, std_out if std_last is None else std_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(F.silu(self.w1(x)) * self.w2(x))
