"""Stage: every number of a scale's tables beside the paper's, with the provenance level of its table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ambient.audit.chain import Audit
from ambient.audit.noted import Noted
from ambient.report import published
from ambient.specs import SummarySpec
from ambient.specs.strict import plain
from ambient.storage.files import atomic


def main(spec: SummarySpec, record, *, tables: list[Path], out: Path, logs: Sequence[Path] = (),
         reports: Sequence[Path] = (), noted: bool = False) -> None:
    """`out` gets the summary; `tables` are the scale's, in the specification's order.

    `logs` and `reports` are what numbers of the running text are read from
    (`ambient.report.published.files_of`). `noted`: digests may be those that the workflow noted.
    """
    notes = Noted() if noted else None
    audit = Audit(tables[0], noted=notes)
    levels = [audit.artefact(path).level for path in tables]
    of_run = {row.run: level for table, level in zip(spec.tables, levels, strict=True) for row in table.rows}
    below = [[audit.artefact(path).level for path in files] or [of_run[run] for run in one.runs]
             for one, files in zip(spec.texts, published.files_of(spec, logs, reports), strict=True)]
    text = published.rebuild(plain(spec), tables, levels, logs, reports, list(map(min, below)))
    with atomic(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    record.facts |= {"numbers": len(list(csv.reader(io.StringIO(text)))) - 1}
    if notes:
        notes.report("summary", record)
