"""`python -m benchmarks.gpu`: what a GPU reaches in training and sampling, and what may keep it from more.

In under 8 minutes: the networks of Table 2a, of EDM2-XS at 512 pixels and of MicroDiT-XL, each as it is and
compiled, against a matrix product of the same run; where time goes; how often the host waits; each suspect
by itself. A row that fails, or for which no time is left, says so, and the others go on. Writes
benchmarks/gpu.md, and gpu.json beside it, after each row. NAME: only these, in this order.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ambient.training.hardware import device
from benchmarks.suspects import SUSPECTS, Watched, compared, synchronisations
from benchmarks.timing import SIDE, ceiling, profiled, seconds, shares
from benchmarks.works import WORKS, Sampling, Size, Training, compiled

KINDS = {"training": Training, "sampling": Sampling}
ROW_SECONDS = 150  # a row takes no longer
COMPILE_SECONDS = 200  # before the first row
SIDE_BY_SIDE = 4  # networks that are compiled at a time: they share the GPU's memory
SYNCHRONISATIONS = "synchronisations"
NAMES = ("cifar10", SYNCHRONISATIONS, *SUSPECTS, *(name for name in WORKS if name != "cifar10"))
MOST, SHOWN = 30, 8  # operations of a profile, in gpu.json and on the page


class OutOfTimeError(Exception):
    """A row took longer than it may."""


@contextmanager
def limited(limit: float) -> Iterator[None]:
    """Raise `OutOfTimeError` in a block that takes longer than so many seconds."""
    def stop(*_: object) -> None:
        raise OutOfTimeError(f"more than {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def timed(name: str, kind: str, translate: bool, size: Size) -> dict:
    """What a network reaches, as it is or compiled, and where its time goes."""
    made = KINDS[kind](size, WORKS[name])
    if translate:
        compiled(made.network)
    way = Watched(made)
    way()
    taken = [seconds(way) for _ in range(size.repeats)]
    rate = made.images / statistics.median(taken)
    share = made.share if kind == "sampling" else 1
    row = {"images_per_s": rate * share, "tflops": rate * made.gflop / 1e3, "peak_gb": way.peak,
           "together": made.together, "parts": made.fit.parts if kind == "training" else 1}
    if translate:
        times = profiled(made)
        row["profile"] = shares(times, MOST)
        if device().type == "cuda":
            row["busy"] = times.total() / 1e6 / statistics.median(taken)
    return row


def counted(kind: str, size: Size) -> dict:
    """How often the host waits for the GPU in a call."""
    made = KINDS[kind](size, WORKS["cifar10"])
    compiled(made.network)
    found = synchronisations(made)
    calls = size.steps if kind == "training" else made.images // made.together
    return {"each": found.total() / calls, "places": dict(found.most_common(SHOWN))}


def suspected(name: str, size: Size) -> dict:
    """A suspect's two ways: images a second, how many times as fast the changed one is, memory."""
    pair, peaks = compared(SUSPECTS[name], size)
    ratios = pair.ratios
    return {"images_per_s": [pair.rate(way) for way in (pair.plain, pair.ours)], "peak_gb": peaks,
            "ratio": [statistics.median(ratios), min(ratios), max(ratios)]}


def compile_one(what: str, size: Size) -> None:
    """Compile and call a network's training or sampling (NAME.KIND), or both ways of a suspect."""
    name, _, kind = what.partition(".")
    if not kind:
        for way in SUSPECTS[name].ways(size):
            way()
        return
    made = KINDS[kind](size, WORKS[name])
    compiled(made.network)
    (made.step if kind == "training" else made)()


