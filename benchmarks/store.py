"""`python -m benchmarks.store`: what a training draws of 10,000 latents and of ImageNet's 1,281,167.

Writes benchmarks/store.md. The files are sparse, so that they take no disk space. One latent in ten, of
64x64x4 numbers, counts as good. Memory is the peak of a process that draws batches and computes no network.
Time is that of a batch's draws on one core, beside one training step of EDM2-XS for as many images there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import struct
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion import randomness
from ambient.provenance.manifest import peak_memory
from ambient.settings import Experiments
from ambient.specs import TrainingSpec
from ambient.storage.arrays import NAMES
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_denoiser
from ambient.training.loop import Fit
from ambient.training.points import Points

SIZES = (10_000, 1_281_167)
LATENT, CLASSES = (4, 64, 64), 1000
ROWS, BATCHES = 16, 40  # of a rank; batches drawn


def sparse(path: Path, shapes: Mapping[str, tuple[tuple[int, ...], type]],
           known: Mapping[str, np.ndarray]) -> None:
    """A safetensors file whose large arrays are zeros without a place on the disk."""
    layout, end = {}, 0
    whole = dict(shapes) | {name: (array.shape, array.dtype) for name, array in known.items()}
    for name in sorted(whole, key=lambda name: (-np.dtype(whole[name][1]).itemsize, name)):
        shape, dtype = whole[name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        layout[name] = {"dtype": NAMES[np.dtype(dtype)], "shape": list(shape),
                        "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(layout).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        file.truncate(8 + len(head) + end)
        for name, array in known.items():
            file.seek(8 + len(head) + layout[name]["data_offsets"][0])
            file.write(np.ascontiguousarray(array).tobytes())


def files(count: int, folder: Path) -> tuple[Path, Path, Path]:
    """A mixture whose images nobody reads, its latents, and annotations."""
    ids = np.arange(count)
    bad = (ids % 10 > 0).astype(np.uint8)
    paths = folder / "mixture.safetensors", folder / "latents.safetensors", folder / "a.safetensors"
    sparse(paths[0], {"images": ((count, 3, 128, 128), np.uint8)},
           {"labels": ids % CLASSES, "ids": ids, "corrupted": bad})
    large = {name: ((count, *LATENT), np.float32) for name in ("mean", "std")}
    sparse(paths[1], large, {"ids": ids, "shift": np.zeros(4, np.float32), "scale": np.ones(4, np.float32)})
    Annotations(ids, 0.2 * bad, np.zeros(count)).write(paths[2])
    return paths


def specification() -> TrainingSpec:
    """EDM2-XS by the rule of quality, for batches of so many images as one rank has."""
    spec = Experiments("config", "paper").training("quality-xs", 0)
    nimg = ROWS * BATCHES * 2
    return replace(spec, snapshots=(nimg,), optimiser=replace(
        spec.optimiser, nimg=nimg, batch=ROWS, ramp_nimg=0, decay_nimg=nimg))


def drawn(count: int, report) -> None:
    """Draws batches; sends (the process's peak in GiB, seconds a batch)."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        mixture, latents, annotations = files(count, Path(name))
        data, spec = read(mixture), specification()
        batches = AmbientBatches(spec, data, Points(data, [latents]), Annotations.read(annotations), None,
                                 torch.device("cpu"))
        begun = time.perf_counter()
        for number in range(BATCHES):
            batches.read((number * ROWS, 0, ROWS))
        seconds = (time.perf_counter() - begun) / BATCHES
    report.put((peak_memory() / 2**30, seconds))


def step(images: int) -> float:
    """Seconds of a training step of EDM2-XS on one core, the second of two."""
    torch.set_num_threads(1)
    spec = specification()
    spec = replace(spec, optimiser=replace(spec.optimiser, batch=images))
    with tempfile.TemporaryDirectory() as name:
        mixture, latents, annotations = files(100, Path(name))
        data = read(mixture)
        channels, side, _ = LATENT
        denoiser = build_denoiser(spec, side, channels, CLASSES, randomness.torch_generator("cpu", "init", 0))
        batches = AmbientBatches(spec, data, Points(data, [latents]), Annotations.read(annotations), denoiser,
                                 torch.device("cpu"))
        batches.classes = CLASSES
        fit, seconds = Fit(denoiser, spec.optimiser), []
        for number in range(2):
            begun = time.perf_counter()
            fit.step(batches.loss, number * images)
            seconds.append(time.perf_counter() - begun)
    return seconds[-1]


def of_process(work, *arguments: int) -> tuple[float, float]:
    """What a process of its own sends."""
    context = multiprocessing.get_context("spawn")
    report = context.SimpleQueue()
    process = context.Process(target=work, args=(*arguments, report))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__}{arguments} ended with status {process.exitcode}")
    return report.get()


def main() -> None:
    """Both sizes, then the step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--images", type=int, default=1, help="images of the training step that is timed")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/store.md"))
    given = parser.parse_args()
    found = {count: of_process(drawn, count) for count in SIZES}
    whole = step(given.images) / given.images * ROWS
    size = 2 * 4 * np.prod(LATENT) / 1e9  # GB of one
    lines = [f"| {count:,} | {count * size:,.1f} GB | {peak:.2f} GiB | {seconds * 1e3:.1f} ms "
             f"| {seconds / whole:.2%} |" for count, (peak, seconds) in found.items()]
    (few, _), (many, _) = found.values()
    given.out.write_text("\n".join([
        "# A training's draws as data grow\n",
        f"Written by `python -m benchmarks.store --images {given.images}` "
        f"({torch.backends.cpu.get_cpu_capability()}, one thread). EDM2-XS, latents of 64x64x4 numbers, "
        f"{ROWS} images a batch. A step of the network takes {whole:.1f} s for as many on this core "
        f"(measured with {given.images}).\n",
        "| latents | their file | peak memory | draws of a batch | of a step |\n|---|---|---|---|---|",
        *lines, "", f"{many - few:.2f} GiB of memory more for {SIZES[1] / SIZES[0]:.0f} times the data: "
        "labels, ids, annotations, and the order in which they admit images.", ""]))
    print(given.out.read_text())


if __name__ == "__main__":
    main()
