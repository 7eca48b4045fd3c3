"""The ranks of one job: how many there are, which this one is, and what they agree on.

Without a process group (`ambient.jobs.launch` makes one) there is one rank, and torch is not loaded: that
takes longer than many a small job.
"""

from __future__ import annotations

import sys
from types import ModuleType


def group() -> ModuleType | None:
    """`torch.distributed` where there is a process group."""
    loaded = sys.modules.get("torch.distributed")
    return loaded if loaded and loaded.is_initialized() else None


def size() -> int:
    """The number of ranks."""
    return found.get_world_size() if (found := group()) else 1


def rank() -> int:
    """This rank's number, from 0."""
    return found.get_rank() if (found := group()) else 0


def first() -> bool:
    """Whether this rank is the one that writes."""
    return rank() == 0


OTHER = "another rank was asked"


def agree(why: str | None, other: str = OTHER) -> str | None:
    """The reason to stop of whichever rank has one, so that all stop after the same step.

    A rank that has none of its own gets `other`.
    """
    asked, = any_of(why is not None)  # asked by all: one that has a reason, too
    return why or (other if asked else None)


def any_of(*flags: bool) -> list[bool]:
    """Whether some rank has each of the flags."""
    if size() == 1:
        return list(flags)
    import torch

    count = torch.tensor(flags, dtype=torch.float32)
    group().all_reduce(count)
    return (count > 0).tolist()


def barrier() -> None:
    """Wait for every rank (over gloo: a rank may be busy for minutes)."""
    any_of(False)