def compile_all(names: tuple[str, ...], options: list[str], limit: float) -> None:
    """Compile what is timed afterwards, side by side in processes of their own: torch's cache keeps it.

    Compiling takes one network a minute and more, and most of it one core. What fails, or is not done within
    `limit` seconds, is left to the row that times it.
    """
    waiting = [f"{name}.{kind}" for name in names if name in WORKS for kind in KINDS]
    waiting += [name for name in names if name in SUSPECTS]
    running: list[subprocess.Popen] = []
    end = time.monotonic() + limit
    while (waiting or running) and time.monotonic() < end:
        running = [one for one in running if one.poll() is None]
        while waiting and len(running) < SIDE_BY_SIDE:
            line = [sys.executable, "-m", "benchmarks.gpu", "--compile", waiting.pop(0), *options]
            running.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(0.2)
    for one in running:
        one.kill()
        one.wait()


def rows(names: tuple[str, ...], size: Size) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """What is to be measured, in order: (what it is, what measures it)."""
    for name in names:
        if name in WORKS:
            for kind in KINDS:
                for way in (False, True):
                    yield ({"part": "network", "name": name, "kind": kind, "compiled": way},
                           lambda name=name, kind=kind, way=way: timed(name, kind, way, size))
        elif name == SYNCHRONISATIONS:
            for kind in KINDS:
                yield {"part": name, "kind": kind}, lambda kind=kind: counted(kind, size)
        else:
            yield ({"part": "suspect", "name": name, "ours": SUSPECTS[name].ours,
                    "changed": SUSPECTS[name].changed}, lambda name=name: suspected(name, size))


def measured(measure: Callable[[], dict], limit: float) -> dict:
    """What is measured, or why it is not."""
    if limit <= 0:
        return {"error": "not reached: no time was left; name it to measure it alone"}
    try:
        with limited(limit):
            return measure()
    except Exception as error:  # whatever it is, the rows after it are measured
        first, *_ = str(error).strip().splitlines() or [""]
        return {"error": f"{type(error).__name__}: {first}"}
    finally:
        torch._dynamo.reset()
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()


def machine(command: str) -> dict:
    """What it is measured on."""
    gpu = device().type == "cuda"
    card = torch.cuda.get_device_name() if gpu else f"no GPU: {torch.backends.cpu.get_cpu_capability()}"
    return {"command": command, "date": datetime.date.today().isoformat(), "card": card,
            "torch": torch.__version__, "cuda": torch.version.cuda if gpu else None,
            "cudnn": torch.backends.cudnn.version() if gpu else None, "python": platform.python_version(),
            "ceiling_side": SIDE[device().type],
            "ceiling_tflops": {name: ceiling(getattr(torch, name)) / 1e3 for name in ("float32", "bfloat16")}}


def memory(*peaks: float) -> str:
    """The most memory that ways took, as a cell; empty where there is no GPU."""
    return " and ".join(f"{peak:.1f}" for peak in peaks) + " GB" if any(peaks) else ""


def network_line(row: dict, best: float) -> str:
    """A network's row of Markdown."""
    what = f"{WORKS[row['name']].name}, {row['kind']}, {'compiled' if row['compiled'] else 'not compiled'}"
    if "error" in row:
        return f"| {what} | {row['error']} | | | | | |"
    together = f"{row['together']:,}" + (f" in {row['parts']} parts" if row["parts"] > 1 else "")
    busy = f"{row['busy']:.0%}" if "busy" in row else ""
    return (f"| {what} | {together} | {row['images_per_s']:.4g} | {row['tflops']:.3g} "
            f"| {row['tflops'] / best:.0%} | {busy} | {memory(row['peak_gb'])} |")


def suspect_line(row: dict) -> str:
    """A suspect's row of Markdown."""
    if "error" in row:
        return f"| {row['name']} | {row['ours']} | {row['changed']} | {row['error']} | | | |"
    (ours, other), (middle, low, high) = row["images_per_s"], row["ratio"]
    return (f"| {row['name']} | {row['ours']} | {row['changed']} | {ours:.4g} | {other:.4g} "
            f"| {middle:.2f} ({low:.2f} to {high:.2f}) | {memory(*row['peak_gb'])} |")


