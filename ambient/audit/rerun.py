"""Level 4: run sampled jobs again in a scratch folder, and compare what they make with what is there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ambient import manifest, sources
from ambient.audit.words import Result
from ambient.files import canonical_json, digest

if TYPE_CHECKING:
    from ambient.audit.chain import Audit

# Stages that may be run, and their options beside inputs and outputs.
STAGES = {"prepare": (), "corrupt": (), "classifier": ("state",), "annotate": ("state",),
          "train": ("state",), "sample": ("state",), "detector": ("state",), "reference": (),
          "evaluate": (), "tables": (), "figures": (), "combine": (), "locality": (), "galleries": (),
          "crops_figures": (), "summary": (), "theory": (), "theory_figure": ()}
# Bits are promised for equal libraries, kind of CPU and threads. Elsewhere: of uint8 pixels the largest
# difference and the share of pixels that may have any, of other numbers the largest relative difference.
PIXEL_STEPS, PIXEL_SHARE, RELATIVE = 2, 0.01, 1e-3


@dataclass
class Job:
    """A job whose outputs are all in the tree: the results by the stage's name for each output."""

    outputs: dict[str, Result]

    @property
    def one(self) -> Result:
        return next(iter(self.outputs.values()))

    def name(self) -> str:
        return f"{self.one.stage} of {self.one.path}"


def jobs(audit: Audit) -> tuple[dict[str, list[Job]], list[str]]:
    """Stage -> the jobs that can be run again, sorted by name; and in words why others can't."""
    found: dict[str, dict[str, Job]] = {}
    refused = set()
    for key, result in sorted(audit.results.items()):
        outputs = result.manifest.get("outputs", {})
        fellows = {role: audit.results.get(key.parent / e["path"]) for role, e in outputs.items()}
        if result.level < 2 or result.stage not in STAGES or not outputs:
            continue
        if any(other is None or other.level < 2 for other in fellows.values()):
            continue
        if any(audit.results[parent].level < 1 for parent in result.parents):
            refused.add(f"not run again: {result.stage} of {result.path}: an input was pruned")
            continue
        if not available(result):
            refused.add(f"not run again: {result.stage} of {result.path}: its raw data are not at hand")
            continue
        place = digest([result.stage, str(key.parent), outputs])
        found.setdefault(result.stage, {}).setdefault(place, Job(fellows))
    return {stage: list(of.values()) for stage, of in found.items()}, sorted(refused)


def available(result: Result) -> bool:
    """Whether the raw files of a job can be had here: those of a package are, local ones may not be."""
    return not result.manifest["external"] or result.manifest["spec"].get("source") == "mnist"


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


def rerun(audit: Audit, count: int, quiet: bool = False) -> list[str]:
    """Run `count` jobs again; raise levels or note problems; return a line each.

    Anyone can predict the draw from the root; who wants a surprise gives a large N.
    """
    found, lines = jobs(audit)
    for job in draw(found, count, audit.root(audit.tree.top)["sha256"]):
        if not quiet:
            print(f"running again: {job.name()}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="ambient-rerun-") as folder:
            lines.append(again(job, Path(folder)))
    return lines


def again(job: Job, folder: Path) -> str:
    """Run one job into `folder` and compare each output."""
    recorded = job.one.manifest
    targets = {role: folder / other.key.name for role, other in job.outputs.items()}
    command = [sys.executable, "-m", f"ambient.{job.one.stage}", "--spec", canonical_json(recorded["spec"])]
    for role, entries in recorded["inputs"].items():
        paths = [os.path.normpath(job.one.key.parent / entry["path"]) for entry in entries]
        command += [option(role), *paths] if paths else []
    command += [word for name in STAGES[job.one.stage] for word in (option(name), str(folder / name))]
    command += [word for role, path in targets.items() for word in (option(role), str(path))]
    threads = str(recorded["environment"].get("threads", os.cpu_count()))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, cwd=sources.ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        job.one.problem("not repeated", f"its job failed: {last}")
        return f"re-executed {job.name()}: failed: {last}"
    verdicts = [judge(other, targets[role]) for role, other in job.outputs.items()]
    return f"re-executed {job.name()}: {', '.join(dict.fromkeys(verdicts))}"


def option(role: str) -> str:
    """The command-line option of a role."""
    return f"--{role.replace('_', '-')}"


def judge(result: Result, path: Path) -> str:
    """Compare one output: `identical`, within which tolerance, or different with the first reason."""
    new = manifest.read(manifest.path_for(path))
    if new["sha256"] == result.manifest["sha256"]:
        verdict = "identical"
    elif "content_sha256" in new and new["content_sha256"] == result.manifest.get("content_sha256"):
        verdict = "identical arrays, another container"
    else:
        verdict = within(result.key, path)
    if verdict is None:
        verdict = f"different ({first_difference(result.manifest, new)})"
        result.problem("not repeated", verdict)
    else:
        result.level, result.reason = 4, ""
    return verdict


def within(old: Path, new: Path) -> str | None:
    """In words the declared tolerance that holds, or None."""
    if old.suffix == ".safetensors":
        from ambient.files import read_arrays

        first, second = read_arrays(old), read_arrays(new)
        if first.keys() != second.keys():
            return None
        good = all(near_arrays(first[name], second[name]) for name in first)
    elif old.suffix == ".json":
        good = near(json.loads(old.read_text()), json.loads(new.read_text()))
    elif old.suffix == ".csv":
        good = near(*([number(c) for line in p.read_text().splitlines() for c in line.split(",")]
                      for p in (old, new)))
    else:
        return None
    return (f"within tolerance (pixels: at most {PIXEL_STEPS} steps in {PIXEL_SHARE:.0%} of them; "
            f"other numbers: {RELATIVE:g} relative)") if good else None


def near_arrays(a, b) -> bool:
    """Whether two numpy arrays agree within the declared tolerance."""
    import numpy as np

    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == np.uint8:
        steps = np.abs(a.astype(np.int16) - b)
        return bool(steps.max(initial=0) <= PIXEL_STEPS and (steps > 0).mean() <= PIXEL_SHARE)
    if a.dtype.kind != "f":
        return bool((a == b).all())
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0))
    return bool(np.allclose(a, b, rtol=RELATIVE, atol=RELATIVE * largest))


def number(cell: str) -> float | str:
    """A cell's number, or its text."""
    try:
        return float(cell)
    except ValueError:
        return cell


def near(a, b) -> bool:
    """Whether plain data agree within the declared tolerance."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, float) and isinstance(b, int | float):
        return abs(a - b) <= RELATIVE * max(abs(a), abs(b)) or a != a and b != b
    return a == b


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
    return "no recorded difference of inputs, code, libraries or machine"
