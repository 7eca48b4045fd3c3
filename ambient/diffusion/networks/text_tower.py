r"""CLIP's transformer of texts, with the parameter names of OpenCLIP's public checkpoints.

x = token embedding + positional embedding; in each block x <- x + Attention(LN(x)), then x <- x + MLP(LN(x)).
A position attends to those before it and to itself. The states are LN(x) at all positions, padding included:
what a denoiser is told. The features of a text are the state at its end token, projected.

Axes are (batch, position, channel) throughout. OpenCLIP up to 2.24 had positions first. Weights know nothing
of that, and a tower called in the wrong order attends across the batch without an error.

Source: Radford et al. 2021 (arXiv:2103.00020); the quick form of GELU is x sigmoid(1.702 x).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

QUICK = 1.702


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (QUICK * x).sigmoid()


class Block(nn.Module):
    """Attention and a layer of 4 times the width, each with its norm before it: (B, T, width)."""

    def __init__(self, width: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(c_fc=nn.Linear(width, 4 * width),
                                             gelu=QuickGELU() if quick else nn.GELU(),
                                             c_proj=nn.Linear(4 * width, width)))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The blocks one after the other."""

    def __init__(self, width: int, heads: int, layers: int, quick: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, quick) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class TextTower(nn.Module):
    """Token ids (B, T) to states (B, T, width) and features (B, features).

    Args:
        vocabulary: number of tokens; the end token has the largest id.
        context: T, positions.
        width: channels of a state, a multiple of `heads`.
        heads: of attention.
        layers: blocks.
        features: width of the space that texts share with images.
        quick_gelu: x sigmoid(1.702 x) in the place of the exact GELU.
    """

    def __init__(self, vocabulary: int, context: int, width: int, heads: int, layers: int, features: int,
                 quick_gelu: bool) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, width))
        self.transformer = Transformer(width, heads, layers, quick_gelu)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, features))

    def states(self, tokens: Tensor) -> Tensor:
        """(B, T, width) of token ids (B, T). Raises `ValueError` for another number of positions."""
        context = len(self.positional_embedding)
        if tokens.shape[1] != context:
            raise ValueError(f"texts of {tokens.shape[1]} tokens, allowed: {context}, padded by zeros")
        mask = torch.full((context, context), float("-inf"), dtype=self.positional_embedding.dtype,
                          device=tokens.device).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding
        return self.ln_final(self.transformer(x, mask))

    def features(self, tokens: Tensor) -> Tensor:
        """Unit vectors (B, features): the projected state at the end token of each text."""
        ends = tokens.argmax(1)
        states = self.states(tokens)[torch.arange(len(tokens), device=tokens.device), ends]
        return F.normalize(states @ self.text_projection, dim=1)
