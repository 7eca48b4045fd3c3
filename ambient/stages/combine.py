"""Stage: several mixtures of one target dataset, each with its own annotation, as one.

Clean images are in all parts and appear once. Of a sample that is in several parts the usable levels
are joined: the least sigma_min and the largest sigma_max, which makes a donut.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.annotation.statistics import statistics
from ambient.data import texts
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, joined, read, write
from ambient.specs import CombineSpec
from ambient.storage.arrays import concatenated, selected
from ambient.storage.files import write_json

CHUNK = 1024  # samples compared at once


def combine(parts: list[tuple[Dataset, Annotations]], keep: bool = True) -> tuple[Dataset, Annotations]:
    """One mixture, with (`keep`) or without its images, and its annotations.

    Raises `ValueError` naming a sample that differs between parts.
    """
    ids = np.concatenate([data.ids for data, _ in parts])
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    first = np.r_[True, ids[1:] != ids[:-1]]
    start = np.flatnonzero(first)
    columns = {name: selected(concatenated([getattr(data, name) for data, _ in parts]), order)
               for name in ("images", "labels", "corrupted")
               if not any(getattr(data, name) is None for data, _ in parts)}
    again = np.flatnonzero(~first)  # rows of samples that a part before has, and there
    source = start[np.cumsum(first) - 1][again]
    for name, values in columns.items():
        for at in np.split(np.arange(len(again)), range(CHUNK, len(again), CHUNK)):
            differs = (values[again[at]] != values[source[at]]).reshape(len(at), -1).any(axis=1)
            if differs.any():
                raise ValueError(f"sample {ids[again[at]][differs][0]} has other {name} in another part: "
                                 "parts of one run must be mixtures of one dataset with equal clean "
                                 "fractions and seeds, and a sample may be corrupted in one way only")
    every = [name for data, _ in parts for name in data.file_names]
    names = joined(np.array(every, object)[order][start]) if len(every) == len(ids) else None
    captions = texts.joined([(data.captions, len(data.ids)) for data, _ in parts])
    captions = None if captions is None else captions.taken(order[start])
    rows = [annotations.of(data.ids) for data, annotations in parts]
    sigma_min = np.concatenate([r.sigma_min for r in rows])[order]
    sigma_max = np.concatenate([r.sigma_max for r in rows])[order]
    images = selected(columns["images"], start) if keep and "images" in columns else None
    return (Dataset(images, columns["labels"][start], ids[start],
                    columns["corrupted"][start], names, captions=captions),
            Annotations(ids[start], np.minimum.reduceat(sigma_min, start),
                        np.maximum.reduceat(sigma_max, start)))


def main(spec: CombineSpec, record, *, data: list[Path], annotations: list[Path], out: Path,
         out_annotations: Path, summary: Path) -> None:
    """`out` gets the mixture, `out_annotations` its annotations, `summary` their statistics."""
    if len(data) != len(annotations) or len(data) != len(spec.parts):
        raise ValueError(f"{len(data)} mixtures and {len(annotations)} annotations for "
                         f"{len(spec.parts)} parts")
    mixture, table = combine([(read(d), Annotations.read(a))
                              for d, a in zip(data, annotations, strict=True)], spec.images)
    write(out, mixture)
    table.write(out_annotations)
    write_json(summary, statistics(table.sigma_min, mixture.corrupted == 1, table.sigma_max))
