"""Work in pieces, each saved when it is done: the ranks share them out, and a kill costs the piece at work.

Sampling, and every kind of annotation, goes through here: one way to share, to check what is on disk, to stop
when told, and to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch

from ambient.jobs import ranks, stopping
from ambient.jobs.progress import Progress
from ambient.jobs.state import State


def collect(name: str, keep: State, pieces: Sequence[tuple[str, int]],
            make: Callable[[int], Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]] | None:
    """The arrays of all pieces, in order, each read when it is asked for; None but on the first rank.

    `pieces`: (name, images) of each; `make(k)` gives the arrays of piece k. Each round every rank takes one
    piece, and makes it unless a sound one is on disk. Told to stop, all leave after the same round, with
    status `stopping.RESUME`, so that none waits where another has left.
    """
    ends = np.cumsum([count for _, count in pieces])
    progress = Progress(name, int(ends[-1]))
    for first in range(0, len(pieces), ranks.size()):
        if why := ranks.agree(stopping.reason()):
            done = int(ends[first - 1]) if first else 0
            stopping.leave(f"{name}: stopped after {done:,} images ({why}), shards saved")
        mine = first + ranks.rank()
        if mine < len(pieces) and not there(keep, *pieces[mine]):
            piece, count = pieces[mine]
            stopping.patiently(keep.put, piece, as_tensors(make(mine)), {"images": count})
            progress.update(int(ends[mine]))
    ranks.barrier()
    return (as_arrays(keep.get(piece)[0]) for piece, _ in pieces) if ranks.first() else None


def there(keep: State, piece: str, count: int) -> bool:
    """Whether a sound piece of so many images is on disk: a machine of another kind cuts other pieces."""
    return (keep.facts(piece) or {}).get("images") == count


def as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def as_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays that share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}
