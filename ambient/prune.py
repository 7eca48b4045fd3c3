"""Remove what is big and can be made again, and record it: the manifests stay.

`x.safetensors` removed leaves `x.safetensors.pruned.json`. The audit then names it as pruned, and
follows the chain through its manifest: what was made from it still reaches its level.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from ambient import manifest
from ambient.files import sha256, write_json

PRUNED = ".pruned.json"
STAGES = ("train", "classifier", "sample", "evaluate", "corrupt", "prepare")
DEFAULT = ("train", "classifier")  # the weights
SUFFIX = ".safetensors"


def pruned_path(artefact: Path) -> Path:
    """Where the record of a removal lies."""
    return artefact.with_name(artefact.name + PRUNED)


def pruned_record(artefact: Path, found: Mapping) -> bool:
    """Whether the removal of an artefact, with this manifest, is on record."""
    try:
        record = json.loads(pruned_path(artefact).read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and record.get("seal") == found["seal"]


def remove(artefact: Path, found: Mapping) -> int:
    """Record the removal, then remove; returns the bytes freed. Only what is intact is removed."""
    if sha256(artefact) != found["sha256"]:
        raise ValueError(f"{artefact}: not what its manifest says; see `python -m ambient audit`")
    write_json(pruned_path(artefact), {
        "artefact": artefact.name, "sha256": found["sha256"], "size": found["size"],
        "seal": found["seal"], "pruned": manifest.now().isoformat(timespec="seconds")})
    artefact.unlink()
    return found["size"]


def main(arguments: list[str]) -> int:
    """`python -m ambient prune FOLDER`: remove weights (or more), and record what was removed."""
    parser = argparse.ArgumentParser(prog="python -m ambient prune", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(DEFAULT),
                        help=f"whose arrays are removed (default: {' '.join(DEFAULT)})")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        parser.error(f"{given.folder}: no such folder")
    stages, total, count = {f"ambient.{name}" for name in given.stages}, 0, 0
    for record in sorted(given.folder.rglob(f"*{SUFFIX}{manifest.SUFFIX}")):
        artefact = manifest.artefact_of(record)
        try:
            found = manifest.read(record)
            if found["stage"] not in stages or not artefact.is_file() or artefact.is_symlink():
                continue
            total += found["size"] if given.dry_run else remove(artefact, found)
        except (OSError, ValueError) as error:
            print(f"kept: {error}")
            continue
        count += 1
        print(f"{artefact}: {found['size']:,} bytes")
    what = "would be removed" if given.dry_run else "removed; the manifests stay"
    print(f"{count} files, {total:,} bytes {what}")
    return 0
