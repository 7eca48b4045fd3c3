"""A large file of arrays one of which takes long to make: a kill costs the rows since the last save.

The file lies in the job's state at its full size from the begin, and grows in order. It is no second copy: in
its place it is the same file by a second name, and the state's name goes with the state.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from ambient.jobs import stopping
from ambient.jobs.records import ASIDE
from ambient.jobs.state import State
from ambient.storage.arrays import Array, Writer, in_blocks
from ambient.storage.files import atomic, is_full

FILE = "growing"  # in the folder of the state; the names of its records begin with it
TOGETHER = 256  # rows, at most, that are made at once: a job that is told to stop makes these first
EVERY = "AMBIENT_CHECKPOINT_SECONDS"


class Learnt(Protocol):
    """What making rows tells beyond the rows."""

    def since(self) -> dict:
        """What became known since this was called last, as JSON."""

    def adopt(self, learnt: dict) -> None:
        """Take over what became known by rows that are there already."""


class Growing:
    """What a job's state has of a large file. `mark`: what it is made of, beyond what makes the state.

    What was made of anything else is not used.
    Each save is a record: which bytes of the array are there, their SHA-256, and facts of the caller's.
    """

    def __init__(self, state: State, mark: str) -> None:
        self.state, self.path = state, state.folder / FILE
        if state.noted(FILE).get("mark") != mark:
            for old in state.folder.glob(f"{FILE}*"):
                if ASIDE not in old.name:
                    old.unlink()
            state.note(FILE, {"mark": mark})

    def found(self, writer: Writer, name: str) -> list[dict]:
        """The records of saves that follow each other from the array's begin, and whose bytes are there."""
        records: list[dict] = []
        while record := self.state.noted(f"{FILE}-{records[-1]['end'] if records else 0}"):
            if not writer.holds(name, record["start"], record["end"], record["sha256"]):
                stopping.say(f"{self.path}: bytes {record['start']:,} to {record['end']:,} of {name} differ "
                             "from their digest; what lies from there on is made again")
                break
            records.append(record)
        return records

    def write(self, job: str, out: Path, arrays: Mapping[str, Array], name: str,
              learnt: Learnt | None = None, check: Callable[[], None] = lambda: None) -> None:
        """Write `arrays` to `out`, atomically; the rows of array `name` are made in order, and kept.

        `check` as of `write_by_rows`. Told to stop, the job saves and leaves (`stopping.leave`).
        """
        writer = self.opened(arrays, out)
        records = self.found(writer, name)
        for record in records if learnt else ():
            learnt.adopt(record["learnt"])
        self.grow(job, writer, arrays[name], name, learnt, records[-1]["end"] if records else 0)
        for key, array in arrays.items():
            if key != name:
                writer.put(key, 0, array)
        writer.check()
        check()
        put_in_place(self.path, out)

    def opened(self, arrays: Mapping[str, Array], out: Path) -> Writer:
        """The file, as an earlier attempt left it or new. Raises `OSError` where the disk is full."""
        try:
            return Writer(self.path, {key: (array.shape, array.dtype) for key, array in arrays.items()},
                          keep=True)
        except OSError as error:
            if not is_full(error):
                raise
            self.path.unlink()
            raise OSError(errno.ENOSPC, f"no space left for {out.name}", str(self.path.parent)) from None

    def grow(self, job: str, writer: Writer, array: Array, name: str, learnt: Learnt | None,
             start: int) -> None:
        """Put in the rows from byte `start` of the array on, with a save now and then."""
        each, every = math.prod(array.shape[1:]) * array.dtype.itemsize, stopping.setting(EVERY)
        sha, saved = hashlib.sha256(), time.monotonic()
        for first, rows in in_blocks(array, start // each, TOGETHER):
            writer.put(name, first, rows)
            sha.update(memoryview(np.ascontiguousarray(rows)).cast("B"))
            done, why = first + len(rows), stopping.reason()
            if why or done == len(array) or time.monotonic() - saved > every:
                writer.sync()
                stopping.patiently(self.state.note, f"{FILE}-{start}", {
                    "start": start, "end": done * each, "sha256": sha.hexdigest(),
                    "learnt": learnt and learnt.since()})
                start, sha, saved = done * each, hashlib.sha256(), time.monotonic()
            if why:
                stopping.leave(f"{job}: stopped after {done:,} images ({why}), saved")


def put_in_place(path: Path, out: Path) -> None:
    """Give a finished file its place, atomically, by a second name; by a copy where a disk allows none."""
    with atomic(out) as temporary:
        temporary.unlink()
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
