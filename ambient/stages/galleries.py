"""Stage: figures of corruptions and noise: galleries, a noised batch, sigma_min beside images.

Reads the full clean dataset, for display only: nothing that it makes is read by another stage.
"""

from __future__ import annotations

from pathlib import Path

from ambient.report import figures
from ambient.report.drawing import STYLE, plt, save
from ambient.specs import FigureSpec


def main(spec: FigureSpec, record, *, data: Path, reports: list[Path], annotations: list[Path], out: Path,
         out_pdf: Path) -> None:
    """Draw; `reports` are calibrations (crossing), or summaries of the `annotations` (levels)."""
    files = {"data": data, "reports": reports, "annotations": annotations}
    with plt.rc_context(STYLE):
        given = {role: paths for role, paths in files.items() if paths}
        save(figures.KINDS[spec.kind].draw(spec, **given), out, out_pdf)
