"""Several ranks at one job: each takes its rows of the same global batch, and gradients are averaged.

Every random number is drawn for the whole batch on every rank and then sliced, so that a run does not
depend on the number of ranks, but for the order in which floating-point sums are taken. With one rank (see
`ambient.jobs.ranks`) nothing here changes a bit. A rank whose rows don't fit into its memory at once takes
them in parts, in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, distributed

from ambient.jobs import ranks


@dataclass(frozen=True)
class Share:
    """What this rank takes of each batch at once: part `number`, from 0, of the `parts` of its rows."""

    number: int = 0
    parts: int = 1

    @property
    def count(self) -> int:
        """Into how many equal shares a batch is cut: the parts of all ranks."""
        return ranks.size() * self.parts

    def rows(self, batch: int) -> slice:
        """The rows of a batch. Raises `ValueError` where they can't be shared out evenly."""
        if batch % self.count:
            raise ValueError(f"a batch of {batch} can't be shared by {ranks.size()} ranks"
                             + (f" in {self.parts} parts each" if self.parts > 1 else "")
                             + ": use a divisor of it")
        each = batch // self.count
        first = (ranks.rank() * self.parts + self.number) * each
        return slice(first, first + each)

    def bernoulli(self, shape: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
        """True with P = p, for these rows, of `shape`, of a batch: the rows of one draw for all of it.

        p is rounded to a multiple of 2^-16: one draw of 64 bits makes four decisions, since torch's own
        `bernoulli_`, with a draw each, took a tenth of a training step of the CIFAR-10 network.
        """
        count = self.count * math.prod(shape)
        drawn = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
        drawn.random_(-(2**63), None, generator=generator)
        decisions = drawn.view(torch.int16)[:count].reshape(self.count * shape[0], *shape[1:])
        return decisions[self.rows(len(decisions))] < round(p * 2**16) - 2**15

    def masks(self, generator: torch.Generator) -> Callable[[tuple[int, ...], float], Tensor]:
        """`bernoulli` of these rows by one generator: what a network draws its dropout masks with."""
        return partial(self.bernoulli, generator=generator)


WHOLE = Share()  # all rows of this rank


def average(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their mean over the ranks, in one exchange."""
    if ranks.size() == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= ranks.size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.reshape(tensor.shape))
