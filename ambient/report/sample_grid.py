"""Samples of a table's runs beside what they were trained on: real, corrupted and nearest training images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, to_float
from ambient.report.captions import distinct, label_of
from ambient.report.drawing import plt, strips
from ambient.specs import RowSpec, TableSpec
from ambient.specs.report import SEARCHED
from ambient.storage.arrays import Array, latest, part, selected, some

CHUNK, NUMBERS = 4096, 2**26  # training images compared at once, and their pixels


def usable(data: Dataset, annotations: Path) -> np.ndarray:
    """The rows of a mixture that its run trained on at some noise level."""
    found = Annotations.read(annotations).of(data.ids)
    return np.flatnonzero(np.isfinite(found.sigma_min) | (found.sigma_max > 0))


def nearest(samples: np.ndarray, training: Array) -> np.ndarray:
    """For each uint8 sample (N, C, H, W) the row of the training image of least squared pixel distance, (N,).

    |a - b|^2 = |a|^2 - 2 a.b + |b|^2, of which |a|^2 is the same for all rows.
    """
    a = to_float(samples).reshape(len(samples), -1).astype(np.float64)
    least, found = np.full(len(a), np.inf), np.zeros(len(a), np.int64)
    step = max(min(CHUNK, NUMBERS // a.shape[1]), 1)
    for first in range(0, len(training), step):
        b = to_float(training[first:first + step]).reshape(-1, a.shape[1]).astype(np.float64)
        distance = (b**2).sum(axis=1) - 2 * a @ b.T
        k = distance.argmin(axis=1)
        closer = distance[np.arange(len(a)), k] < least
        least = np.where(closer, distance[np.arange(len(a)), k], least)
        found = np.where(closer, first + k, found)
    return found


def real(row: RowSpec, data: Dataset, count: int) -> list[tuple[str, np.ndarray]]:
    """Clean images of a run's mixture, evenly spaced, and corrupted ones where it has any.

    The first ones would often be of one class.
    """
    clean = selected(data.images, data.corrupted == 0)
    lines = [(f"real images, clean: {min(count, len(clean))} of {len(clean):,}", some(clean, count)[:])]
    if row.corruption_label and data.corrupted.any():
        other = selected(data.images, data.corrupted == 1)
        what = {"add": f"other ({row.corruption_label})", "rank": f"not among {row.corruption_label}"}.get(
            row.corruption, f"corrupted ({row.corruption_label})")
        what += f" and of {row.parts - 1} more parts" if row.parts > 1 else ""
        lines.append((f"real images, {what}: {min(count, len(other))} of {len(other):,}",
                      some(other, count)[:]))
    return lines


def pictures(row: RowSpec, data: Dataset, beside: Iterator[Path]) -> Dataset:
    """What a run learns from, with images, which may lie in other datasets: the next ones, one for each part.

    Not all of these may be read, but none of them is left for the next row.
    """
    if data.images is not None:
        return data
    own = list(itertools.islice(beside, row.parts))
    if row.encoded:
        there = read(own[0])
        return data.taken(np.isin(data.ids, there.ids)).shown([there])
    return data.shown(map(read, own))


def grid(spec: TableSpec, samples: Sequence[Path], mixtures: Sequence[Path], annotations: Sequence[Path],
         images: Sequence[Path] = (), columns: int = 12) -> plt.Figure:
    """Real images, then for each run its first samples and the training image nearest to each of them.

    `images`: what has the images of those mixtures that have none, in the order of the rows, a file for each
    part of a row's data. Images that are there as latents alone are not shown: no weights are read here that
    could decode them.
    """
    references: dict[str, np.ndarray] = {}
    lines, beside = [], iter(images)
    for row, path, mixture, table in zip(spec.rows, samples, mixtures, annotations, strict=True):
        data = pictures(row, read(mixture), beside)
        for name, shown in real(row, data, columns):
            references.setdefault(f"{row.target or row.dataset}, {name}" if several(spec) else name, shown)
        drawn = part(latest(path), 0)[:columns]
        trained = selected(data.images, usable(data, table))
        lines.append((f"samples: {label_of(row, spec.rows)}", drawn))
        which = "training images" + " that are there as pixels" * row.encoded
        searched = some(trained, max(SEARCHED // math.prod(trained.shape[1:]), 1))
        of = f"its {len(trained):,}" if len(searched) == len(trained) else (
            f"{len(searched):,} of its {len(trained):,}")
        lines.append((f"    nearest of {of} {which}, by pixel distance", searched[nearest(drawn, searched)]))
    return strips([*references.items(), *lines], columns, f"Samples. {spec.title or spec.name}",
                  "The first samples of the last snapshot, none left out: first training seed, first "
                  "sampling seed, the same latents for all methods.")


def several(spec: TableSpec) -> bool:
    """Whether a table's rows have several targets."""
    return len(distinct(row.dataset for row in spec.rows)) > 1
