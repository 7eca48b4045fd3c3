"""`python -m benchmarks.growth`: time an image at 5,000 and at 50,000 images.

Writes benchmarks/growth.md. Linear work has a ratio of 1; what the ratio exceeds it by is what growth costs.
Memory is measured by `benchmarks.memory`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ambient.data.datasets import Dataset, write
from ambient.evaluation.frechet import moments
from ambient.jobs.identity import Identity
from ambient.jobs.stage import Record
from ambient.jobs.state import State
from ambient.settings import Experiments
from ambient.stages import annotate, corrupt
from benchmarks import training
from benchmarks.timing import paired

SIZES = (5_000, 50_000)
STEPS = 20


def dataset(count: int) -> Dataset:
    """Random images: what they show does not matter to the time."""
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), np.uint8)
    return Dataset(images, np.arange(count) % 10, np.arange(count))


def corruption(count: int) -> Callable[[], object]:
    """Blur of all but a tenth, as a mixture."""
    made = Experiments("config", "small").mixture("controlled", "blur-0.6", 0.1)
    data = dataset(count)
    return lambda: corrupt.mix(made, data)


def mixture(count: int, path: Path) -> Dataset:
    """Images of which nine in ten count as corrupted, written."""
    made = replace(dataset(count), corrupted=(np.arange(count) % 10 > 0).astype(np.uint8))
    write(path, made)
    return made


def fixed_annotation(count: int) -> Callable[[], object]:
    """What annotation does beside asking the classifier: reading, choosing, writing."""
    spec = Experiments("config", "small").annotation("controlled", "all")

    def work() -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            mixture(count, folder / "m.safetensors")
            annotate.main(spec, Record(), data=folder / "m.safetensors", classifier=None,
                          state=State(folder / "s", Identity("benchmark", {})),
                          out=folder / "a.safetensors", summary=folder / "a.json")
    return work


def drawing(count: int) -> Callable[[], object]:
    """Batches of training: levels, eligible samples, noises, augmentation; not the network."""
    spec = Experiments("config", "small").training("ambient-blur-0.8", 0)
    made = training.batches(spec, 32, 3, count)
    made.denoiser = lambda x, *_: x.requires_grad_()
    return lambda: [made.loss(nimg * spec.optimiser.batch) for nimg in range(STEPS)]


def scoring(count: int) -> Callable[[], object]:
    """Moments of 2,048 features."""
    features = np.random.default_rng(0).standard_normal((count, 2048), np.float32)
    return lambda: moments(features)


WORK = {"corruption": (corruption, "image"),
        "annotation but for the classifier": (fixed_annotation, "image"),
        f"drawing {STEPS} training batches": (drawing, "batch"),
        "moments, 2,048 features": (scoring, "image")}


def main() -> None:
    """Each size alternating with the other, median of the repeats."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/growth.md"))
    given = parser.parse_args()
    lines = []
    for name, (make, unit) in WORK.items():
        works = [make(count) for count in SIZES]
        pair = paired(name, unit, 1, *works, given.repeats)
        share = [np.median(times) / (size if unit == "image" else STEPS)
                 for times, size in zip((pair.plain, pair.ours), SIZES, strict=True)]
        lines.append(f"| {name} | {share[0] * 1e3:.3g} | {share[1] * 1e3:.3g} | {share[1] / share[0]:.2f} |")
        print(lines[-1], flush=True)
    given.out.write_text("\n".join([
        "# Cost as work grows\n", f"Written by `python -m benchmarks.growth --repeats {given.repeats}` "
        f"({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads).\n",
        "| work | ms an image (or batch) of 5,000 | of 50,000 | ratio |\n|---|---|---|---|", *lines, ""]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
