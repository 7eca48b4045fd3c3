"""Stage: how probably each patch of a few images is of the target, by the classifiers of each crop size.

What the figures of patches show (6, 20 to 24); nothing else reads it.
"""

from __future__ import annotations

from pathlib import Path

from ambient.annotation.patch_maps import chosen, patch_maps
from ambient.data.datasets import read
from ambient.specs import PatchMapsSpec


def main(spec: PatchMapsSpec, record, *, data: Path, seen: Path | None, crops: list[Path],
         out: Path) -> None:
    """`out` gets the maps; of the target's images those are shown that are not in `seen`."""
    dataset = read(data)
    rows = chosen(spec, dataset, seen and read(seen))
    patch_maps(spec, dataset, rows, crops).write(out)
    record.facts |= {"images": len(rows)}
