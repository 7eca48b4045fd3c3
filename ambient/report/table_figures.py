"""The figures of a table: distances beside the paper's, learning curves, classifiers, samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ambient.report.annotation_panels import classifiers
from ambient.report.distance_panels import distances
from ambient.report.drawing import plt
from ambient.report.learning_curves import curves
from ambient.report.sample_grid import grid
from ambient.specs import RowSpec, TableSpec


def drawn(spec: TableSpec, *, table: Path, metrics: Sequence[Path], samples: Sequence[Path],
          losses: Sequence[Path], mixtures: Sequence[Path],
          reports: Sequence[Path], annotations: Sequence[Path], summaries: Sequence[Path],
          images: Sequence[Path] = ()) -> Iterator[tuple[str, plt.Figure]]:
    """(role of its PNG in the stage `figures`, figure) of all that belongs to a table.

    Of each row: `metrics` (one a training seed), `samples` and `losses` of the first training seed, its
    `mixtures`, `annotations` and their `summaries`; of each annotated row `reports`, its classifiers'; of
    each whose mixture has no images `images`, what has those of each part of it.
    """
    yield "out", distances(spec, pd.read_csv(table))
    yield "out_curves", curves(spec, metrics, losses)
    yield "out_classifiers", classifiers(spec, annotated(spec, annotations, summaries), reports)
    yield "out_grid", grid(spec, samples, mixtures, annotations, images)


def annotated(spec: TableSpec, *files: Sequence[Path]) -> list[tuple]:
    """(row, its file of each of `files`) of the rows that a classifier annotated."""
    rows: list[tuple[RowSpec, ...]] = list(zip(spec.rows, *files, strict=True))
    return [row for row in rows if row[0].annotated]
