"""The hashing of a job's files: by as many threads as the job has cores, and with a word on how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ambient.jobs import stopping
from ambient.jobs.progress import Aside
from ambient.storage import hashing

Item, Digest = TypeVar("Item"), TypeVar("Digest")
MB = 10**6


def of_each(job: str, what: str, digest: Callable[[Item, hashing.Seen], Digest], items: Sequence[Item],
            sizes: Sequence[int], done: float = 0.0) -> list[Digest]:
    """`digest(item, seen)` of each item, in order. `what` they are, in words; `sizes` are their bytes.

    `done`: of the job's own work. Told to stop, the job leaves at once: the next attempt hashes them anew.
    """
    progress = Aside(job, f"hashes {what}", sum(sizes) // MB, "MB", done)
    with stopping.nothing_to_save(progress.name):
        return hashing.of_each(digest, items, sizes, hashing.cores(),
                               lambda seen: progress.update(seen // MB))


def of_files(job: str, what: str, digest: Callable[[Path, hashing.Seen], Digest], paths: Sequence[Path],
             done: float = 0.0) -> dict[Path, Digest]:
    """As `of_each`, by path: each file is hashed once."""
    every = list(dict.fromkeys(paths))
    sizes = [path.stat().st_size for path in every]
    return dict(zip(every, of_each(job, what, digest, every, sizes, done), strict=True))
