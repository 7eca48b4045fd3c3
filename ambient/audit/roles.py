"""Whether the files that a manifest says its job read and wrote are those that its stage reads and writes."""

from __future__ import annotations

from collections.abc import Mapping

from ambient.specs.stage import PREFIX, Stage
from ambient.specs.stages import STAGES


def of(recorded: str) -> Stage | None:
    """A stage by its name in manifests, `ambient.train` say; None where there is no such stage here."""
    return STAGES.get(recorded.removeprefix(PREFIX)) if recorded.startswith(PREFIX) else None


def wrong(row: Stage, found: Mapping) -> str | None:
    """In words the first role of a manifest that the stage does not have, or that it needs; else None."""
    read = [role for role, entries in found["inputs"].items() if entries]
    for role in read:
        if role not in row.reads:
            return f"read by its job as {role!r}, which this stage does not read"
        if role not in row.many and len(found["inputs"][role]) > 1:
            return f"{len(found['inputs'][role])} files as {role!r}, of which this stage reads one"
    for role in row.reads:
        if role not in read and role not in row.optional | row.many:
            return f"made without {role!r}, which this stage needs"
    for role in found["outputs"]:
        if role not in row.outputs:
            return f"written by its job as {role!r}, which this stage does not write"
    return None
