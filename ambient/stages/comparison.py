"""Stage: a table with rows from outside below its own, and their figure."""

from __future__ import annotations

from pathlib import Path

from ambient.report.comparison import panel, rebuild
from ambient.report.drawing import STYLE, plt, save
from ambient.specs import ComparisonSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_text


def main(spec: ComparisonSpec, record, *, table: Path, outside: list[Path], table_out: Path, out: Path,
         out_pdf: Path) -> None:
    """`table_out` gets the table, `out` and `out_pdf` the figure."""
    text = rebuild(plain(spec), {"table": [table], "outside": outside})
    write_text(table_out, text)
    with plt.rc_context(STYLE):
        save(panel(spec, text), out, out_pdf)
