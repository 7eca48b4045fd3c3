"""The rows of a rank in parts, one after the other, so that a GPU's memory holds them.

One rank finds out on its way in how many. Several have to agree before they exchange gradients: one that ran
out of memory within an exchange would leave the others waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ambient.jobs import ranks, stopping
from ambient.jobs.state import State
from ambient.training import shares

LossOf = Callable[[int, shares.Share], Tensor]  # of a share of the batch that begins after so many images
NOTE = "parts"  # in the state, for the next attempt


def alone(loss_of: LossOf) -> AbstractContextManager:
    """Gradients of this block stay on their rank, and the next ones are added to them."""
    return loss_of.no_sync() if isinstance(loss_of, DistributedDataParallel) else nullcontext()


def backward(loss_of: LossOf, nimg: int, parts: int, exchanged: bool = True) -> Tensor:
    """The mean loss of this rank's rows, whose gradients are added up part by part.

    With the last part they are exchanged with the other ranks.
    """
    total = 0.0
    for number in range(parts):
        with nullcontext() if exchanged and number == parts - 1 else alone(loss_of):
            loss = loss_of(nimg, shares.Share(number, parts)) / parts
            loss.backward()
        total = total + loss.detach()
    return total


def can_be_halved(parts: int, batch: int) -> bool:
    """Whether the parts of each rank are of an even number of rows."""
    return batch % (2 * parts * ranks.size()) == 0


def doubled(parts: int, batch: int) -> int:
    """Twice as many parts. Raises `MemoryError` where they can't be of half the size."""
    if can_be_halved(parts, batch):
        return 2 * parts
    rows = batch // (parts * ranks.size())
    raise MemoryError(f"out of GPU memory with {rows} of a batch of {batch} at a time on each of "
                      f"{ranks.size()} ranks, which can't be halved: take GPUs with more memory, or a "
                      "smaller network")


def tried(loss_of: LossOf, nimg: int, parts: int, reserve: int, where: torch.device) -> None:
    """Gradients in so many parts, beside `reserve` bytes, which are given back when it ends or fails."""
    _held = torch.empty(reserve, dtype=torch.uint8, device=where)
    backward(loss_of, nimg, parts, exchanged=False)


def that_fit(loss_of: LossOf, network: nn.Module, nimg: int, batch: int, parts: int,
             reserve: int) -> tuple[int, bool]:
    """(`parts`, or as many more as it takes until every rank's memory holds one; whether weights are unused).

    A step is tried and thrown away, beside `reserve` bytes. Raises `MemoryError` where a row is too much.
    """
    weights = list(network.parameters())
    while True:
        short = None
        try:
            tried(loss_of, nimg, parts, reserve, weights[0].device)
        except torch.OutOfMemoryError:
            short = "out of memory"
        some_unused = any(weight.grad is None for weight in weights)
        network.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        if ranks.agree(short) is None:
            return parts, some_unused
        parts = doubled(parts, batch)
        if ranks.first():
            stopping.say(f"out of GPU memory: a batch of {batch} goes on in {parts} parts on each rank")


@contextmanager
def noting(state: State, nimg: int, batch: int, parts: int) -> Iterator[None]:
    """Of several ranks, end the attempt where one runs out of memory all the same, after `nimg` images.

    Raises `MemoryError`, and the next attempt begins with smaller parts.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        if ranks.size() == 1:
            raise
        more = doubled(parts, batch)
        state.note(NOTE, {"ranks": ranks.size(), "parts": more})
        raise MemoryError(f"out of GPU memory after {nimg:,} images, with a batch of {batch} in {parts} "
                          f"parts on each of {ranks.size()} ranks; the same command goes on from the last "
                          f"checkpoint, in {more} parts") from None


def of_earlier(state: State, facts: dict) -> int:
    """The parts that attempts before had, of as many ranks: by a checkpoint's `facts`, and by their note."""
    every = [told["parts"] for told in (facts, state.noted(NOTE)) if told.get("ranks") == ranks.size()]
    return max(every, default=1)
