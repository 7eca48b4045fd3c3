"""Work in pieces, each saved when it is done: the ranks share them out, and a kill costs the piece at work.

Every stage that treats images or texts one by one goes through here: sampling, annotation, encoding, scoring
and judging. There is one way to share, to check what is on disk, to stop when told, and to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ambient.jobs import ranks, stopping
from ambient.jobs.progress import Progress
from ambient.jobs.state import State


@dataclass(frozen=True)
class Shards:
    """The arrays of all pieces, in order. Each is read when it is asked for, anew by each pass over them."""

    state: State
    pieces: Sequence[tuple[str, int]]

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (as_arrays(self.state.get(piece)[0]) for piece, _ in self.pieces)


def collect(name: str, keep: State, pieces: Sequence[tuple[str, int]],
            make: Callable[[int], Mapping[str, np.ndarray]]) -> Iterable[dict[str, np.ndarray]] | None:
    """The arrays of all pieces, as `Shards`; None but on the first rank.

    `pieces`: (name, images) of each; `make(k)` gives the arrays of piece k. Each round every rank takes one
    piece, and makes it unless a sound one is on disk. Told to stop, all leave after the same round, with
    status `stopping.RESUME`, so that none waits where another has left. Raises `ValueError` without pieces:
    each stage refuses what has no images by a message of its own.
    """
    if not pieces:
        raise ValueError(f"{name}: got no images, allowed: one or more")
    ends = np.cumsum([count for _, count in pieces])
    progress = Progress(name, int(ends[-1]))
    for first in range(0, len(pieces), ranks.size()):
        if why := ranks.agree(stopping.reason()):
            done = int(ends[first - 1]) if first else 0
            stopping.leave(f"{name}: stopped after {done:,} images ({why}), shards saved")
        mine = first + ranks.rank()
        if mine >= len(pieces):
            continue
        piece, count = pieces[mine]
        if there(keep, piece, count):
            progress.skip_to(int(ends[mine]))
        else:
            stopping.patiently(keep.put, piece, as_tensors(make(mine)), {"images": count})
            progress.update(int(ends[mine]))
    ranks.barrier()
    return Shards(keep, pieces) if ranks.first() else None


def there(keep: State, piece: str, count: int) -> bool:
    """Whether a sound piece of so many images is on disk: a machine of another kind cuts other pieces."""
    return (keep.facts(piece) or {}).get("images") == count


def as_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays as tensors that share their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def as_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays that share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}
