"""Digests of files that are looked at again and again, each read once as long as it stands still.

What is concluded from such files can be noted beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from ambient.storage import regular
from ambient.storage.files import digest, sha256, sha256_of_raw, write_json

STORE = Path(".snakemake/ambient-digests.json")  # of the workflow that runs in this folder
MARGIN = 60.0  # seconds by which the clocks of two machines may differ
LARGEST = 2**30  # bytes of a store


def refuse(constant: str) -> NoReturn:
    """Raise `ValueError` for NaN and infinities, which no store has and JSON can't write."""
    raise ValueError(constant)


def signature(path: str | Path) -> list[int]:
    """Size and times of a file: the time of its last change can't be set back."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def listing(path: Path) -> tuple[Any, float]:
    """(what tells one state of a file or folder from another, the time of its last change in seconds).

    Of a folder that is a digest of the names, sizes and times of all files below it.
    """
    if not path.is_dir():
        return signature(path), path.stat().st_ctime
    entries, newest, seen = [], path.stat().st_ctime, set()
    for place, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # links in a circle
            folders.clear()
            continue
        seen.add(real)
        for name, counts in [*((name, False) for name in folders), *((name, True) for name in names)]:
            inside = os.path.join(place, name)
            with contextlib.suppress(OSError):  # a link that leads nowhere
                found = os.stat(inside)
                newest = max(newest, found.st_ctime)
                if counts:
                    entries.append([os.path.relpath(inside, path), found.st_size, found.st_mtime_ns,
                                    found.st_ctime_ns])
    return digest(sorted(entries)), newest


def is_entry(value: Any) -> bool:
    """Whether a store's value is one of a file: what told its state, and the digest."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], str)


class Digests:
    """SHA-256 of files and raw folders, kept in a file together with what tells that they have changed."""

    def __init__(self, store: Path) -> None:
        self.store, self.known, self.new = store, {}, False
        with contextlib.suppress(OSError, ValueError, RecursionError):  # damaged: all is found again
            found = json.loads(regular.read(store, LARGEST), parse_constant=refuse)
            self.known = found if isinstance(found, dict) else {}

    def of(self, path: Path) -> str:
        """SHA-256 of a file."""
        return self.kept(path, signature(path), lambda: sha256(path))

    def of_raw(self, path: Path, recorded: str, when: datetime, begin: Callable[[], None]) -> str:
        """SHA-256 of raw data: the one `recorded`, where nothing changed since they were read at `when`.

        `begin` is called before they are read.
        """
        seen, newest = listing(path)

        def compute() -> str:
            if newest < when.timestamp() - MARGIN:
                return recorded
            begin()
            return sha256_of_raw(path)[0]

        return self.kept(path, seen, compute)

    def read_before(self, path: Path) -> str | None:
        """The digest of a file or of raw data, without reading them.

        None where none was noted, or they have changed since.
        """
        entry = self.known.get(str(path))
        return entry[1] if is_entry(entry) and entry[0] == listing(path)[0] else None

    def knows(self, path: str) -> bool:
        """Whether the digest of a file is noted as it is now."""
        entry = self.known.get(path)
        try:
            return is_entry(entry) and entry[0] == signature(path)
        except OSError:
            return False

    def noted(self, key: str) -> Any:
        """What was noted under a key that is no file's path; None where nothing was."""
        return self.known.get(key)

    def note(self, key: str, value: Any) -> None:
        """Note a value under a key that is no file's path."""
        self.known[key], self.new = value, True

    def note_file(self, path: Path, seen: list[int], found: str) -> None:
        """Note a file's digest that somebody else took when its signature was `seen`; one of ours stays."""
        self.kept(path, seen, lambda: found)

    def kept(self, path: Path, seen: Any, compute: Callable[[], str]) -> str:
        entry = self.known.get(str(path))
        if not (is_entry(entry) and entry[0] == seen):
            entry, self.new = [seen, compute()], True
            self.known[str(path)] = entry
        return entry[1]

    def save(self) -> None:
        """Write what was found; where that can't be, it is found again."""
        if not self.new:
            return
        try:
            write_json(self.store, self.known)
        except OSError:
            return
        self.new = False
