"""Level 4: run some jobs again in a scratch folder, and compare what they make with what is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from ambient.audit import contents, roles
from ambient.audit.words import Result, shown
from ambient.provenance import manifest, merkle, source_code
from ambient.specs import DatasetSpec, DetectorSpec, JudgeSpec
from ambient.specs.stage import option
from ambient.storage.files import canonical_json, digest
from ambient.storage.text import printable

if TYPE_CHECKING:
    from ambient.audit.chain import Audit

NOTHING = "no recorded difference of inputs, code, libraries or machine"


@dataclass
class Job:
    """A job whose outputs are all in the tree: the results by the stage's name for each output."""

    outputs: dict[str, Result]

    @property
    def one(self) -> Result:
        return next(iter(self.outputs.values()))

    def name(self) -> str:
        return f"{self.one.stage} of {self.one.path}"


def place(result: Result) -> str:
    """What the outputs of one job have in common."""
    outputs = result.manifest.get("outputs") or {"": {"path": result.key.name}}
    return digest([result.stage, str(result.key.parent), sorted(e["path"] for e in outputs.values())])


def jobs(audit: Audit) -> tuple[dict[str, list[Job]], dict[str, str]]:
    """Stage -> the jobs that can be run again, sorted by name; and in words why each other one can't, by its
    place."""
    found: dict[str, dict[str, Job]] = {}
    refused: dict[str, str] = {}
    for key, result in sorted(audit.results.items()):
        outputs = result.manifest.get("outputs", {})
        fellows = {role: audit.results.get(key.parent / e["path"]) for role, e in outputs.items()}
        if why := obstacle(audit, result, fellows):
            refused.setdefault(place(result), f"not run again: {result.stage} of {result.path}: {why}")
        else:
            found.setdefault(result.stage, {}).setdefault(place(result), Job(fellows))
    return {stage: list(of.values()) for stage, of in found.items()}, refused


def obstacle(audit: Audit, result: Result, fellows: Mapping[str, Result | None]) -> str | None:
    """Why the job of an artefact can't be run again; None if it can be. What was pruned can be made again."""
    if not result.closed:
        return f"it is not closed ({result.reason or 'no sound manifest'})"
    row = roles.of(result.manifest["stage"])
    if row is None:
        return "there is no such stage here"
    if wrong := roles.wrong(row, result.manifest):
        return wrong
    if lacking := [role for role in row.outputs if role not in fellows]:
        return f"its manifest does not name the stage's {lacking[0]!r}"
    for role, other in fellows.items():
        if other is None or not other.closed:
            return f"its {role!r} is not here, or is not closed"
    if any(not audit.results[parent].closed for parent in result.parents):
        return "an input is not closed"
    if result.stage == "judge" and not of_workflow(result):
        return "its judge is not of the workflow: what it said is kept, and it is not asked again"
    return None if available(result) else "its raw data are not at hand"


def of_workflow(result: Result) -> bool:
    """Whether a judge is a model of the workflow. Others may cost money, and need not say the same again."""
    kind = JudgeSpec.KINDS.get(result.manifest["spec"].get("kind"))
    return kind is not None and kind.Spec.MODEL


def available(result: Result) -> bool:
    """Whether a job's raw data can be had here without a download or a path: those of a package, or none."""
    spec = result.manifest["spec"]
    if result.stage == "prepare":
        source = DatasetSpec.KINDS.get(spec.get("source"))
        return source is not None and source.Spec.HAD in ("drawn", "installed")
    if result.stage == "detector":
        kind = DetectorSpec.KINDS.get(spec.get("kind"))
        if kind is None or not kind.Spec.LEARNS:
            return False
    return not result.manifest["external"]


def draw(found: Mapping[str, list[Job]], count: int, seed: str) -> list[Job]:
    """Up to `count` jobs, one of each stage before a second of any; a function of the tree's root."""
    generator = random.Random(seed)
    pools = {stage: generator.sample(of, len(of)) for stage, of in sorted(found.items())}
    order, drawn = generator.sample(sorted(pools), len(pools)), []
    while len(drawn) < count and any(pools.values()):
        for stage in order:
            if pools[stage] and len(drawn) < count:
                drawn.append(pools[stage].pop())
    return drawn


def rerun(audit: Audit, count: int, files: Sequence[Path] = (), quiet: bool = False) -> list[str]:
    """Run again the jobs of `files` (keys of `audit.results`), and `count` others that are drawn.

    Raises levels or notes problems, and returns a line for each job, and what was left out. Anyone can
    predict the draw from the root; who wants a surprise gives a large N. What was pruned is made again before
    the jobs that read it.
    """
    found, refused = jobs(audit)
    named = {place(audit.results[path]) for path in files}
    chosen = [job for of in found.values() for job in of if place(job.one) in named]
    rest = {stage: [job for job in of if job not in chosen] for stage, of in found.items()}
    drawn = chosen + draw(rest, count, audit.root(audit.tree.top)["sha256"])
    drawn.sort(key=lambda job: audit.judged.index(job.one.key))
    lines: list[str] = []
    remade: dict[Path, Path] = {}  # what was pruned, and where it lies now
    with tempfile.TemporaryDirectory(prefix="ambient-rerun-") as scratch:
        for number, job in enumerate(drawn):
            if lacking := gone(job, remade):
                lines.append(f"not run again: {job.name()}: {lacking.name} was pruned, and its job was not "
                             f"run before; give --rerun {shown(lacking)}, too")
                continue
            if not quiet:
                print(f"running again: {printable(job.name())}", file=sys.stderr, flush=True)
            lines.append(again(job, Path(scratch, str(number)), remade))
            made = targets(job, Path(scratch, str(number)))
            remade |= {other.key: made[role] for role, other in job.outputs.items()
                       if other.pruned and other.repeated}
    lines += sorted(why for at, why in refused.items() if count or at in named)
    left = Counter(job.one.stage for of in found.values() for job in of if job not in drawn)
    if left and count:
        lines.append(f"not run again: {counted(left)}: not drawn, a larger N draws more")
    return lines + [reach(audit, result) for result in audit.results.values()
                              if result.stage == "tables" and result.level >= 1]


