"""Digests that the workflow noted when files were made, for the audits that are jobs of its own.

A table may stand on terabytes, and its audit page, the summary and the report each ask for all digests behind
it. They take a noted one where a file's size and times are those that were noted with it. Somebody who may
write into the folder can write a false digest into these notes: the command by hand does without them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.jobs import stopping
from ambient.storage.digests import STORE, Digests

if TYPE_CHECKING:
    from ambient.jobs.stage import Record


class Noted:
    """The notes of the workflow that runs in this folder, and how much was taken from them."""

    def __init__(self, store: Path = STORE) -> None:
        self.digests, self.files, self.bytes = Digests(store), 0, 0

    def of(self, path: Path) -> str | None:
        """The digest of a file; None where none was noted, or the file has changed since."""
        found = self.digests.read_before(Path(os.path.relpath(path)))  # the workflow's names are relative
        if found:
            self.files += 1
            self.bytes += os.stat(path).st_size
        return found

    def words(self) -> str:
        """What was taken from the notes, as a sentence."""
        if not self.files:
            return "Every file was hashed for this audit."
        many = "1 file" if self.files == 1 else f"{self.files:,} files"
        size = f"{self.bytes / 1e9:,.1f} GB" if self.bytes >= 1e9 else f"{self.bytes / 1e6:,.1f} MB"
        return (f"{many} ({size}) had been hashed by the workflow before and, by size "
                "and times, have not changed since: they were not hashed again for this audit. The command "
                "without --noted hashes every file.")

    def report(self, stage: str, record: Record) -> None:
        """Say so in a job's log and in the manifests of its outputs."""
        stopping.say(f"{stage}: {self.words()}")
        record.facts |= {"noted": {"files": self.files, "bytes": self.bytes}}
