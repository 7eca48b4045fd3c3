"""The audit: walk every number back to raw data. No Snakemake, no torch.

Levels: 0 present, a well-formed manifest; 1 intact, the artefact has the digest that its manifest says;
2 closed, so has everything it was made from, back to raw data with a pinned or verified checksum;
3 re-derived (tables), rebuilt from the raw scores and equal cell by cell.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ambient import manifest, sources
from ambient.files import sha256

ADVICE = {
    "missing": "make it again: delete what depends on it and run the workflow",
    "changed": "not what the job wrote: delete it and run the workflow",
    "stale": "made from an input that was made anew since: run the workflow",
    "other code": "made by code that differs from the present: run the workflow, or check out that code",
    "malformed": "not a manifest that this version reads: delete the artefact and run the workflow",
    "orphaned": "a manifest without its artefact: run the workflow, or delete it",
    "unrecorded": "no manifest: nobody can say how it was made; delete it, or move it elsewhere",
    "unpinned": "raw data without a known checksum: set sha256 of the dataset in config/",
    "differs": "not what the raw scores give: delete it and run the workflow"}


@dataclass(frozen=True)
class Problem:
    """A broken link: which file, which word, and the detail."""

    path: Path
    word: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.word}: {self.detail} ({ADVICE[self.word]})"


@dataclass
class Result:
    """What is known of one artefact: the level reached and the problems of its own."""

    path: Path
    level: int = -1
    problems: list[Problem] = field(default_factory=list)
    parents: list[Path] = field(default_factory=list)
    manifest: dict = field(default_factory=dict)


class Audit:
    """Audits artefacts; each file is hashed once, each artefact judged once."""

    def __init__(self, allow_other_code: bool = False) -> None:
        self.allow_other_code = allow_other_code
        self.digests: dict[Path, str] = {}
        self.results: dict[Path, Result] = {}
        self.open: set[Path] = set()  # being judged: meeting one again is a cycle

    def digest(self, path: Path) -> str:
        path = path.resolve()  # one file has many names below `..`
        if path not in self.digests:
            self.digests[path] = sha256(path)
        return self.digests[path]

    def artefact(self, path: Path) -> Result:
        """Judge an artefact and, before it, everything that it was made from."""
        path = Path(path)
        key = path.resolve()
        if key in self.results:
            return self.results[key]
        result = self.results[key] = Result(path)
        record = manifest.path_for(path)
        if not path.exists():
            word = "orphaned" if record.exists() else "missing"
            result.problems.append(Problem(path, word, "no such file"))
            return result
        if not record.exists():
            result.problems.append(Problem(path, "unrecorded", f"no {record.name}"))
            return result
        try:
            result.manifest = manifest.read(record)
        except ValueError as error:
            result.problems.append(Problem(record, "malformed", str(error).removeprefix(f"{record}: ")))
            return result
        result.level = 0
        self.open.add(key)
        self.judge(result)
        self.open.remove(key)
        return result

    def judge(self, result: Result) -> None:
        """Raise the level as far as the evidence goes."""
        path, found = result.path, result.manifest
        if found["artefact"] != path.name:
            result.problems.append(Problem(path, "changed",
                                           f"its manifest is of {found['artefact']}"))
        elif self.digest(path) != found["sha256"]:
            result.problems.append(Problem(
                path, "changed", f"sha256 is {self.digest(path)[:12]}…, recorded {found['sha256'][:12]}…"))
        else:
            result.level = 1
        self.check_code(result)
        closed = self.check_inputs(result)
        if result.level == 1 and closed:
            result.level = 2
        if result.level == 2 and found["stage"] == "ambient.tables":
            self.rederive(result)

    def check_code(self, result: Result) -> None:
        """Compare the recorded sources with those present."""
        if self.allow_other_code:
            return
        for name, recorded in result.manifest["code"]["files"].items():
            path = sources.ROOT / name
            if not path.is_file() or self.digest(path) != recorded:
                result.problems.append(Problem(result.path, "other code", f"{name} differs"))

    def check_inputs(self, result: Result) -> bool:
        """Whether the chain below is whole and ends at known raw data."""
        found, whole = result.manifest, True
        for entries in found["inputs"].values():
            for entry in entries:
                parent = Path(os.path.normpath(result.path.parent / entry["path"]))
                if parent.resolve() in self.open:
                    record = manifest.path_for(result.path)
                    result.problems.append(Problem(record, "malformed",
                                                   f"{parent.name} is made from itself"))
                    whole = False
                    continue
                below = self.artefact(parent)
                result.parents.append(parent)
                whole &= below.level >= 2
                # Where the parent itself is damaged, it has said so; here it was replaced soundly.
                if below.level >= 1 and self.digest(parent) != entry["sha256"]:
                    result.problems.append(Problem(result.path, "stale",
                                                   f"{parent.name} is not the one that was read"))
                    whole = False
        if found["external"] or not any(found["inputs"].values()):
            whole &= self.check_raw(result)
        return whole

    def check_raw(self, result: Result) -> bool:
        """What comes from outside the tree must have a digest that is known beforehand."""
        found = result.manifest
        pinned = found["spec"].get("sha256")
        known = found["facts"].get("raw_checksum_verified") is True or (
            bool(found["external"]) and all(e["sha256"] == pinned for e in found["external"]))
        if not known:
            what = ", ".join(f"{e['file']} {e['sha256'][:12]}…" for e in found["external"])
            result.problems.append(Problem(result.path, "unpinned", what or "no raw file recorded"))
        return known

    def rederive(self, result: Result) -> None:
        """Build a table again from its recorded inputs and compare every cell."""
        from ambient import tables

        found = result.manifest
        inputs = {role: [result.path.parent / e["path"] for e in entries]
                  for role, entries in found["inputs"].items()}
        try:
            text = tables.rebuild(found["spec"], inputs)
        except (ValueError, LookupError, TypeError, OSError) as error:
            result.problems.append(Problem(result.path, "differs", f"can't be rebuilt: {error}"))
            return
        expected = list(csv.reader(io.StringIO(text)))
        present = list(csv.reader(io.StringIO(result.path.read_text())))
        if expected == present:
            result.level = 3
            return
        for i, (row, other) in enumerate(zip(present, expected, strict=False)):
            for column, (a, b) in enumerate(zip(row, other, strict=False)):
                if a != b:
                    result.problems.append(Problem(
                        result.path, "differs", f"row {i}, {expected[0][column]}: {a} for {b}"))
                    return
        result.problems.append(Problem(result.path, "differs", f"{len(present)} rows for {len(expected)}"))


def artefacts_in(folder: Path) -> list[Path]:
    """Every file that should have a manifest, and every file that a manifest describes."""
    found = set()
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") for part in parts) or "logs" in parts[:-1]:
            continue
        if path.name.endswith(manifest.SUFFIX):
            found.add(manifest.artefact_of(path))
        elif path.name not in ("README.md", "report.html"):
            found.add(path)
    return sorted(found)


def tree(audit: Audit, path: Path) -> list[str]:
    """The chain below an artefact, indented; what was shown already is not unfolded again."""
    seen: set[Path] = set()
    base = path.resolve().parent

    def lines(key: Path, depth: int) -> list[str]:
        result = audit.results[key]
        stage = result.manifest.get("stage", "?").removeprefix("ambient.")
        name = path if depth == 0 else Path(os.path.relpath(key, base)).as_posix()
        again, indent = key in seen, "  " * depth
        seen.add(key)
        found = [f"{indent}{name}  [{stage}, level {result.level}]" + ("  (above)" if again else "")]
        if again:
            return found
        found += [f"{indent}  {outside['file']}  [raw, sha256 {outside['sha256'][:12]}…]"
                  for outside in result.manifest.get("external", [])]
        for parent in dict.fromkeys(p.resolve() for p in result.parents):
            found += lines(parent, depth + 1)
        return found

    return lines(path.resolve(), 0)


def main(arguments: list[str]) -> int:
    """`python -m ambient audit [FILE|FOLDER ...]`: exit 0 only if every link of every result holds."""
    parser = argparse.ArgumentParser(prog="python -m ambient audit", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("results")])
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--allow-other-code", action="store_true",
                        help="accept artefacts made by code that differs from the present")
    given = parser.parse_args(arguments)
    audit, asked = Audit(given.allow_other_code), []
    given.paths = [manifest.artefact_of(path) if path.name.endswith(manifest.SUFFIX) else path
                   for path in given.paths]
    for path in given.paths:
        if not path.exists() and not manifest.path_for(path).exists():
            parser.error(f"{path}: no such file or folder")
        asked += artefacts_in(path) if path.is_dir() else [path]
    if not asked:
        parser.error(f"no artefacts in {', '.join(map(str, given.paths))}")
    for path in asked:
        audit.artefact(path)
    results = list(audit.results.values())
    problems = [problem for result in results for problem in result.problems]
    counts = {level: sum(r.level == level for r in results) for level in (3, 2, 1, 0, -1)}
    if given.json:
        print(json.dumps({
            "artefacts": {str(r.path): r.level for r in results},
            "problems": [{"path": str(p.path), "word": p.word, "detail": p.detail} for p in problems]},
            indent=1, sort_keys=True))
        return 1 if problems else 0
    for path in given.paths:
        if path.is_file():
            print("\n".join(tree(audit, path)))
    for problem in problems:
        print(problem)
    levels = ", ".join(f"{'no level' if k < 0 else f'level {k}'}: {v}" for k, v in counts.items() if v)
    print(f"{len(results)} artefacts, {levels}; {len(problems)} problems")
    return 1 if problems else 0
