"""Is the code that made an artefact known: the sources here, or a commit in the repository's history?"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from ambient import parts, sources


def converted(content: bytes) -> str:
    """SHA-256 of text whose line ends a checkout turned into CRLF, as it was before."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


class Code:
    """Judges recorded code; each file and commit is looked up once."""

    def __init__(self, allow_other: bool = False) -> None:
        self.allow_other = allow_other
        self.present: dict[str, set[str]] = {}
        self.commits: dict[str, str] = {}
        self.stored: dict[tuple[str, str], str] = {}

    def judge(self, recorded: Mapping) -> tuple[list[tuple[str, str]], list[str], bool]:
        """(problems as (word, detail), notes, whether the code is known) of a manifest's `code`."""
        differing = [name for name, value in recorded["files"].items() if value not in self.here(name)]
        problems = [] if self.allow_other else [("other code", f"{name} differs") for name in differing]
        known, notes, commit = not differing, [], recorded.get("commit")
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
                wrong = [n for n, value in recorded["files"].items() if self.at(commit, n) != value]
                problems += [("contradicted", f"made by commit {commit[:12]} without changes, it says, but "
                              f"{name} is another there") for name in wrong]
                known |= not wrong
        return problems, notes, known

    def here(self, name: str) -> set[str]:
        """Digests that a source file or its parts have here, with line ends converted back too."""
        if name not in self.present:
            file, _, some = name.partition(":")
            path = sources.ROOT / file
            good = Path(file).parts[:1] == (sources.PACKAGE.name,) and ".." not in Path(file).parts
            content = path.read_bytes() if good and path.is_file() else None
            self.present[name] = set() if content is None else {
                parts.sha256(name, content), *(() if some else (converted(content),))}
        return self.present[name]

    @cached_property
    def repository(self) -> bool:
        """Whether the code here lies in a git repository of its own."""
        return bool(sources.commit())

    def standing(self, commit: str) -> str:
        """`no repository`, `unknown`, `unreached` (of an amended branch, say), or `in history`."""
        if commit not in self.commits:
            self.commits[commit] = self.look_up(commit)
        return self.commits[commit]

    def look_up(self, commit: str) -> str:
        if not self.repository:
            return "no repository"
        try:
            sources.git("cat-file", "-e", f"{commit}^{{commit}}")
        except subprocess.CalledProcessError:
            shallow = sources.git("rev-parse", "--is-shallow-repository").strip() == b"true"
            return "no repository" if shallow else "unknown"
        try:
            sources.git("merge-base", "--is-ancestor", commit, "HEAD")
        except subprocess.CalledProcessError:
            named = sources.git("for-each-ref", "--count=1", "--contains", commit)
            return "in history" if named.strip() else "unreached"
        return "in history"

    def at(self, commit: str, name: str) -> str | None:
        """SHA-256 of code as of a commit; None where it has no such file."""
        if (commit, name) not in self.stored:
            try:
                content = sources.git("cat-file", "blob", f"{commit}:{name.partition(':')[0]}")
                self.stored[commit, name] = parts.sha256(name, content)
            except (subprocess.CalledProcessError, ValueError, SyntaxError):
                self.stored[commit, name] = None
        return self.stored[commit, name]
