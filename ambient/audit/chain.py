"""Levels 0 to 2: manifests, digests, and the chain down to raw data. Standard library only.

The walk keeps its own stack, so that a chain may be as long as it likes; each file is hashed once and
each artefact judged once, parents first.
"""

from __future__ import annotations

import os
import re
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.audit import bind, captioned, roles
from ambient.audit.code import MANY, Code, converted
from ambient.audit.place import Tree
from ambient.audit.rederive import Rederive
from ambient.audit.sign import SIGNATURE
from ambient.audit.words import Result, shown
from ambient.provenance import manifest, merkle
from ambient.provenance.pruned import PRUNED, pruned_path, pruned_record
from ambient.specs import DatasetSpec
from ambient.specs.stages import STAGES, prunable
from ambient.storage import regular
from ambient.storage.regular import sha256
from ambient.storage.text import first_line

if TYPE_CHECKING:
    from ambient.audit.noted import Noted

TEXTS = (".csv", ".json", ".jsonl")
# They may read no file of the tree: what they make comes from outside, or is drawn.
LEAVES = {name for name, stage in STAGES.items()
          if not stage.reads or stage.outside and stage.optional.issuperset(stage.reads)}
# The part of a stage's specification that pins what it reads from outside, where it is not the whole.
PINNED_IN = {"reference": "published", "encode": "precomputed", "texts": "precomputed"}
# JSON computed from what its job wrote beside it.
SUMMARIES = {"ambient.evaluate", "ambient.annotate", "ambient.outside"}
BOUND = {"ambient.evaluate": bind.scores, "ambient.tables": bind.table, "ambient.sweep": bind.table,
         "ambient.outside": bind.measured, "ambient.comparison": bind.comparison,
         "ambient.sample_scores": captioned.scores, "ambient.judge": captioned.answers,
         "ambient.crops_figures": captioned.preferences}
IGNORED = {"README.md", SIGNATURE}
VIEWS = "audit.html"  # pages that this package writes
UNASKED = ("execution", "format", "spec_sha256")  # of a manifest, what no check asks for once it is read


