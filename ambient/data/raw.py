"""Raw data from outside while they are read: the recorded digest is of the very bytes that were read."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ambient.jobs import stopping
from ambient.storage.files import digest, files_below, sha256

SUMS = "raw"  # name of the note of the digests of files


def fingerprint(path: Path) -> tuple[int, ...]:
    """Size, times and number of a file: where they are as before, so is its content."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


class Notes(Protocol):
    """Where an attempt at a job leaves something for the next one, as `ambient.jobs.state.State` does."""

    def note(self, name: str, facts: Mapping) -> None:
        """Leave it, as JSON."""

    def noted(self, name: str) -> dict:
        """What was left; {} where nothing was."""


class Raw:
    """A file, or a folder's files but hidden ones by their relative name.

    `close` gives the digest of `ambient.storage.files.sha256_of_raw`, and refuses data
    that changed in between. What was found of these files is in `notes`, so that it is not found anew.
    """

    def __init__(self, path: Path, notes: Notes | None = None) -> None:
        self.path, self.is_folder, self.notes = path, path.is_dir(), notes
        self.files = files_below(path) if self.is_folder else {path.name: path}
        self.seen = {name: fingerprint(file) for name, file in self.files.items()}
        self.sums, self.kept = self.recalled(SUMS) or {}, time.monotonic()
        if not self.is_folder:
            self.in_parts(path.name)

    def read(self, name: str) -> bytes:
        """The content of a folder's file. Raises `ValueError` where it is another one than before."""
        content = self.files[name].read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if self.sums.setdefault(name, found) != found:
            raise ValueError(self.changed(name))
        return content

    def in_parts(self, name: str) -> Path:
        """The path of a file that is read in parts; its digest is taken before, for `close`."""
        if name not in self.sums:
            self.sums[name] = sha256(self.files[name])
            if time.monotonic() - self.kept > stopping.setting(stopping.SAVE_SECONDS):
                self.keep()
        return self.files[name]

    def keep(self) -> None:
        """Note the digests that are known, for the next attempt."""
        self.note(SUMS, self.sums)
        self.kept = time.monotonic()

    def once(self, name: str, find: Callable[[], Any], *made_of: object) -> Any:
        """What `find` tells of the files, as JSON, or told an earlier attempt, by the note of this name.

        `made_of`: what it follows from beyond the files and what makes the job, as JSON.
        """
        found = self.recalled(name, *made_of)
        if found is None:
            found = find()
            self.note(name, found, *made_of)
        return found

    def recalled(self, name: str, *made_of: object) -> Any:
        """What a note says of these very files; None where there is none."""
        noted = self.notes.noted(name) if self.notes else {}
        return noted["found"] if noted.get("mark") == digest([self.mark, *made_of]) else None

    def note(self, name: str, found: Any, *made_of: object) -> None:
        """Leave what was found of these files."""
        if self.notes:
            stopping.patiently(self.notes.note, name, {
                "mark": digest([self.mark, *made_of]), "found": found})

    @property
    def mark(self) -> str:
        """A digest of what the files are called, and of their fingerprints: it costs no reading."""
        return digest({name: list(seen) for name, seen in self.seen.items()})

    def changed(self, name: str) -> str:
        """What is said of a file that is not what it was."""
        return f"{self.path}: {name} changed while it was read: run the job again when nothing writes there"

    def close(self) -> tuple[str, int]:
        """(SHA-256, bytes) of all that is there, read or not. Raises `ValueError` for what changed."""
        now = files_below(self.path) if self.is_folder else self.files
        for name in sorted(now.keys() ^ self.files.keys()):
            raise ValueError(self.changed(name))
        for name, file in self.files.items():
            known = self.sums.get(name)
            if known is None or fingerprint(file) != self.seen[name]:
                self.sums[name] = sha256(file)
                if known not in (None, self.sums[name]):
                    raise ValueError(self.changed(name))
        size = sum(self.seen[name][0] for name in self.files)
        return (digest(self.sums) if self.is_folder else self.sums[self.path.name]), size
