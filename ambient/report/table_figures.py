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
          images: Sequence[Path] = (), first_parts: Sequence[Path] = ()) -> Iterator[tuple[str, plt.Figure]]:
    """(role of its PNG in the stage `figures`, figure) of all that belongs to a table.

    Of each row: `metrics` (one a training seed), `samples` and `losses` of the first training seed, its
    `mixtures`, `annotations` and the `summaries` of its first part; of each annotated row `reports`, its
    classifiers', and of each with several parts `first_parts`, the annotations of the first one; of each
    whose mixture has no images `images`, what has those of each part of it.
    """
    yield "out", distances(spec, pd.read_csv(table))
    yield "out_curves", curves(spec, metrics, losses)
    yield "out_classifiers", classifiers(spec, annotated(spec, annotations, summaries, first_parts), reports)
    yield "out_grid", grid(spec, samples, mixtures, annotations, images)


def annotated(spec: TableSpec, annotations: Sequence[Path], summaries: Sequence[Path],
              first_parts: Sequence[Path]) -> list[tuple[RowSpec, Path, Path]]:
    """(row, annotations, summary) of the first part of each row that a classifier annotated."""
    firsts = iter(first_parts)
    return [(row, next(firsts) if row.parts > 1 else table, summary)
            for row, table, summary in zip(spec.rows, annotations, summaries, strict=True) if row.annotated]
