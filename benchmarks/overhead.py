"""`python -m benchmarks.overhead`: what the workflow costs beside the work.

In a fresh clone: each stage up to its command line; the jobs of every paper-scale target of all tracks, with
one and with ten training seeds; when all of them are finished, at first and again; the demo with one job at a
time, of which the stages' own seconds are a share, and digests and manifests a share of these; the finished
demo again. Writes benchmarks/overhead.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from ambient.jobs.identity import identity
from ambient.provenance import manifest
from ambient.provenance.manifest import SUFFIX
from ambient.provenance.merkle import located
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.stages import STAGES
from ambient.specs.strict import build
from ambient.storage.files import write_json
from benchmarks.finished import finish
from benchmarks.timing import seconds

SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake")]
DRY = [*SNAKEMAKE, "-n", "--quiet", "host", "-d", ".", "paper_all"]
TEN = {"training_seeds": list(range(10))}


def ran(command: list[str], folder: Path) -> str:
    """What a command prints, which must succeed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def timed(command: list[str], folder: Path, repeats: int = 1) -> float:
    """Median seconds of a command."""
    return statistics.median(seconds(lambda: ran(command, folder)) for _ in range(repeats))


def count_jobs(folder: Path) -> int:
    """How many the dry run of every paper-scale target counts."""
    found = re.search(r"^total +(\d+)", ran(DRY, folder), re.MULTILINE)
    return int(found[1]) if found else 0  # nothing to do


def of_ten_seeds(folder: Path) -> None:
    """Have every study of the paper's scale train ten times."""
    studies = yaml.safe_load((folder / "config/studies.yaml").read_text())["studies"]
    path = folder / "config/scales/paper.yaml"
    made = yaml.safe_load(path.read_text())
    made["studies"] = {name: TEN for name, study in studies.items() if "training_seeds" in study}
    path.write_text(yaml.safe_dump(made))


def jobs_of(tree: Path) -> list[list[dict]]:
    """The manifests of a tree's jobs, each with its `path`."""
    jobs: dict[tuple, list[dict]] = {}
    for path in sorted(tree.rglob(f"*{SUFFIX}")):
        made = json.loads(path.read_text()) | {"path": path}
        job = (made["stage"], json.dumps(made["spec"], sort_keys=True), made["execution"]["started"])
        jobs.setdefault(job, []).append(made)
    return list(jobs.values())


def worked(job: list[dict]) -> float:
    """Seconds that a job took by its manifests: its outputs follow each other."""
    return max(made["execution"]["wall_sec"] for made in job)


def recorded(job: list[dict]) -> float:
    """Seconds that a job spends on digests of its code, inputs and outputs, and on its manifests.

    They are taken once more, and written elsewhere.
    """
    first, began = job[0], time.perf_counter()
    stage, spec, artefact = first["stage"], first["spec"], manifest.artefact_of(first["path"])
    made_by, clock = manifest.code(stage, spec), manifest.Clock()
    inputs = {role: [manifest.identify(located(artefact, entry["path"])) for entry in entries]
              for role, entries in first["inputs"].items()}
    row = next(row for row in STAGES.values() if row.recorded == stage)
    identity(stage, build(row.spec, spec, "spec"), [sha for of in inputs.values() for _, sha, _ in of])
    with tempfile.TemporaryDirectory() as folder:
        for made in job:
            path = manifest.artefact_of(made["path"])
            sha, tensors = manifest.digests(path)
            write_json(Path(folder, "manifest.json"), manifest.build(
                path, stage, spec, inputs, made["external"], made["facts"], clock, made_by,
                outputs={"out": (path, sha)}, tensors={path: tensors}))
    return time.perf_counter() - began


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/overhead.md"))
    given = parser.parse_args()
    lines = []

    def note(what: str, value: str) -> None:
        lines.append(f"| {what} | {value} |")
        print(lines[-1], flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "clone")
        subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
        starts = {stage: timed([sys.executable, "-m", "ambient", "run", stage, "--help"], folder,
                               given.repeats)
                  for stage in STAGES}
        slowest = max(starts, key=starts.get)
        note(f"a stage up to its command line, the slowest of {len(starts)} ({slowest})",
             f"{starts[slowest]:.2f} s")
        for seeds in ("one training seed", "ten training seeds"):
            if seeds == "ten training seeds":
                of_ten_seeds(folder)
            note(f"`snakemake -n paper_all`, {seeds}, {count_jobs(folder):,} jobs",
                 f"{timed(DRY, folder, given.repeats):.1f} s")
        with contextlib.chdir(folder):
            graph = Graph(Experiments("config", "paper"))
            finish(graph, graph.everything())
        first = timed(DRY, folder)  # what it concludes is noted, and read by the next
        left = count_jobs(folder)
        note(f"the same where all are finished, {left:,} jobs to do, at first", f"{first:.1f} s")
        note("and again", f"{timed(DRY, folder, given.repeats):.1f} s")
        demo = [*SNAKEMAKE, "--cores", "1", "--config", "scale=demo"]
        whole = timed(demo, folder)
        jobs = jobs_of(folder / "results/demo")
        inside = sum(map(worked, jobs))
        note("the demo, one job at a time",
             f"{whole / 60:.1f} minutes, {inside / whole:.0%} of them in the stages")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # as cold as a job
            books = sum(pool.imap(recorded, jobs))
        note(f"digests and manifests of its {len(jobs)} jobs",
             f"{books:.1f} s, {books / inside:.1%} of the stages")
        note("the finished demo again", f"{timed(demo, folder, given.repeats):.1f} s")
    given.out.write_text("\n".join([
        "# What the workflow costs\n",
        f"Written by `python -m benchmarks.overhead --repeats {given.repeats}`.\n",
        "| | |\n|---|---|", *lines, ""]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
