"""Several ranks at one job: each takes its rows of the same global batch, and gradients are averaged.

A rank reads and draws its own rows alone. Their random numbers are keyed by their places in the batch
(`ambient.diffusion.blocks`), so that a run does not depend on the number of ranks, but for the order in which
floating-point sums are taken. With one rank (see `ambient.jobs.ranks`) nothing here changes a bit. A rank
whose rows don't fit into its memory at once takes them in parts, in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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


WHOLE = Share()  # all rows of this rank


def add_up(counts: Tensor) -> None:
    """Replace whole numbers by their sums over the ranks."""
    if ranks.size() > 1:
        distributed.all_reduce(counts)


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
