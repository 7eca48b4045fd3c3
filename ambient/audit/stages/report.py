"""Stage: one page with the tables of a scale beside the paper's values, what they say, and every figure.

The page is whole in itself: figures are in it, it loads nothing, and it can be sent as one file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ambient.audit import why
from ambient.audit.chain import Audit
from ambient.audit.noted import Noted
from ambient.audit.words import level_word
from ambient.report.page import Chains, page
from ambient.specs import ReportSpec
from ambient.storage.files import write_text


def main(spec: ReportSpec, record, *, tables: list[Path], pictures: list[Path], out: Path,
         landmarks: Sequence[Path] = (), photos: Sequence[Path] = (), classifiers: Sequence[Path] = (),
         compared: Sequence[Path] = (), noted: bool = False) -> None:
    """`out` gets the page. `noted`: digests may be those that the workflow noted."""
    notes = Noted() if noted else None
    audit = Audit(tables[0], draws=False, noted=notes)
    levels = [audit.artefact(path).level for path in tables]
    shown = [*tables, *landmarks, *photos, *classifiers, *compared, *pictures]
    write_text(out, page(spec, tables, pictures, levels, landmarks, photos, classifiers, compared,
                         chains(audit, shown)))
    record.facts |= {"tables": len(tables), "pictures": len(pictures)}
    if notes:
        notes.report("report", record)


def chains(audit: Audit, shown: Sequence[Path]) -> Chains:
    """Where everything that the page shows comes from."""
    words = {path: level_word(audit.artefact(path)) for path in shown}
    tops = [Path(os.path.abspath(path)) for path in words]
    parts = list(why.unfolded(audit, tops))
    anchors = {key: f"chain-{number}" for number, (key, _) in enumerate(parts) if key}
    return Chains({path: (anchors[top], words[path]) for path, top in zip(words, tops, strict=True)},
                  [(anchors.get(key), "\n".join(lines)) for key, lines in parts])
