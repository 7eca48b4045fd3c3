"""Stage: the figures of a table: distances beside the paper's, learning curves, classifiers, samples."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ambient.report.annotation_panels import classifiers
from ambient.report.distance_panels import distances
from ambient.report.drawing import STYLE, plt, save
from ambient.report.learning_curves import curves
from ambient.report.sample_grid import grid
from ambient.specs import RowSpec, TableSpec


def annotated(spec: TableSpec, *files: list[Path]) -> list[tuple]:
    """(row, its file of each of `files`) of the rows that a classifier annotated."""
    found: list[tuple[RowSpec, ...]] = list(zip(spec.rows, *files, strict=True))
    return [row for row in found if row[0].annotated]


def main(spec: TableSpec, record, *, table: Path, metrics: list[Path], samples: list[Path],
         losses: list[Path], mixtures: list[Path], reports: list[Path], annotations: list[Path],
         summaries: list[Path], out: Path, out_pdf: Path, out_curves: Path, out_curves_pdf: Path,
         out_classifiers: Path, out_classifiers_pdf: Path, out_grid: Path, out_grid_pdf: Path) -> None:
    """Draw everything that belongs to one table.

    Of each row: `metrics` (one a training seed), `samples` and `losses` of the first training seed, its
    `mixtures`, `annotations` and their `summaries`; of each annotated row `reports`, its classifiers'.
    """
    asked = annotated(spec, annotations, summaries)
    with plt.rc_context(STYLE):
        save(distances(spec, pd.read_csv(table)), out, out_pdf)
        save(curves(spec, metrics, losses), out_curves, out_curves_pdf)
        save(classifiers(spec, asked, reports), out_classifiers, out_classifiers_pdf)
        save(grid(spec, samples, mixtures, annotations), out_grid, out_grid_pdf)
