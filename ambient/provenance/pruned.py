"""Records of what was removed: `x.safetensors` leaves `x.safetensors.pruned.json` beside its manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ambient.storage import regular

PRUNED = ".pruned.json"
RECORDED = ("artefact", "sha256", "size", "seal")  # of the manifest, in the record of a removal


def pruned_path(artefact: Path) -> Path:
    """Where the record of a removal lies."""
    return artefact.with_name(artefact.name + PRUNED)


def pruned_record(artefact: Path, found: Mapping) -> bool:
    """Whether the removal of an artefact, with this manifest, is on record."""
    try:
        record = json.loads(regular.read(pruned_path(artefact)))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and all(record.get(key) == found[key] for key in RECORDED)
