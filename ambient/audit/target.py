"""Where a page of the audit may be written: never over what this program did not make."""

from __future__ import annotations

import os
from pathlib import Path

from ambient.provenance import manifest
from ambient.storage import regular

MARK = b'<meta name="generator" content="ambient audit">'  # near the head of every page of the audit
HEAD = 4096  # bytes in which it is looked for
SUFFIX, VIEW = ".html", "audit.html"  # of any page; of one in a results tree, where other names are artefacts


def check_page(path: Path, trees: list[Path]) -> None:
    """Refuse a place that holds anything but an earlier page. Raises `ValueError` naming it.

    `trees`: the tops of the audited trees.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"--html {path}: the name of a page ends in {SUFFIX}")
    found = regular.kind(path, follow=False)
    if found not in (regular.FILE, regular.MISSING):
        raise ValueError(f"--html {path}: {found} is there, which this command did not make")
    if manifest.path_for(path).exists():
        raise ValueError(f"--html {path}: an artefact with a manifest is there; give the page another name")
    if found == regular.FILE:
        with regular.opened(path) as file:
            if MARK not in file.read(HEAD):
                raise ValueError(f"--html {path}: no page that this command made is there; give another "
                                 "name, or remove it")
    inside = any(Path(os.path.abspath(path)).is_relative_to(top) for top in trees)
    if inside and not path.name.endswith(VIEW):
        raise ValueError(f"--html {path}: in a results tree the name of a page ends in {VIEW}")
