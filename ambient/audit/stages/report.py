"""Stage: one page with the tables of a scale beside the paper's values, what they say, and every figure.

The page is whole in itself: figures are in it, it loads nothing, and it can be sent as one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ambient.audit.chain import Audit
from ambient.report.page import page
from ambient.specs import ReportSpec
from ambient.storage.files import write_text


def main(spec: ReportSpec, record, *, tables: list[Path], pictures: list[Path], out: Path,
         landmarks: Sequence[Path] = (), photos: Sequence[Path] = (), classifiers: Sequence[Path] = (),
         compared: Sequence[Path] = ()) -> None:
    """`out` gets the page."""
    audit = Audit(tables[0])
    levels = [audit.artefact(path).level for path in tables]
    write_text(out, page(spec, tables, pictures, levels, landmarks, photos, classifiers, compared))
    record.facts |= {"tables": len(tables), "pictures": len(pictures)}
