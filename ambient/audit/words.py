"""What the audit says of an artefact: its level, problems (each a word with advice), and notes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ambient.storage.text import printable

ADVICE = {
    "missing": "make it again: delete what depends on it and run the workflow",
    "changed": "not what the job wrote: delete it and run the workflow",
    "stale": "made from an input that was made anew since: run the workflow",
    "rewritten": "edited, or made again with the same bytes: run the workflow, which renews manifests; "
                 "where that does not help, delete what was made from it and run it again",
    "other code": "made by code that differs from the present: run the workflow, check out that code, or "
                  "accept it with --allow-other-code",
    "other settings": "run the workflow, put the setting back, or accept it with --allow-other-settings",
    "unknown commit": "fetch the branch that holds it, or run the workflow from a committed tree",
    "contradicted": "no job writes this: delete it and run the workflow",
    "misattributed": "what stands here is of something else than it says: delete it and run the workflow",
    "incomplete": "made by an earlier version, or edited: delete it and run the workflow",
    "mismatched": "outputs of one job belong together: delete them and run the workflow",
    "mixed scales": "scales must not share artefacts: delete it and run the workflow",
    "outside": "nothing outside the results tree is read: copy the file into the tree, or run the workflow",
    "malformed": "not a manifest that this version reads: delete the artefact and run the workflow",
    "not a file": "remove it: whoever reads it could be hung or led elsewhere",
    "orphaned": "a manifest without its artefact: run the workflow, or delete it",
    "unrecorded": "no manifest: nobody can say how it was made; delete it, or move it elsewhere",
    "unreadable": "see to its permissions",
    "unpinned": "from outside, without a known checksum: set sha256 of its entry in config/",
    "unsigned": "find out who did it and why; who vouches for the tree as it is signs it again: --sign",
    "differs": "not what its inputs give: delete it and run the workflow",
    "not repeated": "its job gives another result here: see the first difference; equal bits need equal "
                    "libraries, kind of CPU and threads"}


@dataclass(frozen=True)
class Problem:
    """A broken link: which file, which word, and the detail."""

    path: Path
    word: str
    detail: str

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.word}: {self.detail} ({ADVICE[self.word]})")

    def plain(self) -> dict:
        """For machines."""
        return {"path": str(self.path), "word": self.word, "detail": self.detail,
                "advice": ADVICE[self.word]}


def shown(path: Path) -> Path:
    """A path as a person in this folder would write it."""
    near = os.path.relpath(path)
    return path if near.startswith("..") else Path(near)


@dataclass(slots=True)
class Result:
    """What is known of one artefact: little, since an audit holds as many as its tree has.

    key: its absolute path. manifest: what checks ask for, of one that is well-formed.
    seconds: that its job took. closed: everything below it is sound, and its own code and raw data are known;
    of a pruned artefact too, whose bytes nobody can check. repeated: its job was run again and made the same.
    reason: the first thing that keeps it from the next level.
    """

    key: Path
    level: int = -1
    problems: list[Problem] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    parents: tuple[Path, ...] = ()
    manifest: Mapping = field(default_factory=dict)
    seconds: float | None = None
    pruned: bool = False
    repeated: bool = False
    closed: bool = False
    reason: str = ""

    def problem(self, word: str, detail: str, path: Path | None = None) -> None:
        """Note a broken link, of the artefact itself or of a file beside it."""
        self.problems.append(Problem(path or self.path, word, detail))

    def note(self, text: str) -> None:
        """Note what is no broken link."""
        self.notes += (text,)

    @property
    def path(self) -> Path:
        """Where it lies, as a person in this folder would write it."""
        return shown(self.key)

    @property
    def stage(self) -> str:
        """The short name of the stage that made it."""
        return self.manifest.get("stage", "?").removeprefix("ambient.")


def level_word(result: Result) -> str:
    """`level 2`, `pruned` or `no level`."""
    if result.pruned:
        return "pruned"
    return f"level {result.level}" if result.level >= 0 else "no level"
