"""`python -m benchmarks.ranks`: what a rank reads and draws of a batch, counted, as ranks grow in number.

Writes benchmarks/ranks.md. A rank's part of EDM2's batch of 2,048 is made as a training makes it, without the
network. Counts are of this code and not of a machine: they are the same everywhere.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from ambient.diffusion.blocks import Blocks
from ambient.jobs import ranks
from ambient.settings import Experiments
from ambient.training.points import Points
from benchmarks import training

BATCH = 2048
RANKS = (1, 2, 4, 8)


@contextmanager
def counting(found: Counter) -> Iterator[None]:
    """Count random numbers that are drawn, and images and bytes that are read."""
    draw, visited = Blocks.draw, Points.visited

    def drawn(self: Blocks, one: Callable[..., Tensor]) -> Tensor:
        def numbers(*given: int, **options: torch.Generator) -> Tensor:
            made = one(*given, **options)
            found["numbers"] += made.numel()
            return made

        return draw(self, numbers)

    def read(self: Points, index: Tensor, *rest: object) -> Tensor:
        found["images"] += len(index)
        return visited(self, index, *rest)

    with mock.patch.object(Blocks, "draw", drawn), mock.patch.object(Points, "visited", read):
        yield


def of_each_rank(size: int) -> list[Counter]:
    """What each of `size` ranks reads and draws of one batch."""
    spec = Experiments("config", "small").training("ambient-blur-0.8", 0)
    optimiser = replace(spec.optimiser, batch=BATCH, nimg=BATCH, ramp_nimg=0)
    spec = replace(spec, optimiser=optimiser, snapshots=(BATCH,))
    made, found = training.batches(spec, 32, 3), []
    made.denoiser = mock.Mock(side_effect=lambda x, *_: x, log_variance=lambda sigma: None)
    for rank in range(size):
        found.append(Counter())
        one = mock.patch.multiple(ranks, size=lambda: size, rank=lambda rank=rank: rank)
        with one, counting(found[-1]):
            made.loss(0)
    return found


def main() -> None:
    """Count for each number of ranks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/ranks.md"))
    given = parser.parse_args()
    lines, whole = [], None
    for size in RANKS:
        found = of_each_rank(size)
        most = {name: max(count[name] for count in found) for name in ("images", "numbers")}
        whole = whole or most
        shares = " | ".join(f"{most[name]:,} | {most[name] / whole[name]:.3f}" for name in most)
        lines.append(f"| {size} | {shares} | {1 / size:.3f} |")
        print(lines[-1], flush=True)
    given.out.write_text("\n".join([
        "# What a rank reads and draws\n",
        f"Written by `python -m benchmarks.ranks`: the most of any rank, of {BATCH:,} images of 32x32x3.\n",
        "| ranks | images read | of one rank's | random numbers drawn | of one rank's | 1 / ranks |",
        "|---|---|---|---|---|---|", *lines, ""]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
