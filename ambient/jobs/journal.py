"""Attempts at one job: a requeued or killed run never takes the record of the one before it.

A job with resumable state writes a line when it begins, beside (not inside) the folder of its state.
The attempt that ends writes those before it into the manifests, and removes its job's lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ambient.jobs import records, stopping
from ambient.provenance import manifest
from ambient.storage.files import digest, remove_temporaries

SAVED = "saved"  # of an attempt's line: it saved its state and left


def path_for(state: Path) -> Path:
    """Where the attempts at a job are noted, by the folder of its state."""
    return state.with_name(f"{state.name}.attempts.jsonl")


def saved(state: Path, last: int) -> int:
    """How many of the `last` attempts saved their state and left. Only looks: the job may be at work."""
    found = 0
    with suppress(OSError):
        for line in path_for(state).read_bytes().splitlines()[-last:]:
            with suppress(ValueError, RecursionError):
                found += records.opened(json.loads(line)).get(SAVED, False)
    return found


class Journal:
    """The begun attempts at a job; `state` is its folder, or None for a job that starts anew.

    `identity` is what makes it the same job.
    """

    def __init__(self, state: Path | None, identity: Any) -> None:
        self.path = path_for(state) if state else None
        self.owner = digest(identity)

    def lines(self) -> list[dict]:
        """All sound lines, those of other jobs with the same state folder too."""
        return records.lines(self.path) if self.path else []

    def earlier(self) -> list[dict]:
        """The attempts at this very job that did not end."""
        return [line["attempt"] for line in self.lines() if line["job"] == self.owner]

    def outputs(self) -> set[str]:
        """Names of the files that those attempts may have left without a manifest."""
        return {name for line in self.lines() if line["job"] == self.owner for name in line["outputs"]}

    def begin(self, clock: manifest.Clock, made_by: Mapping, outputs: Sequence[Path] = ()) -> None:
        """Note this attempt."""
        if self.path is None:
            return
        attempt = {"started": clock.started.isoformat(timespec="seconds"),
                   "environment": manifest.environment()}
        attempt |= {"scheduler": where} if (where := manifest.scheduler()) else {}
        attempt |= {"commit": made_by["commit"]} if "commit" in made_by else {}
        remove_temporaries(self.path)  # this attempt holds the job's lock
        line = {"job": self.owner, "attempt": attempt, "outputs": [path.name for path in outputs]}
        records.write_lines(self.path, [*self.lines(), line])

    @contextmanager
    def departure(self) -> Iterator[None]:
        """Note it where this attempt saves its state and leaves: it was not ended for want of memory."""
        try:
            yield
        except SystemExit as left:
            if left.code == stopping.RESUME and (lines := self.lines()):
                with suppress(OSError):  # the note is not worth a state that waits for a full disk
                    records.write_lines(self.path, [*lines[:-1], lines[-1] | {SAVED: True}])
            raise

    def remove(self) -> None:
        """Forget this job's attempts: they are in the manifests."""
        if self.path is not None:
            records.write_lines(self.path, [line for line in self.lines() if line["job"] != self.owner])
