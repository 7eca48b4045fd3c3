"""Several ranks at one job: each takes its rows of the same global batch, and gradients are averaged.

Every random number is drawn for the whole batch on every rank and then sliced, so that a run does not
depend on the number of ranks, but for the order in which floating-point sums are taken. Without a process
group (see `launch.py`) there is one rank, and nothing here changes a bit. A rank whose rows don't fit into
its memory at once takes them in parts, in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed

PART: ContextVar[tuple[int, int]] = ContextVar("part", default=(0, 1))


def size() -> int:
    """The number of ranks."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This rank's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def first() -> bool:
    """Whether this rank is the one that writes."""
    return rank() == 0


@contextmanager
def part(number: int, count: int) -> Iterator[None]:
    """Within it this rank takes its rows' part `number` of `count`, from 0, for all of them."""
    token = PART.set((number, count))
    try:
        yield
    finally:
        PART.reset(token)


def shares() -> int:
    """Into how many equal shares a batch is cut: the parts of all ranks."""
    return size() * PART.get()[1]


def rows(count: int) -> slice:
    """This rank's rows of a batch of `count`. Raises `ValueError` where they can't be shared out evenly."""
    number, parts = PART.get()
    if count % shares():
        raise ValueError(f"a batch of {count} can't be shared by {size()} ranks"
                         + (f" in {parts} parts each" if parts > 1 else "") + ": use a divisor of it")
    each = count // shares()
    first = (rank() * parts + number) * each
    return slice(first, first + each)


def bernoulli(shape: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """True with P = p, for this rank's rows, of `shape`, of a batch: the rows of one draw for all of it.

    p is rounded to a multiple of 2^-16: one draw of 64 bits makes four decisions, since torch's own
    `bernoulli_`, with a draw each, took a tenth of a training step of the CIFAR-10 network.
    """
    count = shares() * math.prod(shape)
    drawn = torch.empty(-(-count // 4), dtype=torch.int64, device=generator.device)
    drawn.random_(-(2**63), None, generator=generator)
    parts = drawn.view(torch.int16)[:count].reshape(shares() * shape[0], *shape[1:])
    return parts[rows(len(parts))] < round(p * 2**16) - 2**15


def average(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their mean over the ranks, in one exchange."""
    if size() == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= size()
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.reshape(tensor.shape))


def agree(why: str | None) -> str | None:
    """The reason to stop of whichever rank has one, so that all stop after the same step."""
    if size() == 1:
        return why
    asked = torch.tensor(float(why is not None))
    distributed.all_reduce(asked)
    return why or ("another rank was asked" if asked.item() else None)


def barrier() -> None:
    """Wait for every rank (over gloo: a rank may be busy for minutes)."""
    if size() > 1:
        distributed.all_reduce(torch.zeros(1))
