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

from ambient.jobs import hashed, stopping
from ambient.jobs.records import ASIDE
from ambient.jobs.state import State
from ambient.storage.arrays import Array, Writer, in_blocks
from ambient.storage.files import atomic, digest, is_full
from ambient.storage.hashing import Seen

FILE = "growing"  # in the folder of the state; the names of its records begin with it
TOGETHER = 256  # rows, at most, that are made at once: a job that is told to stop makes these first


class Learnt(Protocol):
    """What making rows tells beyond the rows."""

    def since(self) -> dict:
        """What became known since this was called last, as JSON."""

    def adopt(self, learnt: dict) -> None:
        """Take over what became known by rows that are there already."""


class Growing:
    """What a job's state has of a large file. `made_of`: what makes it, beyond what makes the state, as JSON.

    Each save is a record: which bytes of the array are there, their SHA-256, and facts of the caller's.
    """

    def __init__(self, state: State, made_of: object) -> None:
        self.state, self.path, self.made_of = state, state.folder / FILE, made_of

    def forget_others(self, job: str, arrays: Mapping[str, Array], name: str) -> None:
        """Remove what an earlier attempt made of anything else, or beside other arrays.

        It may be an earlier result by a second name, so that nothing else may be written into it.
        """
        beside = {key: sha256_of(array) for key, array in arrays.items() if key != name}
        mark = digest([self.made_of, list(arrays[name].shape), beside])
        if self.state.noted(FILE).get("mark") == mark:
            return
        if self.path.exists():
            stopping.say(f"{job}: what an earlier attempt made is of other data or choices; it is made anew")
        for old in self.state.folder.glob(f"{FILE}*"):
            if ASIDE not in old.name:
                old.unlink()
        self.state.note(FILE, {"mark": mark})

    def found(self, job: str, writer: Writer, name: str) -> list[dict]:
        """The records of saves that follow each other from the array's begin, and whose bytes are there."""
        records: list[dict] = []
        while record := self.state.noted(f"{FILE}-{records[-1]['end'] if records else 0}"):
            records.append(record)
        damaged: list[int] = []

        def check(k: int, seen: Seen) -> None:
            start, end, sha = (records[k][key] for key in ("start", "end", "sha256"))
            if k < min(damaged, default=k + 1) and writer.sha256(name, start, end, seen) != sha:
                damaged.append(k)

        hashed.of_each(job, "what is saved", check, range(len(records)),
                       [record["end"] - record["start"] for record in records])
        if damaged:
            bad = records[min(damaged)]
            stopping.say(f"{self.path}: bytes {bad['start']:,} to {bad['end']:,} of {name} differ "
                         "from their digest; what lies from there on is made again")
            del records[min(damaged):]
        for record in records:
            writer.keep(name, record["start"], record["end"])
        return records

    def write(self, job: str, out: Path, arrays: Mapping[str, Array], name: str,
              learnt: Learnt | None = None, check: Callable[[], None] = lambda: None) -> None:
        """Write `arrays` to `out`, atomically; the rows of array `name` are made in order, and kept.

        `check` as of `write_by_rows`. Told to stop, the job saves and leaves (`stopping.leave`).
        """
        self.forget_others(job, arrays, name)
        writer = self.opened(arrays, out)
        records = self.found(job, writer, name)
        for record in records if learnt else ():
            learnt.adopt(record["learnt"])
        each, end = bytes_of_row(arrays[name]), records[-1]["end"] if records else 0
        if end:
            stopping.say(f"{job}: goes on after {end // each:,} of {len(arrays[name]):,} images")
        self.grow(job, writer, arrays[name], name, learnt, end)
        for key, array in arrays.items():
            for first, rows in in_blocks(array) if key != name else ():
                stopping.patiently(writer.put, key, first, rows)
        writer.check()
        check()
        put_in_place(self.path, out)

    def opened(self, arrays: Mapping[str, Array], out: Path) -> Writer:
        """The file, as an earlier attempt left it or new. Raises `OSError` naming what was to be written."""
        try:
            return Writer(self.path, {key: (array.shape, array.dtype) for key, array in arrays.items()},
                          keep=True)
        except OSError as error:
            if is_full(error):
                self.path.unlink()
                raise OSError(errno.ENOSPC, f"no space left for {out.name}", str(self.path.parent)) from None
            raise OSError(error.errno, f"{error.strerror}, to write {out.name}", str(self.path)) from None

    def grow(self, job: str, writer: Writer, array: Array, name: str, learnt: Learnt | None,
             start: int) -> None:
        """Put in the rows from byte `start` of the array on, with a save now and then."""
        each, every = bytes_of_row(array), stopping.setting(stopping.SAVE_SECONDS)
        sha, saved = hashlib.sha256(), time.monotonic()
        for first, rows in in_blocks(array, start // each, TOGETHER):
            stopping.patiently(writer.put, name, first, rows)  # not all file systems keep the space
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


def bytes_of_row(array: Array) -> int:
    """Bytes of a row of an array."""
    return math.prod(array.shape[1:]) * array.dtype.itemsize


def sha256_of(array: Array) -> str:
    """SHA-256 of the bytes of an array."""
    sha = hashlib.sha256()
    for _, rows in in_blocks(array):
        sha.update(memoryview(np.ascontiguousarray(rows)).cast("B") if rows.size else b"")
    return sha.hexdigest()


def put_in_place(path: Path, out: Path) -> None:
    """Give a finished file its place, atomically, by a second name; by a copy where a disk allows none."""
    with atomic(out) as temporary:
        temporary.unlink()
        try:
            os.link(path.resolve(), temporary)  # of a link its target, not the link
        except OSError:
            shutil.copyfile(path, temporary)
