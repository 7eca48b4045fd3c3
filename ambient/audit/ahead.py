"""Large files are hashed before a tree is judged, several at once: the judge asks for one after the other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.jobs import hashed
from ambient.storage import hashing, regular

if TYPE_CHECKING:
    from ambient.audit.chain import Audit

LARGE = 2**26  # bytes from which a file is worth a second look at its manifest


def hash_ahead(audit: Audit, asked: Sequence[Path]) -> None:
    """Give an audit the digests of the large files that it will ask for; none where it takes noted ones.

    A file that can't be read is left to the judge, who finds that again and says so.
    """
    sizes = {} if audit.noted else large(audit, asked)
    paths = list(sizes)
    found = hashed.of_each("audit", "large files", sha256, paths, list(sizes.values()))
    audit.digests |= {audit.tree.real_path(path): sha for path, sha in zip(paths, found, strict=True) if sha}


def large(audit: Audit, asked: Sequence[Path]) -> dict[Path, int]:
    """Large file -> its bytes: of a folder's files, or behind a single file.

    One that is much larger than its manifest says is left out: a sparse file would take days to read.
    """
    found = dict[str, tuple[Path, int]]()
    for path in behind(audit, asked[0]) if len(asked) == 1 else asked:
        if (size := size_of(path)) < LARGE:
            continue
        key = Path(os.path.abspath(path))
        result = audit.load(key)
        if result.level == 0 and size <= 2 * result.manifest["size"]:
            found[audit.tree.real_path(key)] = key, size
    return dict(found.values())


def behind(audit: Audit, path: Path) -> Iterator[Path]:
    """A file and all that it was made from, by the manifests."""
    waiting, seen = [Path(os.path.abspath(path))], set[Path]()
    while waiting:
        key = waiting.pop()
        if key not in seen:
            seen.add(key)
            yield key
            waiting += audit.load(key).parents


def size_of(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    with suppress(OSError, ValueError):
        return os.stat(path).st_size
    return -1


def sha256(path: Path, seen: hashing.Seen) -> str | None:
    """SHA-256 of a regular file; None for one that can't be read."""
    found = hashlib.sha256()
    try:
        with regular.opened(path) as file:
            hashing.feed_open(file, [found.update], seen)
    except (OSError, ValueError):
        return None
    return found.hexdigest()
