"""Stage: figures of a run's data, of locality, scores, tables, samples, and judges' verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ambient.report import figures
from ambient.report.drawing import STYLE, plt, save
from ambient.specs import FigureSpec


def main(spec: FigureSpec, record, *, data: Path | None, added: Path | None, annotations: Path | None,
         patches: Path | None, locality_table: Path | None, out: Path,
         out_pdf: Path, images: Path | None = None, scores: Path | None = None,
         table: Path | None = None, samples: Sequence[Path] = (), scored: Sequence[Path] = (),
         judged: Sequence[Path] = (), sources: Sequence[Path] = (), summaries: Sequence[Path] = ()) -> None:
    """Draw what the specification's kind says, from the files that it needs."""
    files = {"data": data, "images": images, "added": added, "annotations": annotations, "patches": patches,
             "locality_table": locality_table, "scores": scores, "table": table,
             "samples": samples, "scored": scored, "judged": judged, "sources": sources,
             "summaries": summaries}
    with plt.rc_context(STYLE):
        given = {role: path for role, path in files.items() if path}
        save(figures.KINDS[spec.kind].draw(spec, **given), out, out_pdf)
