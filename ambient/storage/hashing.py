"""SHA-256 of large files: several files at once, and of each file several digests by one reading.

The bytes of a file are hashed in their order, which one thread does. So threads help where there are several
files, or parts with digests of their own. `hashlib` frees the interpreter meanwhile. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedIOBase, RawIOBase
from itertools import count
from pathlib import Path
from typing import TypeVar

Item, Digest = TypeVar("Item"), TypeVar("Digest")
Seen = Callable[[int], None]  # is told how many bytes were read, now and then
BLOCK = 2**21  # bytes that are read at once: of each file at work two such blocks are in memory
TICK = 1.0  # seconds between two words on how many bytes were read
GIVEN = ("SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS")  # the second one is set by Snakemake, to a job's threads


class Left(Exception):
    """What a thread stops by whose digest nobody waits for any more."""


def cores() -> int:
    """How many cores this process was given: by SLURM, by Snakemake, or all that it may run on."""
    here = len(os.sched_getaffinity(0))
    given = next(filter(None, map(os.environ.get, GIVEN)), "").partition(",")[0].strip()
    return min(int(given), here) if given.isdecimal() and int(given) else here


def unseen(size: int) -> None:
    """For whom nobody counts the bytes."""


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """An error of reading names its file: the system names what it can't open, and not what it can't read."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def feed(path: str | Path, sinks: Sequence[Callable[[memoryview], object]], seen: Seen = unseen) -> None:
    """Give all bytes of a file to each of the sinks, in order: in threads, while the next ones are read."""
    with named(path), open(path, "rb", buffering=0) as file:
        feed_open(file, sinks, seen)


def feed_open(file: RawIOBase | BufferedIOBase, sinks: Sequence[Callable[[memoryview], object]],
              seen: Seen) -> None:
    """As `feed`, of an open file: one block is read while the sinks are at work on the one before."""
    from concurrent.futures import ThreadPoolExecutor

    if 0 < os.fstat(file.fileno()).st_size <= BLOCK:  # not worth a thread
        content = memoryview(file.read())
        for sink in sinks:
            sink(content)
        seen(len(content))
        return
    blocks, at_work = [memoryview(bytearray(BLOCK)) for _ in range(2)], []
    with ThreadPoolExecutor(len(sinks)) as pool:
        for k in count():
            block = blocks[k % 2]
            size = file.readinto(block)
            for one in at_work:
                one.result()
            if not size:
                return
            at_work = [pool.submit(sink, block[:size]) for sink in sinks]
            seen(size)


def sha256(path: str | Path, seen: Seen = unseen) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    found = hashlib.sha256()
    feed(path, [found.update], seen)
    return found.hexdigest()


def of_each(digest: Callable[[Item, Seen], Digest], items: Sequence[Item], sizes: Sequence[int],
            threads: int, told: Seen = unseen) -> list[Digest]:
    """`digest(item, seen)` of each item, in order, by so many threads; the largest ones are begun first.

    `told` is called each second, with the bytes read so far, by the thread that waits here. What it raises,
    or a signal's handler, or a digest, ends all of them.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    found: dict[int, Digest] = {}
    order = iter(sorted(range(len(items)), key=lambda k: -sizes[k]))
    left, lock, done = threading.Event(), threading.Lock(), 0

    def seen(size: int) -> None:
        nonlocal done
        if left.is_set():
            raise Left
        with lock:
            done += size

    def work() -> None:
        with suppress(Left):
            for k in order:
                found[k] = digest(items[k], seen)

    with ThreadPoolExecutor(max(min(threads, len(items)), 1)) as pool:
        try:
            at_work = [pool.submit(work) for _ in range(min(threads, len(items)))]
            while wait(at_work, TICK, FIRST_EXCEPTION).not_done:
                told(done)
                for one in at_work:
                    if one.done():
                        one.result()
        finally:
            left.set()
    for one in at_work:
        one.result()
    return [found[k] for k in range(len(items))]
