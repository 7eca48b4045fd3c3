"""The ranks of one job: how many there are, which this one is, and what they agree on.

Without a process group (`ambient.jobs.launch` makes one) there is one rank.
"""

from __future__ import annotations

import torch
from torch import distributed


def size() -> int:
    """The number of ranks."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This rank's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def first() -> bool:
    """Whether this rank is the one that writes."""
    return rank() == 0


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
