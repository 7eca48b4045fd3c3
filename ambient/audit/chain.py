"""Levels 0 to 2: manifests, digests, and the chain down to raw data. Standard library only.

The walk keeps its own stack, so that a chain may be as long as it likes; each file is hashed once and
each artefact judged once, parents first.
"""

from __future__ import annotations

import os
from pathlib import Path

from ambient import manifest, merkle
from ambient.audit.code import Code, converted
from ambient.audit.place import Tree
from ambient.audit.rederive import Rederive
from ambient.audit.words import Result
from ambient.files import sha256
from ambient.prune import PRUNED, pruned_record
from ambient.sign import SIGNATURE

TEXTS = (".csv", ".json", ".jsonl")
SUMMARIES = {"ambient.evaluate", "ambient.annotate"}  # JSON computed from what its job wrote beside it
IGNORED = {"README.md", "report.html", SIGNATURE}
VIEWS = "audit.html"  # pages that this package writes


class Audit:
    """Audits the artefacts of one results tree, of which `start` is a file or folder."""

    def __init__(self, start: Path, allow_other_code: bool = False) -> None:
        self.tree = Tree(start)
        self.code = Code(allow_other_code)
        self.digests: dict[str, str] = {}
        self.results: dict[Path, Result] = {}
        self.open: set[Path] = set()  # being judged: meeting one again is a cycle
        self.rederive = Rederive(self)

    def artefact(self, path: Path) -> Result:
        """Judge an artefact and, before it, everything that it was made from."""
        start = Path(os.path.abspath(path))
        stack = [(start, False)]
        while stack:
            key, judged = stack.pop()
            if judged:
                self.judge(self.results[key])
                self.open.remove(key)
            elif key not in self.results:
                result = self.results[key] = self.load(key)
                if result.level < 0 and not result.pruned:
                    continue
                self.open.add(key)
                stack.append((key, True))
                stack += [(parent, False) for parent in reversed(self.links(result))
                          if parent not in self.results]
        return self.results[start]

    def load(self, key: Path) -> Result:
        """Level 0: the artefact and a well-formed manifest are there."""
        result = Result(shown(key), key)
        record = manifest.path_for(key)
        if (how := self.tree.escape(key) or self.tree.escape(record)):
            result.problem("outside", how)
            return result
        present, recorded = key.is_file(), record.is_file()
        if not recorded:
            result.problem("unrecorded" if present else "missing",
                           f"no {record.name}" if present else "no such file")
            return result
        try:
            result.manifest = manifest.read(record)
        except ValueError as error:
            result.problem("malformed", str(error).removeprefix(f"{record}: "), shown(record))
            return result
        except OSError as error:
            result.problem("unreadable", str(error.strerror), shown(record))
            return result
        result.parents = merkle.parents(key, result.manifest)
        if present:
            result.level = 0
        elif pruned_record(key, result.manifest):
            result.pruned = True
            result.notes.append("pruned: removed on purpose, known by its manifest alone")
        else:
            result.problem("orphaned", "no such file")
        return result

    def links(self, result: Result) -> list[Path]:
        """What is to be judged before an artefact. A cycle is noted, and not followed."""
        for parent in result.parents:
            if parent in self.open:
                result.problem("malformed", f"{parent.name} is made from itself",
                               shown(manifest.path_for(result.key)))
        return [p for p in [*result.parents, *self.siblings(result)] if p not in self.open]

    def siblings(self, result: Result) -> list[Path]:
        """The other outputs of the job, where the artefact is checked against them."""
        if result.manifest["stage"] not in SUMMARIES or result.key.suffix != ".json":
            return []
        return list(fellows(result))

    def digest(self, path: Path) -> str:
        """SHA-256 of a file in the tree; one file has many names below `..`."""
        real = self.tree.real_path(path)
        if real not in self.digests:
            self.digests[real] = sha256(real)
        return self.digests[real]

    def judge(self, result: Result) -> None:
        """Raise the level as far as the evidence goes."""
        if result.level == 0:
            self.check_digest(result)
        problems, notes, known = self.code.judge(result.manifest["code"])
        for word, detail in problems:
            result.problem(word, detail)
        result.notes += notes
        if not known:
            result.reason = result.reason or "its code is neither here nor in the repository's history"
        self.check_fellows(result)
        below = self.check_inputs(result)
        whole = all([below, self.check_raw(result), self.check_root(result), known])
        result.closed = whole and (result.level == 1 or result.pruned)
        if result.level == 1 and result.closed:
            result.level, result.reason = 2, ""
            self.rederive(result)
        if not result.reason and result.problems:
            result.reason = f"{result.problems[0].word}: {result.problems[0].detail}"

    def check_digest(self, result: Result) -> None:
        """Level 1: the artefact is what the job wrote."""
        found, key = result.manifest, result.key
        try:
            present = self.digest(key)
        except OSError as error:
            result.problem("unreadable", str(error.strerror))
            return
        if found["artefact"] != key.name:
            result.problem("changed", f"its manifest is of {found['artefact']}")
        elif present == found["sha256"]:
            result.level = 1
        elif key.suffix in TEXTS and converted(key.read_bytes()) == found["sha256"]:
            result.level = 1
            result.notes.append("line ends were converted to CRLF since; the content is the same")
            self.digests[self.tree.real_path(key)] = found["sha256"]
        else:
            result.problem("changed", f"sha256 is {present[:12]}…, recorded {found['sha256'][:12]}…")

    def check_inputs(self, result: Result) -> bool:
        """Whether the chain below is whole, and the inputs are those that were read."""
        whole = True
        for entries in result.manifest["inputs"].values():
            for entry in entries:
                parent = Path(os.path.normpath(result.key.parent / entry["path"]))
                below = self.results.get(parent)
                if below is None or parent in self.open:  # a cycle, noted before
                    whole = False
                    continue
                if not below.closed:
                    whole = False
                    result.reason = result.reason or f"{parent.name} is not closed"
                whole &= self.check_input(result, below, entry)
        return whole

    def check_input(self, result: Result, below: Result, entry: dict) -> bool:
        """Whether one input is the one that was read. One that is damaged has said so itself."""
        if self.tree.escape(below.key) is None and (other := self.tree.mixed(result.key, below.key)):
            result.problem("mixed scales", f"made from {entry['path']}, which is of the scale {other}")
            return False
        if below.level < 1 and not below.pruned:
            return False
        if below.manifest["sha256"] != entry["sha256"]:
            result.problem("stale", f"{below.key.name} is not the one that was read")
            return False
        if entry.get("seal", below.manifest["seal"]) != below.manifest["seal"]:
            if all(problem.word != "rewritten" for problem in below.problems):
                below.problem("rewritten", f"not the manifest that {result.key.name} was made beside",
                              shown(manifest.path_for(below.key)))
            return False
        return True

    def check_fellows(self, result: Result) -> None:
        """Outputs of one job know each other's digests; of two, the one that is judged later looks."""
        for path, recorded in fellows(result).items():
            other = self.results.get(path)
            if other and other.manifest and other.manifest["sha256"] != recorded:
                result.problem("mismatched", f"its job made another {path.name} than the one beside it")

    def check_raw(self, result: Result) -> bool:
        """What comes from outside the tree must have a digest that is known beforehand."""
        found = result.manifest
        if not found["external"] and any(found["inputs"].values()):
            return True
        pinned = found["spec"].get("sha256")
        facts, made = found["facts"], found["spec"].get("source") == "procedural"
        none = facts.get("raw") == "none" and (made or found["stage"] == "ambient.theory")
        known = none or facts.get("raw_checksum_verified") is True or (
            bool(found["external"]) and all(e["sha256"] == pinned for e in found["external"]))
        if not known:
            what = ", ".join(f"{e['file']} {e['sha256'][:12]}…" for e in found["external"])
            result.problem("unpinned", what or "no raw file recorded")
        return known

    def check_root(self, result: Result) -> bool:
        """A table keeps the Merkle root of all manifests below it, as they were."""
        stored = result.manifest.get("root")
        if stored is None:
            return True
        found = merkle.below(result.parents, lambda path: self.results[path].manifest or None
                             if path in self.results else None)
        if merkle.sidecar(result.key.parent, found) == stored:
            return True
        if all(self.results[p].closed for p in result.parents if p in self.results):
            result.problem("contradicted", "the manifests below do not have the root that it records")
        return False

    def root(self, folder: Path) -> dict:
        """The Merkle root of all well-formed manifests at or below a folder."""
        start = Path(os.path.abspath(folder))
        return merkle.sidecar(start, {key: r.manifest for key, r in self.results.items()
                                      if r.manifest and key.is_relative_to(start)})


def fellows(result: Result) -> dict[Path, str]:
    """The other outputs of an artefact's job, in its own folder, with their digests."""
    outputs = result.manifest.get("outputs", {}).values()
    return {result.key.parent / entry["path"]: entry["sha256"] for entry in outputs
            if entry["path"] == Path(entry["path"]).name != result.key.name}


def shown(path: Path) -> Path:
    """A path as a person in this folder would write it."""
    near = os.path.relpath(path)
    return path if near.startswith("..") else Path(near)


def artefacts_in(folder: Path) -> list[Path]:
    """Every file that should have a manifest, and every file that a manifest describes.

    Symlinked folders are listed, not entered.
    """
    found = set()
    for place, folders, names in os.walk(folder):
        for name in list(folders):
            if name.startswith(".") or name == "logs":
                folders.remove(name)
            elif os.path.islink(os.path.join(place, name)):
                found.add(Path(place, name))
        for name in names:
            if name.endswith(manifest.SUFFIX):
                found.add(manifest.artefact_of(Path(place, name)))
            elif not name.startswith(".") and name not in IGNORED and not name.endswith((PRUNED, VIEWS)):
                found.add(Path(place, name))
    return sorted(found)
