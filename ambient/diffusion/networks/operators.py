"""Operators that torch is slow at on CPUs, written as matrix products there.

Tensors stay contiguous NCHW: on CPUs group norm is slow in any other layout, and in NCHW so are pooling,
upsampling and (in bfloat16) 1x1 convolutions. On GPUs all of them are torch's own: a compiled network chooses
its own layout, which matrix products would hinder.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


@cache
def pooling(side: int, dtype: torch.dtype, where: torch.device) -> Tensor:
    """(2 side, side / 2): takes two rows, one behind the other, to the means of their 2x2 squares."""
    column = torch.arange(2 * side) % side // 2
    return (F.one_hot(column, side // 2) / 4).to(where, dtype)


@cache
def repeating(side: int, dtype: torch.dtype, where: torch.device) -> Tensor:
    """(side, 4 side): takes a row to two, one behind the other, in which each pixel is repeated."""
    return 4 * pooling(2 * side, dtype, where).T.contiguous()


def resized(x: Tensor, how: str) -> Tensor:
    """(B, C, H, W) at half or twice the size by the 2x2 box filter: means ("down"), repetition ("up").

    On CPUs a matrix product along the rows: torch's own operators give the same values to rounding.
    """
    if x.is_cuda:
        return F.avg_pool2d(x, 2) if how == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")
    batch, channels, height, width = x.shape
    if how == "down":
        rows = x.reshape(-1, 2 * width) @ pooling(width, x.dtype, x.device)
        return rows.reshape(batch, channels, height // 2, width // 2)
    rows = x.reshape(-1, width) @ repeating(width, x.dtype, x.device)
    return rows.reshape(batch, channels, 2 * height, 2 * width)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution of `x` (B, I, H, W) with `weight` (O, I, k, k), k odd, that keeps the size."""
    channels_out, _, kernel, _ = weight.shape
    if kernel == 1 and x.dtype != torch.float32 and not x.is_cuda:
        # One matrix product an image; the weight is cast before it is repeated, so once.
        out = torch.bmm(weight[:, :, 0, 0].to(x.dtype).expand(len(x), -1, -1), x.flatten(2))
        if bias is not None:
            out = out + bias[:, None].to(x.dtype)
        return out.reshape(len(x), channels_out, *x.shape[2:])
    return F.conv2d(x, weight, bias, padding=kernel // 2)


def without_autocast(x: Tensor) -> torch.autocast:
    """What is computed in it, on the device of `x`, keeps the precision of its tensors."""
    device = x.device.type
    return torch.autocast(device if torch.amp.is_autocast_available(device) else "cpu", enabled=False)