def counted(stages: Mapping[str, int]) -> str:
    """`3 train, 1 sample`."""
    return ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))


def reach(audit: Audit, table: Result) -> str:
    """How many of the jobs behind a table were run again, and which were not."""
    below = merkle.below([table.key], lambda path: (audit.results[path].manifest or None)
                         if path in audit.results else None)
    behind = {place(audit.results[path]): audit.results[path] for path in below}
    rest = Counter(result.stage for result in behind.values() if not result.repeated)
    done = len(behind) - sum(rest.values())
    return (f"{table.path}: {done} of the {len(behind)} jobs behind it were run again with the same result"
            + (f", not so: {counted(rest)}" if rest else ""))


def targets(job: Job, folder: Path) -> dict[str, Path]:
    """Where a job that is run again writes, by role."""
    return {role: folder / role / other.key.name for role, other in job.outputs.items()}


def inputs(job: Job, remade: Mapping[Path, Path]) -> dict[str, list[Path]]:
    """What a job reads, by role; what was made again is read from there."""
    found = {role: [Path(os.path.normpath(job.one.key.parent / entry["path"])) for entry in entries]
             for role, entries in job.one.manifest["inputs"].items()}
    return {role: [remade.get(path, path) for path in paths] for role, paths in found.items()}


def gone(job: Job, remade: Mapping[Path, Path]) -> Path | None:
    """An input of a job that is not there, if there is one."""
    return next((path for paths in inputs(job, remade).values() for path in paths if not path.exists()), None)


def again(job: Job, folder: Path, remade: Mapping[Path, Path] = MappingProxyType({})) -> str:
    """Run one job into `folder` and compare each output; inputs in `remade` are read from there."""
    recorded, made = job.one.manifest, targets(job, folder)
    row = roles.of(recorded["stage"])
    command = [sys.executable, "-m", "ambient", "run", row.name, "--spec", canonical_json(recorded["spec"])]
    for role, paths in inputs(job, remade).items():
        command += [option(role), *map(str, paths)] if paths else []
    command += [option("state"), str(folder / "state")] if row.resumable else []
    command += [word for role, path in made.items() for word in (option(role), str(path))]
    for path in made.values():
        path.parent.mkdir(parents=True)
    threads = str(recorded["environment"].get("threads", os.cpu_count()))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, cwd=source_code.ROOT, env=environment, capture_output=True, text=True,
                          errors="replace")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        job.one.problem("not repeated", f"its job failed: {last}")
        return f"re-executed {job.name()}: failed: {last}"
    verdicts = [judge(other, made[role]) for role, other in job.outputs.items()]
    return f"re-executed {job.name()}: {', '.join(dict.fromkeys(verdicts))}"


def judge(result: Result, path: Path) -> str:
    """Compare one output: `identical`, within which tolerance, or different with the first difference."""
    new = manifest.read(manifest.path_for(path))
    if new["sha256"] == result.manifest["sha256"]:
        verdict = "identical"
    elif recorded_arrays(result) == new.get("content_sha256", ""):
        verdict = "identical arrays, another container"
    else:
        verdict = None if result.pruned else contents.within(result.key, path)
    cause = first_difference(result.manifest, new)
    if verdict is None and result.pruned and cause != NOTHING:
        return f"not comparable: pruned, and {cause}"  # bits may differ, and no others are there
    if verdict is None:
        found = None if result.pruned else contents.first_other(result.key, path)
        verdict = f"different ({'; '.join(filter(None, [found, f'possible cause: {cause}']))})"
        result.problem("not repeated", verdict)
    else:
        result.repeated = True
        result.level, result.reason = (result.level, "") if result.pruned else (4, "")
    return verdict


def recorded_arrays(result: Result) -> str | None:
    """The digest of an artefact's arrays: of those in its file or, where it was pruned, as recorded."""
    if result.pruned:
        return result.manifest.get("content_sha256")
    return contents.arrays_digest(result.key)


def first_difference(old: Mapping, new: Mapping) -> str:
    """The first thing that differs between two jobs: an input, code, a library, the machine."""
    for role, entries in old["inputs"].items():
        for one, other in zip(entries, new["inputs"][role], strict=True):
            if one["sha256"] != other["sha256"]:
                return f"the input {one['path']} is another"
    for name, value in old["code"]["files"].items():
        if new["code"]["files"].get(name) != value:
            return f"{name} is another"
    a, b = old["environment"], new["environment"]
    pairs = [(key, a["packages"].get(key), b["packages"].get(key)) for key in sorted(a["packages"])]
    pairs += [(key, a.get(key), b.get(key)) for key in
              ("python", "cpu_capability", "cpu_features", "cpu", "threads", "gpu", "cuda", "cudnn", "driver",
               "machine", "system", "libc", "release")]
    for key, one, other in pairs:
        if one != other:
            return f"{key} was {one}, is {other}"
    return NOTHING
