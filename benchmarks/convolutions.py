"""The convolutions of a network by themselves: what a step or an evaluation can't be faster than here."""

from __future__ import annotations

import statistics
from collections import Counter

import torch
from torch import nn
from torch.nn import functional as F

from ambient.diffusion.networks.unet import Conv
from ambient.training.hardware import device
from benchmarks.timing import seconds

LARGE = {"cpu": 16, "cuda": 1024}  # images of a large convolution
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def shapes(network: nn.Module, image: tuple[int, int, int]) -> Counter[tuple[int, int, int, int]]:
    """How often each (channels in, channels out, kernel, side) is convolved in an evaluation."""
    found: Counter[tuple[int, int, int, int]] = Counter()

    def note(conv: Conv, _inputs: object, output: torch.Tensor) -> None:
        channels_out, channels_in, kernel, _ = conv.weight.shape
        found[channels_in, channels_out, kernel, output.shape[-1]] += 1

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, Conv)]
    with torch.no_grad():
        where = next(network.parameters()).device
        network.eval()(torch.zeros(1, *image, device=where), torch.zeros(1, device=where))
    for hook in hooks:
        hook.remove()
    return found


def one(channels_in: int, channels_out: int, kernel: int, side: int, batch: int, dtype: torch.dtype,
        layout: torch.memory_format, by_input: bool = False, by_weight: bool = False) -> float:
    """Seconds of one convolution, median of five, and of its derivatives by what is asked for."""
    x = torch.randn(batch, channels_in, side, side, device=device())
    weight = torch.randn(channels_out, channels_in, kernel, kernel, device=device())
    x = x.to(dtype, memory_format=layout).requires_grad_(by_input)
    weight = weight.to(dtype, memory_format=layout).requires_grad_(by_weight)
    wanted = [tensor for tensor in (x, weight) if tensor.requires_grad]

    def work() -> None:
        y = F.conv2d(x, weight, padding=kernel // 2)
        if wanted:
            torch.autograd.grad(y, wanted, y.detach())

    work()
    return statistics.median(seconds(work) for _ in range(5))


def alone(network: nn.Module, image: tuple[int, int, int], batch: int, backward: bool) -> float:
    """Seconds of all convolutions of `batch` images in bfloat16, each in the quicker layout.

    With `backward` also of their derivatives, but for those by the image.
    """
    total = 0.0
    for shape, count in shapes(network, image).items():
        by_input = backward and shape[0] != image[0]
        total += count * min(one(*shape, batch, torch.bfloat16, layout, by_input, backward)
                             for layout in LAYOUTS)
    return total


def ceiling(dtype: torch.dtype, layout: torch.memory_format) -> float:
    """GFLOP/s of a large convolution, forward: 3x3, 256 to 256 channels, images of 16x16."""
    batch = LARGE[device().type]
    return 2 * batch * 256 * 256 * 9 * 16 * 16 / one(256, 256, 3, 16, batch, dtype, layout) / 1e9