def waits_line(row: dict) -> str:
    """How often the host waits, as an item of Markdown."""
    what = "a training step" if row["kind"] == "training" else "drawing samples together"
    if "error" in row:
        return f"- {what}: {row['error']}."
    places = "".join(f", {name} {count} times" for name, count in row["places"].items())
    return f"- {what}: {row['each']:g} times{places}."


def profile_line(row: dict) -> str:
    """Where a network's time goes, as an item of Markdown."""
    largest = list(row["profile"].items())[:SHOWN]
    operations = ", ".join(f"{name} {share:.0%}" for name, share in largest)
    return f"- {WORKS[row['name']].name}, {row['kind']}: {operations}."


def report(about: dict, found: list[dict], minutes: float) -> str:
    """The text of benchmarks/gpu.md."""
    best = about["ceiling_tflops"]
    parts = {part: [row for row in found if row["part"] == part]
             for part in ("network", SYNCHRONISATIONS, "suspect")}
    lines = ["# On a GPU\n", f"Written by `{about['command']}` on {about['date']} ({about['card']}, torch "
             f"{about['torch']}, CUDA {about['cuda']}, cuDNN {about['cudnn']}) in {minutes:.1f} minutes. The "
             f"ceiling is a product of {about['ceiling_side']:,} x {about['ceiling_side']:,} matrices: "
             f"{best['float32']:.3g} Tflop/s in float32, {best['bfloat16']:.3g} in bfloat16.\n"]
    if parts["network"]:
        lines += ["| network, work in bfloat16 | images together | images/s | Tflop/s "
                  "| share of the bf16 ceiling | GPU busy | memory |\n" + "|---" * 7 + "|",
                  *(network_line(row, best["bfloat16"]) for row in parts["network"]), ""]
    if parts["suspect"]:
        lines += ["## Suspects, one at a time\n", "The CIFAR-10 network with one block a level. A ratio "
                  "above 1 says that the change is quicker: median, smallest and largest of the repeats.\n",
                  "| suspect | as it is | changed | images/s | changed, images/s | ratio | memory |\n"
                  + "|---" * 7 + "|", *map(suspect_line, parts["suspect"]), ""]
    if parts[SYNCHRONISATIONS]:
        lines += ["## How often the host waits for the GPU\n", *map(waits_line, parts[SYNCHRONISATIONS]), ""]
    profiles = [row for row in parts["network"] if row["compiled"] and "profile" in row]
    if profiles:
        lines += ["## Where the time goes, compiled\n", *map(profile_line, profiles), ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write after each row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(NAMES)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="miniature sizes: shows that it works")
    parser.add_argument("--minutes", type=float, default=7.5, help="no row begins or goes on after so long")
    parser.add_argument("--compile", metavar="WHAT", help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu.md"))
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(NAMES)):
        parser.error(f"unknown name {unknown[0]!r} (known: {', '.join(NAMES)})")
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if device().type != given.device:
        parser.error(f"--device {given.device}: torch sees {device().type}; a dry run: --device cpu --quick")
    begun, found, size = time.monotonic(), [], Size(given.quick)
    if given.compile:
        compile_one(given.compile, size)
        return
    about = machine(" ".join(["python -m benchmarks.gpu", *given.names, *(["--quick"] * given.quick)]))
    names = tuple(given.names) or NAMES
    if given.device == "cuda":
        compile_all(names, ["--quick"] * given.quick, COMPILE_SECONDS)
    for what, measure in rows(names, size):
        left = given.minutes * 60 - (time.monotonic() - begun)
        found.append(what | measured(measure, min(left, ROW_SECONDS)))
        print(json.dumps(found[-1]), flush=True)
        minutes = (time.monotonic() - begun) / 60
        given.out.write_text(report(about, found, minutes))
        given.out.with_suffix(".json").write_text(
            json.dumps(about | {"minutes": minutes, "rows": found}, indent=1) + "\n")
    print(given.out.read_text())


if __name__ == "__main__":
    main()
