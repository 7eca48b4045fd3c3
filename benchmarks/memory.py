"""`python -m benchmarks.memory`: the peak memory of each stage's job against the number of images.

Each job is the command that the workflow starts, in a process of its own; its peak is that of its manifest.
5,000 and 50,000 images are run. 500,000 are run where that takes no more than --seconds by the time that the
two others took, and are extrapolated in a straight line otherwise. Writes benchmarks/memory.md. NAME: only
these.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ambient.provenance import manifest
from ambient.specs.stage import option
from ambient.specs.stages import STAGES
from ambient.specs.strict import to_json
from benchmarks.jobs import JOBS, Files, Job, Made

SIZES = (5_000, 50_000, 500_000)


@dataclass(frozen=True)
class Peak:
    """What a job of so many images took, or would take in a straight line."""

    images: int
    megabytes: float
    seconds: float
    extrapolated: bool = False


def ran(name: str, job: Job) -> dict:
    """Run a job; the execution block of its manifest. Raises `RuntimeError` where it fails."""
    stage, spec, files = job
    line = [sys.executable, "-m", "ambient", "run", stage, "--spec", to_json(spec)]
    if STAGES[stage].resumable:
        files = files | {"state": Path(files["out"]).with_suffix(".state")}
    for role, given in files.items():
        line += [option(role), *map(str, given if isinstance(given, list) else [given])]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return manifest.read(manifest.path_for(Path(files["out"])))["execution"]


def measured(name: str, folder: Path, made: Made, count: int) -> Peak:
    """The peak of a job of so many images, whose files are removed."""
    place = folder / f"{name.split(':')[0]}-{count}"
    try:
        stage, spec, files = JOBS[name](Files(place, count), made)
        found = ran(name, (stage, spec, {"out": place / "made.safetensors"} | files))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Peak(count, found["peak_memory_bytes"] / 1e6, found["wall_sec"])


def slope(first: Peak, second: Peak) -> float:
    """MB an image."""
    return (second.megabytes - first.megabytes) / (second.images - first.images)


def following(before: Sequence[Peak], count: int) -> Peak:
    """What so many images would take, by the two sizes before them, in a straight line."""
    first, second = before[-2:]
    more = count - second.images
    rate = (second.seconds - first.seconds) / (second.images - first.images)
    return Peak(count, second.megabytes + more * slope(first, second), second.seconds + more * rate, True)


def of_stage(name: str, folder: Path, made: Made, sizes: Sequence[int], limit: float) -> list[Peak]:
    """Its peak at each size."""
    found: list[Peak] = []
    for count in sizes:
        expected = following(found, count) if len(found) > 1 else None
        too_long = expected is not None and expected.seconds > limit
        found.append(expected if too_long else measured(name, folder, made, count))
    return found


def line(name: str, found: Sequence[Peak]) -> str:
    """A stage's row of Markdown."""
    cells = [f"{peak.megabytes:,.0f} MB" + " (straight line)" * peak.extrapolated for peak in found]
    known = [peak for peak in found if not peak.extrapolated]
    return f"| {' | '.join([name, *cells])} | {slope(*known[-2:]) * 1e6:,.0f} bytes |"


def main(arguments: list[str] | None = None) -> None:
    """Each stage at each size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(JOBS)}")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="images, two sizes or more")
    parser.add_argument("--seconds", type=float, default=120, help="no job of a third size is longer")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/memory.md"))
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(JOBS)):
        parser.error(f"unknown name {unknown[0]!r} (known: {', '.join(JOBS)})")
    lines = []
    with tempfile.TemporaryDirectory() as name:
        made = Made(Path(name, "networks"), ran)
        for job in given.names or JOBS:
            try:
                lines.append(line(job, of_stage(job, Path(name), made, given.sizes, given.seconds)))
            except RuntimeError as error:  # the stages after it are measured
                reason = str(error).strip().splitlines()[-1]
                lines.append(f"| {job} | {reason} |" + " |" * len(given.sizes))
            print(lines[-1], flush=True)
    sizes = [f"{count:,} images" for count in given.sizes]
    given.out.write_text("\n".join([
        "# Memory as images grow in number\n", "Written by `python -m benchmarks.memory`: the peak memory of "
        "each stage's job, and what an image more adds, between the two largest sizes that were run. Images "
        "have 3 x 32 x 32 numbers, latents 4 x 8 x 8, states of captions 8 x 64.\n",
        f"| {' | '.join(['stage', *sizes, 'for each image more'])} |\n" + "|---" * (len(sizes) + 2) + "|",
        *lines, ""]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
