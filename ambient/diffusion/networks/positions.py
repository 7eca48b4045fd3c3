r"""Where a patch lies, and how noisy its image is, as sines and cosines."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST = 10000.0  # period of the slowest wave, over 2 pi


def positions(grid: int, width: int, scale: float = 1.0) -> Tensor:
    """Embeddings of grid x grid patches, row by row: (1, grid^2, width), float64.

    The patch in row r and column j has [sin(j' w), cos(j' w), sin(r' w), cos(r' w)], each for the width / 4
    frequencies w_k = 10000^(-k / (width / 4)), with j' = j / scale and r' = r / scale: images of `scale`
    times the side have the coordinates of smaller ones, more densely. Raises `ValueError` where 4 does not
    divide `width`, and for a `scale` that is not above 0.
    """
    if not scale > 0:
        raise ValueError(f"scale: got {scale}, allowed: > 0")
    if width % 4:
        raise ValueError(f"width: got {width}, allowed: multiples of 4, two waves for each of two axes")
    quarter = width // 4
    frequencies = LONGEST ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(grid, dtype=torch.float64)[:, None] / scale * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2), of one coordinate
    columns, rows = waves[None].expand(grid, -1, -1), waves[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, grid * grid, width)


def waves_of_time(c_noise: Tensor, width: int) -> Tensor:
    """[cos(t f), sin(t f)] (B, width) of c_noise t (B,), f_k = 10000^(-k / (width / 2)): cosines first."""
    half = width // 2
    exponents = torch.arange(half, dtype=c_noise.dtype, device=c_noise.device) / half
    angles = c_noise[:, None] * torch.exp(-math.log(LONGEST) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)
