"""One digest for many manifests: a Merkle root over their seals. Standard library only.

Leaves are sorted by path. With H = SHA-256: leaf = H(0x00 | canonical JSON of [path, seal]),
node = H(0x01 | left | right); an odd node is carried up (RFC 6962's tree). A seal is the digest of a
manifest's content, so the root pins every artefact, path and specification below it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ambient.provenance import manifest
from ambient.storage.files import canonical_json

LOCATED = 2**14  # paths that are kept


def root(leaves: Iterable[tuple[str, str]]) -> str:
    """The root of (path, seal) pairs as 64 hexadecimal digits; of no pairs, H of nothing."""
    row = [hashlib.sha256(b"\0" + canonical_json([path, seal]).encode()).digest()
           for path, seal in sorted(leaves)]
    if not row:
        return hashlib.sha256(b"").hexdigest()
    while len(row) > 1:
        pairs = [hashlib.sha256(b"\1" + left + right).digest()
                 for left, right in zip(row[::2], row[1::2], strict=False)]
        row = pairs + ([row[-1]] if len(row) % 2 else [])
    return row[0].hex()


def parents(artefact: Path, found: Mapping) -> list[Path]:
    """Where the inputs of an artefact lie, by its manifest; each once, in order."""
    return list(dict.fromkeys(located(artefact, entry["path"])
                              for entries in found["inputs"].values() for entry in entries))


def located(artefact: Path, name: str) -> Path:
    """Where a file lies that an artefact's manifest names: from the folder of the two."""
    folder, separator, _ = str(artefact).rpartition(os.sep)
    return normal(f"{folder}{separator}{name}")


@lru_cache(LOCATED)
def normal(path: str) -> Path:
    """A path without `..`, as one object for all who name it: an audit asks for each many times."""
    return Path(os.path.normpath(path))


def below(start: Iterable[Path], load: Callable[[Path], Mapping | None]) -> dict[Path, Mapping]:
    """Artefact -> manifest of everything that `start` was made from, itself included.

    `load` gives the manifest of an artefact, or None where there is none to follow.
    """
    found: dict[Path, Mapping] = {}
    waiting, seen = list(start), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if (record := load(path)) is not None:
            found[path] = record
            waiting += parents(path, record)
    return found


def sidecar(folder: Path, manifests: Mapping[Path, Mapping]) -> dict:
    """What a manifest keeps of the root: the digest, and of how many manifests it is.

    Paths count from `folder`, so that a tree may be moved whole.
    """
    start = os.path.join(folder, "")
    leaves = [(name.removeprefix(start) if (name := str(path)).startswith(start) else
               Path(os.path.relpath(path, folder)).as_posix(), found["seal"])
              for path, found in manifests.items()]
    return {"sha256": root(leaves), "manifests": len(leaves)}


def of_inputs(target: Path, inputs: Iterable[Path]) -> dict:
    """The sidecar of a file that is about to be made from `inputs`."""
    start = [Path(os.path.normpath(path)) for path in inputs]
    return sidecar(target.parent, below(start, recorded))


def recorded(path: Path) -> Mapping | None:
    """The manifest of a file, or None where it has none."""
    record = manifest.path_for(path)
    return manifest.read(record) if record.is_file() else None