class Audit:
    """Audits the artefacts of one results tree, of which `start` is a file or folder."""

    def __init__(self, start: Path, allow_other_code: bool = False, draws: bool = True,
                 noted: Noted | None = None) -> None:
        """`draws`: figures are drawn again, without which they reach level 2.

        `noted`: what the workflow noted of files, for its own jobs. Without it each file is hashed.
        """
        self.tree = Tree(start)
        self.code = Code(allow_other_code)
        self.noted, self.digests = noted, dict[str, str]()
        self.results: dict[Path, Result] = {}
        self.judged: list[Path] = []  # in this order: what an artefact was made from comes before it
        self.open: set[Path] = set()  # being judged: meeting one again is a cycle
        self.rederive = Rederive(self, draws)

    def artefact(self, path: Path) -> Result:
        """Judge an artefact and, before it, everything that it was made from."""
        start = Path(os.path.abspath(path))
        stack = [(start, False)]
        while stack:
            key, judged = stack.pop()
            if judged:
                self.judge_any(self.results[key])
                self.judged.append(key)
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
        result = Result(key)
        record = manifest.path_for(key)
        if (how := self.tree.escape(key) or self.tree.escape(record)):
            result.problem("outside", how)
            return result
        present, recorded = regular.kind(key), regular.kind(record)
        if recorded != regular.FILE or present not in (regular.FILE, regular.MISSING):
            self.not_there(result, present, recorded)
            return result
        try:
            found = manifest.read(record)
        except ValueError as error:
            result.problem("malformed", str(error).removeprefix(f"{record}: "), shown(record))
            return result
        except OSError as error:
            result.problem("unreadable", str(error.strerror), shown(record))
            return result
        result.parents = tuple(self.results[p].key if p in self.results else p
                               for p in merkle.parents(key, found))  # one object a path
        result.seconds = found["execution"]["wall_sec"]
        result.manifest = {name: value for name, value in found.items() if name not in UNASKED}
        if present == regular.FILE:
            result.level = 0
        elif (prunable(key.name, result.manifest["stage"]) and self.tree.escape(pruned_path(key)) is None
              and pruned_record(key, result.manifest)):
            result.pruned = True
            result.note("pruned: removed on purpose, known by its manifest alone")
        else:
            result.problem("orphaned", "no such file")
        return result

    def not_there(self, result: Result, present: str, recorded: str) -> None:
        """Say what lies in the place of an artefact or of its manifest."""
        record = manifest.path_for(result.key)
        if present not in (regular.FILE, regular.MISSING):
            unreadable = present == regular.FOLDER and not os.access(result.key, os.R_OK | os.X_OK)
            result.problem("unreadable" if unreadable else "not a file", present)
        elif recorded != regular.MISSING:
            result.problem("not a file", recorded, shown(record))
        elif present == regular.FILE:
            result.problem("unrecorded", f"no {record.name}")
        else:
            result.problem("missing", "no such file")

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
            known = self.noted and self.noted.of(path)
            self.digests[real] = sys.intern(known or sha256(real))  # manifests hold the same text
        return self.digests[real]

    def judge_any(self, result: Result) -> None:
        """Judge an artefact, whatever somebody wrote into its files: one must not hide the others."""
        try:
            self.judge(result)
        except Exception as error:  # the kinds that a file can raise are not known beforehand
            result.level, result.closed = min(result.level, 1), False
            result.problem("unreadable", first_line(error))

    def judge(self, result: Result) -> None:
        """Raise the level as far as the evidence goes."""
        if result.level == 0:
            self.check_digest(result)
        problems, notes, known = self.code.judge(result.manifest)
        for word, detail in problems:
            result.problem(word, detail)
        result.notes += notes
        if result.stage == "outside":
            result.note("images from outside, known by their digest: nobody here saw their making")
        if not known:
            result.reason = result.reason or "its code is neither here nor in the repository's history"
        self.check_fellows(result)
        below = self.check_inputs(result)
        whole = all([below, self.check_roles(result), self.check_raw(result), self.check_root(result), known])
        result.closed = whole and (result.level == 1 or result.pruned)
        if result.level == 1 and result.closed:
            result.level, result.reason = 2, ""
            if self.is_bound(result):
                self.rederive(result)
        if not result.reason and result.problems:
            result.reason = f"{result.problems[0].word}: {result.problems[0].detail}"

    def check_digest(self, result: Result) -> None:
        """Level 1: the artefact is what the job wrote."""
        found, key = result.manifest, result.key
        if found["artefact"] != key.name:
            result.problem("changed", f"its manifest is of {found['artefact']}")
            return
        size = os.stat(key).st_size
        if size > max(2 * found["size"], regular.SMALL):  # a sparse file would take days to read
            result.problem("changed", f"{size} bytes, recorded {found['size']}")
            return
        present = self.digest(key)
        if present == found["sha256"]:
            result.level = 1
        elif key.suffix in TEXTS and converted(regular.read(key, size)) == found["sha256"]:
            result.level = 1
            result.note("line ends were converted to CRLF since; the content is the same")
            self.digests[self.tree.real_path(key)] = found["sha256"]
        else:
            result.problem("changed", f"sha256 is {present[:12]}…, recorded {found['sha256'][:12]}…")

    def check_inputs(self, result: Result) -> bool:
        """Whether the chain below is whole, and the inputs are those that were read."""
        whole = True
        for entries in result.manifest["inputs"].values():
            for entry in entries:
                parent = merkle.located(result.key, entry["path"])
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
        inside = below.manifest or self.tree.escape(below.key) is None  # nothing is read of what leads out
        if inside and (other := self.tree.mixed(result.key, below.key)):
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

    def check_roles(self, result: Result) -> bool:
        """Whether a job read and wrote what its stage does, as far as that is known here."""
        outputs, stage = result.manifest.get("outputs"), result.manifest["stage"]
        if outputs is None:
            result.problem("incomplete", "its manifest does not name all outputs of its job")
            return False
        row = roles.of(stage) if self.code.is_here(result.manifest["code"]) else None
        if wrong := row and roles.wrong(row, result.manifest):
            result.problem("contradicted", wrong)
            return False
        if all(entry["path"] != result.key.name for entry in outputs.values()):
            result.problem("contradicted", "its job made other files, it says")
            return False
        return True

    def is_bound(self, result: Result) -> bool:
        """Whether a score or a table is of the runs, seeds and detector that it names."""
        check, stage = BOUND.get(result.manifest["stage"]), result.manifest["stage"]
        if check is None or stage in SUMMARIES and result.key.suffix != ".json":
            return True
        try:
            wrong = list(islice(check(self.results, result), MANY))
        except ImportError as error:
            result.reason = f"telling whose runs these are needs {error.name}, which is not installed here"
            return False
        for one in wrong:
            result.problem("misattributed", one)
        return not wrong

    def check_raw(self, result: Result) -> bool:
        """What comes from outside the tree must have a digest that is known beforehand.

        Only stages that make or read raw data may have no inputs: anything else would be out of thin air.
        """
        found, stage = result.manifest, result.stage
        if not any(found["inputs"].values()):
            if stage not in LEAVES:
                result.problem("contradicted", f"made from nothing, which {stage} can't do")
                return False
            source = DatasetSpec.KINDS.get(found["spec"].get("source"))
            if not found["external"] and (stage == "theory" or source and source.Spec.HAD == "drawn"):
                return True
        elif not found["external"]:
            return True
        told = found["spec"].get(PINNED_IN[stage]) if stage in PINNED_IN else found["spec"]
        pinned = told.get("sha256") if isinstance(told, dict) else None
        known = bool(found["external"]) and (
            found["facts"].get("raw_checksum_verified") is True
            or all(e["sha256"] == pinned for e in found["external"]))
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
    return {merkle.located(result.key, entry["path"]): entry["sha256"] for entry in outputs
            if "/" not in entry["path"] and entry["path"] not in (".", "..", result.key.name)}


def artefacts_in(folder: Path) -> list[Path]:
    """Every file that should have a manifest, and every file that a manifest or a removal's record describes.

    Symlinked folders are listed, not entered; so are folders that can't be read.
    """
    walk = regular.below(folder, enter=lambda name: not name.startswith("."))
    return sorted({described(path) for path, _ in walk if is_listed(path)}, key=lambda path: path.parts)


def described(path: Path) -> Path:
    """The artefact that a file is a record of, or the file itself."""
    name = path.name.removesuffix(manifest.SUFFIX).removesuffix(PRUNED)
    return path if name == path.name else path.with_name(name)


def is_listed(path: Path) -> bool:
    """Whether a file is an artefact or a record of one: not hidden, no page, no log."""
    log = "logs" in path.parts and re.search(r"\.log(\.\d+)?$", path.name)  # `.log.1`: of an attempt before
    return not (log or path.name.startswith(".") or path.name in IGNORED or path.name.endswith(VIEWS))
