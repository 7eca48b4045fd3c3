"""Stage: the distances of runs at every point of a grid of widths and guidance, as CSV.

A point is a run that shares a training, so that a sweep is a table whose rows are points, and is made as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ambient.report.tables import rebuild
from ambient.specs import TableSpec
from ambient.specs.strict import plain
from ambient.storage.files import write_text


def main(spec: TableSpec, record, *, metrics: list[Path], annotations: list[Path], out: Path,
         beside: Sequence[Path] = ()) -> None:
    """`out` gets a row for each point of each run."""
    write_text(out, rebuild(plain(spec), {"metrics": metrics, "annotations": annotations, "beside": beside}))
    record.facts |= {"points": len(spec.rows)}
