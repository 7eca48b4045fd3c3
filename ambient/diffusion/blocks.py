"""The random numbers of a batch, drawn in blocks of rows, so that whoever needs some rows draws no others.

Each block of rows has a generator of its own, keyed by its place in the batch. So a number depends neither
on the size of the batch nor on how its rows are shared out. A rank's work falls with the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ambient.diffusion import randomness

BLOCK = 16  # rows that one generator serves; a rank with fewer rows of a batch draws for as many


class Blocks:
    """The generators of some rows of a batch. Draws follow each other, as those of one generator do."""

    def __init__(self, rows: slice, device: torch.device | str, *position: int | str) -> None:
        """`rows`: from start to stop. `position`: the key of the batch's numbers (`randomness.key`)."""
        blocks = range(rows.start // BLOCK, -(-rows.stop // BLOCK))
        self.count = rows.stop - rows.start
        self.device = torch.device(device)
        self.first = rows.start - blocks.start * BLOCK  # of the rows, in what their blocks give
        self.generators = [randomness.torch_generator(device, *position, block) for block in blocks]

    def draw(self, one: Callable[..., Tensor]) -> Tensor:
        """The rows (B, ...) of what `one(BLOCK, generator=generator)` gives for each block."""
        parts = [one(BLOCK, generator=generator) for generator in self.generators]
        return torch.cat(parts)[self.first:self.first + self.count]

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform on [0, 1), (B, *shape)."""
        return self.draw(lambda rows, generator: torch.rand(
            rows, *shape, generator=generator, device=self.device, dtype=dtype))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32 (B, *shape)."""
        return self.draw(lambda rows, generator: torch.randn(
            rows, *shape, generator=generator, device=self.device))

    def integers(self, below: int) -> Tensor:
        """Uniform on 0 to `below` - 1, int64 (B,)."""
        return self.draw(lambda rows, generator: torch.randint(
            below, (rows,), generator=generator, device=self.device))

    def bernoulli(self, shape: tuple[int, ...], p: float) -> Tensor:
        """True with P = p, of `shape` (B, ...): what a network draws its dropout masks with.

        p is rounded to a multiple of 2^-16: one draw of 64 bits makes four decisions, since torch's own
        `bernoulli_`, with a draw each, took a tenth of a training step of the CIFAR-10 network.
        """
        each = math.prod(shape[1:]) * BLOCK // 4  # draws of a block, which is a multiple of 4
        drawn = torch.empty(len(self.generators), each, dtype=torch.int64, device=self.device)
        for block, generator in zip(drawn, self.generators, strict=True):
            block.random_(-(2**63), None, generator=generator)
        rows = drawn.view(torch.int16).reshape(-1, *shape[1:])[self.first:self.first + self.count]
        below = round(p * 2**16) - 2**15
        return rows < below if below < 2**15 else torch.ones_like(rows, dtype=torch.bool)
