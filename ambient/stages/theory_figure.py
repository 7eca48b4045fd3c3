"""Stage: the figure of the one-dimensional theory."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ambient.report.drawing import STYLE, plt, save
from ambient.report.theory_panels import panels
from ambient.specs import TheorySpec


def main(spec: TheorySpec, record, *, table: Path, crossings: Path, contraction_table: Path,
         out: Path, out_pdf: Path) -> None:
    """A panel for each pair, and one for Theorem 4.2."""
    tables = map(pd.read_csv, (table, crossings, contraction_table))
    with plt.rc_context(STYLE):
        save(panels(spec, *tables), out, out_pdf)
