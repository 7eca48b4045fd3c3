"""Stage: a table of the paper as tidy CSV, from raw scores and annotation summaries.

The table is a function of its specification and of the files it names, so the audit can build it
again and compare it cell by cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ambient.report.tables import rebuild
from ambient.specs import TableSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_text


def main(spec: TableSpec, record, *, metrics: list[Path], annotations: list[Path], out: Path,
         usable: Sequence[Path] = (), beside: Sequence[Path] = (), scored: Sequence[Path] = (),
         sweeps: Sequence[Path] = ()) -> None:
    """`out` gets the table."""
    write_text(out, rebuild(plain(spec), {"metrics": metrics, "annotations": annotations, "usable": usable,
                                          "beside": beside, "scored": scored, "sweeps": sweeps}))
