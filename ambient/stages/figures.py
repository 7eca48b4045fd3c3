"""Stage: the figures of a table: distances beside the paper's, learning curves, classifiers, samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ambient.report.drawing import STYLE, plt, save
from ambient.report.table_figures import drawn
from ambient.specs import TableSpec


def main(spec: TableSpec, record, *, table: Path, metrics: list[Path], samples: list[Path],
         losses: list[Path], mixtures: list[Path], reports: list[Path], annotations: list[Path],
         summaries: list[Path], out: Path, out_pdf: Path, out_curves: Path, out_curves_pdf: Path,
         out_classifiers: Path, out_classifiers_pdf: Path, out_grid: Path, out_grid_pdf: Path,
         images: Sequence[Path] = (), first_parts: Sequence[Path] = ()) -> None:
    """Draw everything that belongs to one table (`ambient.report.table_figures` says what each input is)."""
    places = {"out": (out, out_pdf), "out_curves": (out_curves, out_curves_pdf),
              "out_classifiers": (out_classifiers, out_classifiers_pdf), "out_grid": (out_grid, out_grid_pdf)}
    with plt.rc_context(STYLE):
        for role, figure in drawn(spec, table=table, metrics=metrics, samples=samples, losses=losses,
                                  mixtures=mixtures, images=images, reports=reports, annotations=annotations,
                                  summaries=summaries, first_parts=first_parts):
            save(figure, *places[role])
