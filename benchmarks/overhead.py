"""`python -m benchmarks.overhead`: what the workflow costs beside the work.

In a fresh clone: each stage up to its command line; the jobs of every paper-scale target of all tracks, with
one and with ten training seeds; when all of them are finished, at first and again; the demo with one job at a
time, of which the stages' own seconds are a share; the finished demo again. Writes benchmarks/overhead.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from ambient.provenance.manifest import SUFFIX
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.stages import STAGES
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


def worked(tree: Path) -> float:
    """Seconds that the jobs of a tree took by their manifests, each job once."""
    jobs = {}
    for path in tree.rglob(f"*{SUFFIX}"):
        made = json.loads(path.read_text())
        job = (made["stage"], json.dumps(made["spec"], sort_keys=True), made["execution"]["started"])
        jobs[job] = max(jobs.get(job, 0), made["execution"]["wall_sec"])  # its outputs follow each other
    return sum(jobs.values())


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
        share = worked(folder / "results/demo") / whole
        note("the demo, one job at a time", f"{whole / 60:.1f} minutes, {share:.0%} of them in the stages")
        note("the finished demo again", f"{timed(demo, folder, given.repeats):.1f} s")
    given.out.write_text("\n".join([
        "# What the workflow costs\n",
        f"Written by `python -m benchmarks.overhead --repeats {given.repeats}`.\n",
        "| | |\n|---|---|", *lines, ""]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
