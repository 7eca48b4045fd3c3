"""Remove what is big and can be made again, and record it: the manifests stay.

`x.safetensors` removed leaves `x.safetensors.pruned.json`. The audit then names it as pruned, and
follows the chain through its manifest: what was made from it still reaches its level.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ambient.provenance import manifest
from ambient.provenance.pruned import RECORDED, pruned_path
from ambient.specs.stages import STAGES, prunable
from ambient.storage import regular
from ambient.storage.files import write_json
from ambient.storage.text import printable, skipped

PRUNABLE = [name for name, stage in STAGES.items() if stage.prunes]
DEFAULT = [name for name, stage in STAGES.items() if stage.prunes == "weights"]


def remove(artefact: Path, found: Mapping) -> int:
    """Record the removal, then remove; returns the bytes freed. Only what is intact is removed."""
    if regular.sha256(artefact) != found["sha256"]:
        raise ValueError("not what its manifest says; see `python -m ambient audit`")
    write_json(pruned_path(artefact), {
        **{key: found[key] for key in RECORDED}, "pruned": manifest.now().isoformat(timespec="seconds")})
    artefact.unlink()
    return found["size"]


def main(arguments: list[str]) -> int:
    """`python -m ambient prune FOLDER`: remove weights (or more), and record what was removed.

    Status 1 where a file had to be kept: it is not what its manifest says, or the folder can't be written.
    """
    parser = argparse.ArgumentParser(prog="python -m ambient prune", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a scale, results/demo say")
    parser.add_argument("--stages", nargs="+", choices=PRUNABLE, default=DEFAULT,
                        help=f"whose arrays are removed (default: {' '.join(DEFAULT)})")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        raise ValueError(f"{given.folder}: no such folder")
    stages, total, count, kept = {STAGES[name].recorded for name in given.stages}, 0, 0, 0
    for artefact, found in manifest.read_below(given.folder, skipped):
        if not (found["stage"] in stages and prunable(artefact.name, found["stage"])
                and regular.kind(artefact, follow=False) == regular.FILE):
            continue
        try:
            total += found["size"] if given.dry_run else remove(artefact, found)
        except (OSError, ValueError) as error:
            print(printable(f"kept: {artefact}: {error}"))
            kept += 1
            continue
        count += 1
        print(printable(f"{artefact}: {found['size']:,} bytes"))
    what = "would be removed" if given.dry_run else "removed; the manifests stay"
    print(f"{count} files, {total:,} bytes {what}" + (f"; {kept} could not be removed" if kept else ""))
    return int(kept > 0)
