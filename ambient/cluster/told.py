"""What would make a job's results otherwise than they are: how it is told now, against their manifests.

A manifest records the specification, the code, the inputs by digest and the digest of the result itself.
Each that is not as it would be now is one difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ambient.provenance import manifest, merkle, source_code
from ambient.provenance.pruned import pruned_record
from ambient.provenance.renewal import seal_of
from ambient.settings.asked import Difference, differences
from ambient.specs.stages import STAGES, prunable
from ambient.storage.digests import Digests

STORE = Path(".snakemake/ambient-digests.json")
INPUT, MISSING = "input", "missing"


@dataclass(frozen=True)
class Told:
    """What a job would be told now."""

    stage: str
    spec: Any
    code: Mapping[str, str] | None  # None: any code will do
    outside: tuple[Path, ...]  # what it reads from outside the tree: raw data or weights first, then a rule


class Judge:
    """Holds jobs against the manifests of their outputs."""

    def __init__(self, told: Callable[[Any], Told | None]) -> None:
        """`told` says what a job would be told, None for one that writes no manifests."""
        self.told, self.digests = told, Digests(STORE)

    def differences(self, job: Any, told: Told) -> Iterator[tuple[Path, Difference]]:
        """(output, what its manifest records otherwise) of a job; nothing where all are as it is told."""
        for output in map(Path, job.output):
            yield from ((output, one) for one in self.of_output(output, job, told))

    def of_output(self, output: Path, job: Any, told: Told) -> Iterator[Difference]:
        try:
            found = manifest.read(manifest.path_for(output))
        except (OSError, ValueError):
            yield Difference(MISSING, "no manifest that can be read", "one that describes this job")
            return
        if not output.is_file():
            if not removed(output, found):
                yield Difference(MISSING, "a manifest alone", "the file")
        elif self.digests.of(output) != found["sha256"]:
            yield Difference("sha256", found["sha256"], self.digests.of(output))
        yield from differences(found, told.stage, told.spec, told.code)
        yield from self.of_inputs(output, found, [Path(path) for path in job.input])
        if states_levels(told.stage):
            yield from self.of_seals(output, found)
        yield from self.of_outside(found, told.outside)

    def of_outside(self, found: Mapping, paths: Sequence[Path]) -> Iterator[Difference]:
        """Files and folders from outside that have changed: manifests have them in the order of options."""
        when = datetime.fromisoformat(found["execution"]["started"])
        for path, one in zip(paths, found["external"], strict=False):
            now = self.digests.of_raw(path, one["sha256"], when) if path.exists() else one["sha256"]
            if now != one["sha256"]:
                yield Difference(f"raw data {path}", one["sha256"], now)

    def of_inputs(self, output: Path, found: Mapping, inputs: list[Path]) -> Iterator[Difference]:
        """Inputs that have other bytes than those which were read, or are others."""
        read = {os.path.normpath(output.parent / entry["path"]): entry["sha256"]
                for entries in found["inputs"].values() for entry in entries}
        now = {os.path.normpath(path): self.present(path) for path in inputs}
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


def states_levels(stage: str) -> bool:
    """Whether a stage writes down the provenance levels of its inputs: it is of the audit's room."""
    return source_code.module_of(STAGES[stage].recorded).startswith("ambient.audit.")
