"""Manifests that name one which the workflow has replaced since, for the same bytes. Standard library only.

A manifest holds the seals of its inputs' manifests. A job that runs again and makes the same bytes writes
another manifest: the pin of raw data, the code or the day is another one. What was made from those bytes is
kept, and would name a manifest that is gone. `Renewals` writes such manifests again. It changes the seals of
inputs and the root, nothing else.

A manifest that somebody edited must not pass for one that a job wrote. So a file notes which manifests the
workflow itself replaced, and by which. A seal is renewed only where the present manifest is that one. The
notes outlive the run, since a later one may keep other results of the same inputs, and a run may be killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ambient.provenance import manifest, merkle
from ambient.provenance.pruned import pruned_path, pruned_record
from ambient.storage.files import digest, read_json, write_json

BEGUN, SAME, MADE, RENEWED = "begun", "same", "made", "renewed"  # the kinds of notes


@dataclass(frozen=True)
class Replaced:
    """The seal of a manifest that the workflow wrote, and those which it stands for.

    before: seals of manifests that were written again; None where a job wrote it, which stands for any other
    of the same bytes.
    """

    before: frozenset[str] | None
    now: str

    def stands_for(self, seal: str | None) -> bool:
        """Whether a manifest that names `seal` would name this one, had it been made later."""
        return seal not in (None, self.now) and (self.before is None or seal in self.before)


class Renewals:
    """What is known of replaced manifests, kept in the file `store`: a line a note, the latest last."""

    def __init__(self, store: str | Path) -> None:
        """A note that can't be read counts as none: then a seal stays as it is, and the audit names it."""
        self.store = Path(store)
        self.begun: dict[str, str | None] = {}  # path -> seal that its manifest had, of what is made anew
        self.replaced: dict[str, Replaced] = {}
        for kind, path, *seals in notes(self.store):
            self.fold(kind, path, *seals)

    def begin(self, artefact: Path) -> None:
        """Note that a job is about to make an artefact, perhaps anew."""
        seal = seal_of(artefact)
        if (key(artefact), seal) not in self.begun.items():
            self.note(BEGUN, artefact, seal)

    def made(self, artefact: Path) -> None:
        """Note where a job that was begun, in this run or in one that was killed, has written a manifest."""
        if key(artefact) in self.begun:
            seal = seal_of(artefact)
            if seal not in (None, self.begun[key(artefact)]):
                self.note(MADE, artefact, seal)

    def same(self, artefact: Path) -> None:
        """Note that no job writes an artefact any more that was to be made: it is kept."""
        if key(artefact) in self.begun:
            self.note(SAME, artefact)

    def renew(self, artefact: Path) -> bool:
        """Have an artefact's manifest name the present seals of inputs that are what they were.

        Returns whether it was written again. The record of an artefact's removal gets its new seal, too.
        """
        record = manifest.path_for(artefact)
        try:
            found = manifest.read(record)
        except (OSError, ValueError):
            return False
        inputs = {role: [self.entry(artefact, one) for one in entries]
                  for role, entries in found["inputs"].items()}
        if inputs == found["inputs"]:
            return False
        content = {name: value for name, value in found.items() if name != "seal"} | {"inputs": inputs}
        if "root" in content:
            content["root"] = merkle.of_inputs(artefact, merkle.parents(artefact, content))
        seal, removed = digest(content), pruned_record(artefact, found)
        self.note(RENEWED, artefact, found["seal"], seal)  # first: whoever is killed now does the same again
        write_json(record, content | {"seal": seal})
        if removed:
            write_json(pruned_path(artefact), read_json(pruned_path(artefact)) | {"seal": seal})
        return True

    def entry(self, artefact: Path, read: Mapping) -> Mapping:
        """An input as a manifest names it, with the present seal where that stands for the one named."""
        parent = merkle.located(artefact, read["path"])
        known = self.replaced.get(key(parent))
        if known is None or not known.stands_for(read.get("seal")):
            return read
        try:
            present = manifest.read(manifest.path_for(parent))
        except (OSError, ValueError):
            return read
        if present["seal"] != known.now or present["sha256"] != read["sha256"]:
            return read
        return {**read, "seal": known.now}

    def concerns(self, artefact: Path) -> bool:
        """Whether the manifest of an artefact was ever replaced."""
        return key(artefact) in self.replaced

    def note(self, kind: str, artefact: Path, *seals: str | None) -> None:
        """Keep a note. Where the file can't be written, it is known to this run alone."""
        self.fold(kind, key(artefact), *seals)
        try:
            with open(self.store, "a", encoding="utf-8") as file:  # whose last line may have been cut off
                file.write("\n" + json.dumps([kind, key(artefact), *seals]) + "\n")
        except OSError:
            return

    def fold(self, kind: str, path: str, *seals: str | None) -> None:
        """Count a note in."""
        if kind == BEGUN:
            (self.begun[path],) = seals
            return
        self.begun.pop(path, None)
        if kind == MADE:
            self.replaced[path] = Replaced(None, *seals)
        elif kind == RENEWED:
            old, new = seals
            known = self.replaced.get(path)
            if known is None or known.now != old:  # it was edited before
                known = Replaced(frozenset(), old)
            self.replaced[path] = Replaced(None if known.before is None else known.before | {old}, new)


def key(artefact: Path) -> str:
    """The name of an artefact in notes: its path, as the workflow names it from the folder where it runs."""
    return os.path.normpath(artefact)


def seal_of(artefact: Path) -> str | None:
    """The seal of an artefact's manifest; None where there is none that can be read."""
    try:
        return manifest.read(manifest.path_for(artefact))["seal"]
    except (OSError, ValueError):
        return None


def notes(store: Path) -> Iterator[list]:
    """The notes in a file. A line that is no note is passed over: a run was killed while it wrote it."""
    lengths = {BEGUN: 3, SAME: 2, MADE: 3, RENEWED: 4}
    try:
        lines = store.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if (isinstance(found, list) and all(isinstance(one, str | None) for one in found)
                and found and lengths.get(found[0]) == len(found) and found[1] is not None):
            yield found
