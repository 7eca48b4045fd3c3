"""Is the code that made an artefact known: the sources here, or a commit in the repository's history?"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Mapping
from functools import cache, cached_property
from itertools import islice
from pathlib import Path

from ambient.provenance import parts, source_code
from ambient.storage import regular

MANY = 10  # files of an artefact that are named one by one
# Problems as (word, detail), notes, whether it is known.
Verdict = tuple[list[tuple[str, str]], tuple[str, ...], bool]
MODULE = re.compile(r"ambient\.[a-z_]+")


def converted(content: bytes) -> str:
    """SHA-256 of text whose line ends a checkout turned into CRLF, as it was before."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


class Code:
    """Judges recorded code; each file and commit is looked up once."""

    def __init__(self, allow_other: bool = False) -> None:
        self.allow_other = allow_other
        self.present: dict[str, set[str]] = {}
        self.commits: dict[str, str] = {}
        self.judged: dict[tuple, tuple[Mapping, Verdict]] = {}
        self.compared: dict[int, tuple[Mapping, bool]] = {}

    def judge(self, found: Mapping) -> Verdict:
        """The verdict on a manifest's code. Manifests that share it as one object (see
        `ambient.provenance.reading`), a stage and the words of a specification share the verdict."""
        key = id(found["code"]), found["stage"], source_code.words(found["spec"])
        if key not in self.judged:  # with the object itself, so that no other one gets its number
            self.judged[key] = found["code"], self.verdict(found)
        return self.judged[key][1]

    def verdict(self, found: Mapping) -> Verdict:
        """The verdict on one manifest's code, worked out anew."""
        recorded = found["code"]
        files, commit = recorded["files"], recorded.get("commit")
        differing = [name for name, value in files.items() if value not in self.here(name)]
        problems = [("other code", f"{name} differs") for name in differing[:MANY] if not self.allow_other]
        gaps = self.gaps(recorded, found["stage"], found["spec"])
        problems += [("contradicted", gap) for gap in gaps]
        known, notes = not differing and not gaps, []
        if commit is None:
            notes.append("no commit recorded: its code is known by digests alone")
        elif self.standing(commit) == "no repository":
            notes.append(f"commit {commit[:12]} not looked up: no git repository here")
        elif self.standing(commit) == "unknown":
            problems.append(("unknown commit", f"{commit[:12]} is not in this repository"))
        else:
            if self.standing(commit) == "unreached":
                notes.append(f"commit {commit[:12]} is on no branch here")
            if recorded.get("dirty"):
                notes.append(f"made with uncommitted changes to {commit[:12]}, digest of the diff "
                             f"{recorded.get('diff_sha256', 'unknown')[:12]}")
            else:
                wrong = self.not_at(commit, files | recorded.get("bookkeeping", {}))
                problems += [("contradicted", f"made by commit {commit[:12]} without changes, it says, but "
                              f"{name} is another there") for name in wrong]
                known |= not wrong and not gaps
        strange = self.strange(recorded)
        problems += [("other code", f"{name}, which ran too, is neither the present one nor its commit's")
                     for name in strange if not self.allow_other]
        return problems, tuple(notes), known and not strange

    def is_here(self, recorded: Mapping) -> bool:
        """Whether all source files of an artefact are as they are here."""
        if id(recorded) not in self.compared:  # with the object itself, as in `judge`
            same = all(value in self.here(name) for name, value in recorded["files"].items())
            self.compared[id(recorded)] = recorded, same
        return self.compared[id(recorded)][1]

    def gaps(self, recorded: Mapping, stage: str, spec: Mapping) -> list[str]:
        """What the list of a stage's source files lacks: of all that it reaches, where they are as here."""
        whole, files = self.is_here(recorded), recorded["files"]
        if recorded["module"] != stage:
            return [f"made by {stage}, it says, and by the code of {recorded['module']}"]
        own = source_code.path_of(source_code.module_of(stage)) if MODULE.fullmatch(stage) else None
        if own is None:
            return [f"there is no stage {stage}"] if whole else []
        if not whole:  # of another commit, where modules may lie elsewhere: the stage's own file at least
            named = any(Path(name.partition(":")[0]).name == own.name for name in files)
            return [] if named else [f"its code leaves out {own.relative_to(source_code.ROOT).as_posix()}"]
        needed = source_code.closure(stage, source_code.words(spec))
        lacking = [one for one in needed if not files.keys() & {one, one.partition(":")[0]}]
        return [f"its code leaves out {lacking[0]}"] if lacking else []

    def strange(self, recorded: Mapping) -> list[str]:
        """Bookkeeping code that ran in the job and is known from nowhere."""
        commit = recorded.get("commit")
        differing = {name: value for name, value in recorded.get("bookkeeping", {}).items()
                     if value not in self.here(name)}
        if commit is None or not differing:
            return list(differing)[:MANY]
        if self.standing(commit) in ("no repository", "unknown"):  # said already
            return []
        return self.not_at(commit, differing)

    def not_at(self, commit: str, files: Mapping[str, str]) -> list[str]:
        """The first few files that are others at a commit: who forges a million of them learns no more."""
        return list(islice((name for name, value in files.items() if self.at(commit, name) != value), MANY))

    def here(self, name: str) -> set[str]:
        """Digests that a source file or its parts have here, with line ends converted back too."""
        if name not in self.present:
            file, _, some = name.partition(":")
            path = source_code.ROOT / file
            good = Path(file).parts[:1] == (source_code.PACKAGE.name,) and ".." not in Path(file).parts
            content = regular.read(path) if good and regular.kind(path) == regular.FILE else None
            self.present[name] = set() if content is None else {
                parts.sha256(name, content), *(() if some else (converted(content),))}
        return self.present[name]

    @cached_property
    def repository(self) -> bool:
        """Whether the code here lies in a git repository of its own."""
        return bool(source_code.commit())

    def standing(self, commit: str) -> str:
        """`no repository`, `unknown`, `unreached` (of an amended branch, say), or `in history`."""
        if commit not in self.commits:
            self.commits[commit] = self.look_up(commit)
        return self.commits[commit]

    def look_up(self, commit: str) -> str:
        if not self.repository:
            return "no repository"
        try:
            source_code.git("cat-file", "-e", f"{commit}^{{commit}}")
        except subprocess.CalledProcessError:
            shallow = source_code.git("rev-parse", "--is-shallow-repository").strip() == b"true"
            return "no repository" if shallow else "unknown"
        try:
            source_code.git("merge-base", "--is-ancestor", commit, "HEAD")
        except subprocess.CalledProcessError:
            named = source_code.git("for-each-ref", "--count=1", "--contains", commit)
            return "in history" if named.strip() else "unreached"
        return "in history"

    def at(self, commit: str, name: str) -> str | None:
        """SHA-256 of code as of a commit; None where it has no such file."""
        return stored(source_code.ROOT, commit, name)


@cache
def stored(root: Path, commit: str, name: str) -> str | None:
    """SHA-256 of code as of a commit of the repository at `root`; None where it has no such file.

    It is kept: what a commit holds never changes.
    """
    try:
        return parts.sha256(name, source_code.git("cat-file", "blob", f"{commit}:{name.partition(':')[0]}"))
    except (subprocess.CalledProcessError, ValueError, SyntaxError):
        return None
