"""Stage: every number of a scale's tables beside the paper's, with the provenance level of its table."""

from __future__ import annotations

from ambient import stage
from ambient.spec import SummarySpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, SummarySpec, inputs=("tables",), outputs=("out",), many=("tables",))

import csv
import io
from pathlib import Path

from ambient import numbers
from ambient.audit.chain import Audit
from ambient.files import atomic
from ambient.strict import plain


def main(spec: SummarySpec, record, *, tables: list[Path], out: Path) -> None:
    """`out` gets the summary; `tables` are the scale's, in the specification's order."""
    audit = Audit(tables[0])
    text = numbers.rebuild(plain(spec), tables, [audit.artefact(path).level for path in tables])
    with atomic(out) as temporary:
        temporary.write_text(text)
    record.facts |= {"numbers": len(list(csv.reader(io.StringIO(text)))) - 1}


if __name__ == "__main__":
    job.run(main)
