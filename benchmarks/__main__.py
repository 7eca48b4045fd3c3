"""`python -m benchmarks`: measure, print, and write benchmarks/README.md."""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from ambient.training.hardware import device
from benchmarks import convolutions, evaluation, sampling, training
from benchmarks.timing import SIDE, Pair, ceiling


def here(on_cpu: int, on_gpu: int) -> int:
    """A number by the device that is measured."""
    return on_gpu if device().type == "cuda" else on_cpu


# By name, of (repeats, images in a batch of CIFAR-10's network in training; None: as many as below).
COMPARISONS: dict[str, Callable[[int, int | None], Pair]] = {
    "train-demo": lambda repeats, batch: training.step("demo", "ambient-blur-0.6", None, 10, repeats),
    "train-small": lambda repeats, batch: training.step("small", "ambient-blur-0.8", None, 5, repeats),
    "train-cifar10": lambda repeats, batch: training.step(
        "paper", "ambient-blur-0.8", batch or here(32, 128), 1, repeats),
    "train-cifar10-float32": lambda repeats, batch: training.step(
        "paper", "ambient-blur-0.8", batch or here(32, 128), 1, repeats, "float32"),
    "train-64": lambda repeats, batch: training.step("paper", "faces-blur-0.8", here(8, 64), 1, repeats),
    "sample-demo": lambda repeats, batch: sampling.samples("demo", "ambient-blur-0.6", 250, repeats),
    "sample-small": lambda repeats, batch: sampling.samples("small", "ambient-blur-0.8", 125, repeats),
    "sample-cifar10": lambda repeats, batch: sampling.samples(
        "paper", "ambient-blur-0.8", here(16, 250), repeats),
    "route": lambda repeats, batch: evaluation.route(2000, repeats),
    "distance": lambda repeats, batch: evaluation.distance(2048, repeats),
}
HEAD = ("| work | plain | by autocast | ours | to plain (smallest to largest) | to autocast "
        "| to plain, were there convolutions alone | ours, share of the bf16 ceiling |\n" + "|---" * 8 + "|")


def spread(ratios: list[float]) -> str:
    """Median, smallest and largest of ratios, as a cell; empty where there are none."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""


def line(pair: Pair, ceilings: dict[str, float]) -> str:
    """A comparison as a row of Markdown."""
    share = f"{pair.gflop * pair.rate(pair.ours) / ceilings['bfloat16']:.0%}" if pair.gflop else ""
    most = f"{statistics.median(pair.plain) / pair.floor:.2f}" if pair.floor else ""
    rates = [f"{pair.rate(way):.3g} {pair.unit}/s" if way else ""
             for way in (pair.plain, pair.autocast, pair.ours)]
    cells = [pair.name, *rates, spread(pair.ratios), spread(pair.autocast_ratios), most, share]
    return f"| {' | '.join(cells)} |"


def where(pair: Pair) -> str:
    """What ours spends its time on, as an item of Markdown."""
    return f"- {pair.name}: " + ", ".join(f"{name} {share:.0%}" for name, share in pair.shares.items()) + "."


def report(pairs: list[Pair], ceilings: dict[str, float], command: str, repeats: int) -> str:
    """The text of benchmarks/README.md."""
    processor = torch.backends.cpu.get_cpu_capability()
    if device().type == "cuda":
        processor = torch.cuda.get_device_name()
    machine = (f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
               f"Python {platform.python_version()}")
    side = SIDE[device().type]
    convolved = {kind: max(convolutions.ceiling(kind, layout) for layout in convolutions.LAYOUTS)
                 for kind in (torch.float32, torch.bfloat16)}
    return "\n".join([
        "# Benchmarks\n", f"Written by `{command}` ({machine}).",
        f"The ways alternate in one run; a ratio is the median over {repeats} repeats of another / ours.",
        "Plain is float32. By autocast is the plain network under torch's own bfloat16 autocast.",
        f"The ceiling is a {side} x {side} matrix product: {ceilings['float32']:.0f} GFLOP/s in float32, "
        f"{ceilings['bfloat16']:.0f} in bfloat16. A large convolution reaches {convolved[torch.float32]:.0f} "
        f"and {convolved[torch.bfloat16]:.0f}.\n", HEAD, *(line(pair, ceilings) for pair in pairs),
        "\nConvolutions alone: those of the same work in bfloat16, each in the quicker of two memory "
        "layouts, and nothing before, between or after them.",
        "\n## Where the time of ours goes\n", "By operation, without what it calls; the eight largest.\n",
        *(where(pair) for pair in pairs if pair.shares), ""])


def main() -> None:
    """Run the comparisons asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(COMPARISONS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, help="images, in the comparisons of train-cifar10")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/README.md"))
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(COMPARISONS))
    if unknown:
        parser.error(f"unknown comparison {unknown[0]!r} (known: {', '.join(COMPARISONS)})")
    torch.set_num_threads(given.threads)
    ceilings = {str(kind).removeprefix("torch."): ceiling(kind)
                for kind in (torch.float32, torch.bfloat16)}
    pairs = []
    for name in given.names or COMPARISONS:
        pairs.append(COMPARISONS[name](given.repeats, given.batch))
        print(line(pairs[-1], ceilings), flush=True)
    command = " ".join(["python -m benchmarks", *given.names, f"--repeats {given.repeats}",
                        f"--threads {given.threads}", *([f"--batch {given.batch}"] if given.batch else [])])
    given.out.write_text(report(pairs, ceilings, command, given.repeats))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
