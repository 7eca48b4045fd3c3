"""What would make a job's results otherwise than they are: how it is told now, against their manifests.

A manifest records the specification, the code, the inputs by digest and the digest of the result itself.
Each that is not as it would be now is one difference. That there is none is kept in a file, with all that it
rests on. So a job of which nothing has changed since is not read again: its files are only looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from ambient.provenance import manifest, merkle, source_code
from ambient.provenance.pruned import pruned_record
from ambient.provenance.renewal import seal_of
from ambient.settings.asked import Difference, Told, differences
from ambient.specs.stages import prunable
from ambient.storage.digests import STORE, Digests, listing, signature
from ambient.storage.files import digest, files_below, sha256
from ambient.storage.text import printable

INPUT, MISSING = "input", "missing"
LARGE = 10**10  # bytes: about a minute of reading, or less
BOTH = "a file and its manifest"
ROOMS = ("provenance", "settings", "specs", "storage")  # of the code that comes to a verdict


class Judge:
    """Holds jobs against the manifests of their outputs."""

    def __init__(self, told: Callable[[Any], Told | None], say: Callable[[str], None] = print) -> None:
        """`told` says what a job would be told, None for one that writes no manifests.

        `say` is called with a line before much is read.
        """
        self.told, self.say, self.digests = told, say, Digests(STORE)
        # By other code the verdict may be another one.
        sources = [path for room in ROOMS for path in sorted((source_code.PACKAGE / room).rglob("*.py"))]
        self.rules = digest([sha256(path) for path in (*sources, Path(__file__))])

    def differences(self, job: Any, told: Told) -> list[tuple[Path, Difference]]:
        """(output, what its manifest records otherwise) of a job; nothing where all are as it is told."""
        key, state = f"job {job.output[0]}", self.state(job, told)
        if state and self.digests.noted(key) == state:
            return []
        now = cache(lambda: {os.path.normpath(path): self.present(Path(path)) for path in job.input})
        found = [(output, one) for output in map(Path, job.output)
                 for one in self.of_output(output, now, told)]
        if state and not found:
            self.digests.note(key, state)
        return found

    def state(self, job: Any, told: Told) -> str | None:
        """A digest of all that the verdict rests on, without reading a file: what the job is told, and the
        sizes and times of its files, their manifests and raw data. None where one of them is not there."""
        records = [*job.output, *(job.input if source_code.states_levels(told.recorded) else ())]
        try:
            files = [(str(path), *signature(path)) for path in (*job.output, *job.input)]
            manifests = [signature(manifest.path_for(Path(path))) for path in records]
            outside = [(str(path), listing(path)[0]) for path in told.outside]
        except OSError:
            return None
        return digest([self.rules, told.stage, told.plain_spec, told.code, files, manifests, outside])

    def note_made(self, job: Any) -> None:
        """Note the digests of a job's outputs, which it has just taken and written into their manifests.

        A file that changed after its manifest was written is not noted. It is read when it is asked for.
        """
        for output in map(Path, job.output if self.told(job) else ()):
            try:
                seen, current = signature(output), manifest.is_current(output)
                found = manifest.read(manifest.path_for(output))
            except (OSError, ValueError):
                continue
            if current and (found["artefact"], found["size"]) == (output.name, seen[0]):
                self.digests.note_file(output, seen, found["sha256"])

    def announce(self, jobs: Iterable[Any]) -> None:
        """Say how much is read to come to a verdict on jobs, before it takes long."""
        self.announce_files("results", "no digest of theirs is noted in this folder, as of a copied tree or "
                            "of jobs that ended when no workflow ran", self.unread(jobs).values())

    def announce_raw(self, path: Path) -> None:
        """Say how much of raw data is read."""
        files = files_below(path).values() if path.is_dir() else [path]
        self.announce_files(f"raw data in {path}", "something in it is younger than the job that read it",
                            [found.stat().st_size for found in files])

    def announce_files(self, what: str, why: str, sizes: Collection[int]) -> None:
        """Say how much is read of files of these sizes, where it is much."""
        if sum(sizes) >= LARGE:
            self.say(printable(f"Reading {sum(sizes) / 1e9:,.0f} GB in {len(sizes):,} files of {what}, to "
                               f"compare their digests with the manifests: {why}. It is done once."))

    def unread(self, jobs: Iterable[Any]) -> dict[Path, int]:
        """File -> bytes of the outputs and inputs of jobs that a verdict reads, as no digest is noted."""
        found: dict[Path, int] = {}
        known: set[str] = set()  # looked at once, though many jobs read it
        for job in jobs:
            new = {*map(str, job.output), *map(str, job.input)} - known
            known |= {path for path in new if self.digests.knows(path)}
            if not new <= known:
                found |= {path: path.stat().st_size for path in map(Path, new - known)
                          if path.is_file() and self.is_read(path, job)}
        return found

    def is_read(self, path: Path, job: Any) -> bool:
        """Whether a verdict on a job looks at one of its files: of an output there must be a manifest."""
        outputs = list(map(Path, job.output))
        recorded = [output for output in outputs if manifest.path_for(output).is_file()]
        judged = recorded and (len(recorded) == len(outputs) or all(map(os.path.exists, outputs)))
        return bool(judged) and (path in recorded or path not in outputs)

    def of_output(self, output: Path, now: Callable[[], dict], told: Told) -> Iterator[Difference]:
        try:
            found = manifest.read(manifest.path_for(output))
        except (OSError, ValueError):
            yield Difference(MISSING, BOTH, "a file without a manifest that can be read")
            return
        if not output.is_file():
            if not removed(output, found):
                yield Difference(MISSING, BOTH, "a manifest alone")
        elif self.digests.of(output) != found["sha256"]:
            yield Difference("sha256", found["sha256"], self.digests.of(output))
        yield from differences(found, told)
        yield from self.of_inputs(output, found, now())
        if source_code.states_levels(told.recorded):
            yield from self.of_seals(output, found)
        yield from self.of_outside(found, told.outside)

    def of_outside(self, found: Mapping, paths: Sequence[Path]) -> Iterator[Difference]:
        """Files and folders from outside that have changed: manifests have them in the order of options."""
        when = datetime.fromisoformat(found["execution"]["started"])
        for path, one in zip(paths, found["external"], strict=False):
            now = self.digests.of_raw(path, one["sha256"], when, partial(self.announce_raw, path)) \
                if path.exists() else one["sha256"]
            if now != one["sha256"]:
                yield Difference(f"raw data {path}", one["sha256"], now)

    def of_inputs(self, output: Path, found: Mapping, now: Mapping) -> Iterator[Difference]:
        """Inputs that have other bytes than those which were read, or are others."""
        folder = os.path.dirname(output)
        read = {os.path.normpath(os.path.join(folder, entry["path"])): entry["sha256"]
                for entries in found["inputs"].values() for entry in entries}
        for path in sorted(read.keys() | now.keys()):
            if read.get(path) != now.get(path):
                yield Difference(f"{INPUT} {path}", read.get(path), now.get(path))

    def of_seals(self, output: Path, found: Mapping) -> Iterator[Difference]:
        """Inputs whose manifest is another one than was read: their level may be another, too."""
        for entries in found["inputs"].values():
            for entry in entries:
                path = merkle.located(output, entry["path"])
                if entry.get("seal") != (seal := seal_of(path)):
                    yield Difference(f"{INPUT} {path}", entry.get("seal"), seal)

    def present(self, path: Path) -> str | None:
        """The digest of an input; of one that was pruned, by its manifest; None where it is not there."""
        try:
            if path.is_file():
                return self.digests.of(path)
            found = manifest.read(manifest.path_for(path))
            return found["sha256"] if removed(path, found) else None
        except (OSError, ValueError):
            return None


def removed(path: Path, found: Mapping) -> bool:
    """Whether a file that is not there was removed on purpose, as its manifest and a record say."""
    return prunable(path.name, found["stage"]) and pruned_record(path, found)
