"""Operators that torch is slow at, written otherwise: on CPUs as matrix products.

Tensors stay contiguous NCHW: on CPUs group norm is slow in any other layout, and in NCHW so are pooling,
upsampling and (in bfloat16) 1x1 convolutions. On GPUs these are torch's own. A compiled network chooses its
own layout there, which matrix products would hinder, as torch's gradient of group norm does.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
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

    On CPUs a matrix product along the rows: torch's own operators give the same values to rounding. On GPUs
    repetition is a view that is copied, whose gradient is a plain sum: that of `F.interpolate`, compiled to
    repeat its bits, sorts all pixels, and took a seventh of a training step of the CIFAR-10 network.
    """
    batch, channels, height, width = x.shape
    if x.is_cuda and how == "down":
        return F.avg_pool2d(x, 2)
    if x.is_cuda:
        repeated = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
        return repeated.reshape(batch, channels, 2 * height, 2 * width)
    if how == "down":
        rows = x.reshape(-1, 2 * width) @ pooling(width, x.dtype, x.device)
        return rows.reshape(batch, channels, height // 2, width // 2)
    rows = x.reshape(-1, width) @ repeating(width, x.dtype, x.device)
    return rows.reshape(batch, channels, 2 * height, 2 * width)


@cache
def windows(size: int, count: int, where: torch.device) -> Tensor:
    """(count, size): takes a row to its means over `count` windows that cover it, and may overlap."""
    starts = torch.arange(count) * size // count
    ends = -(-torch.arange(1, count + 1) * size // count)
    place = torch.arange(size)
    inside = (place >= starts[:, None]) & (place < ends[:, None])
    return (inside / inside.sum(1, keepdim=True)).to(where)


class Pool(nn.Module):
    """(B, C, H, W) to (B, C, side, side): means over windows, which are those of `nn.AdaptiveAvgPool2d`.

    On GPUs two matrix products in float32: the gradient of torch's own operator never repeats its bits there.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            return F.adaptive_avg_pool2d(x, self.side)
        rows, columns = (windows(size, self.side, x.device) for size in x.shape[2:])
        with without_autocast(x):
            return (rows @ x.float() @ columns.T).to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """torch's group norm, in the form of `by_channel` where it is compiled for a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not (x.is_cuda and torch.compiler.is_compiling()):
            return super().forward(x)
        with without_autocast(x):
            return by_channel(x.float(), self.num_groups, self.weight, self.bias, self.eps)


def by_channel(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) weight + bias, with mean and biased variance of each group of channels.

    Both come from those of single channels: mean = E[m_c], var = E[v_c] + E[(m_c - mean)^2]. So no tensor of
    the size of `x` (B, C, H, W) is reshaped, and the layout that the compiler chose for it stays. torch's own
    gradient has channels first, whatever the layout of `x`, and kernels around it turn images.
    """
    by_group = (groups, -1)
    var, mean = (one.unflatten(1, by_group) for one in torch.var_mean(x, (2, 3), correction=0))
    centre = mean.mean(2, keepdim=True)
    spread = var.mean(2, keepdim=True) + (mean - centre).square().mean(2, keepdim=True)
    scale = (spread + eps).rsqrt() * weight.unflatten(0, by_group)
    centre, scale = (one.expand_as(mean).flatten(1)[:, :, None, None] for one in (centre, scale))
    fixed = centre.detach()  # the gradient to the centre goes through the second term, which is no image
    return (x - fixed) * scale + (bias[:, None, None] + (fixed - centre) * scale)


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


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q (B, T, d) or (B, heads, T, d), and k and v (..., L, d).

    On CPUs bfloat16 is computed in float32: torch's own kernel for it is slower there, up to eight times.
    GPUs' fused kernels ask for heads, and for channels that lie side by side. For anything else torch
    computes in float32, whatever the precision is.
    """
    if not q.is_cuda:
        wide = (one.float() if one.dtype == torch.bfloat16 else one for one in (q, k, v))
        with without_autocast(q):
            return F.scaled_dot_product_attention(*wide).to(v.dtype)
    by_head = (one.reshape(len(one), -1, *one.shape[-2:]) for one in (q, k, v))
    side_by_side = (one if one.stride(-1) == 1 else one.contiguous() for one in by_head)
    return F.scaled_dot_product_attention(*side_by_side).reshape(q.shape)


def without_autocast(x: Tensor) -> torch.autocast:
    """What is computed in it, on the device of `x`, keeps the precision of its tensors.

    torch.compile traces this, and no question to torch which devices autocast knows.
    """
    return torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False)
