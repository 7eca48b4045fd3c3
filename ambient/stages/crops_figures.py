"""Stage: figures of one run's data: patch probabilities, the donut, extremes, and locality."""

from __future__ import annotations

from pathlib import Path

from ambient.report.crops_figures import KINDS
from ambient.report.drawing import STYLE, plt, save
from ambient.specs import FigureSpec


def main(spec: FigureSpec, record, *, data: Path | None, annotations: Path | None, patches: Path | None,
         locality_table: Path | None, out: Path, out_pdf: Path) -> None:
    """Draw what the specification's kind says, from the files that it needs."""
    files = filter(None, (data, annotations, patches, locality_table))
    with plt.rc_context(STYLE):
        save(KINDS[spec.kind](spec, *files), out, out_pdf)
