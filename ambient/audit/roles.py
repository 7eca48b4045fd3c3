"""What each stage reads and writes, by role: read from the line in which the stage declares it.

The declaration is not repeated here, and no stage is imported for it: stages load torch.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from ambient.provenance import source_code


@dataclass(frozen=True)
class Roles:
    """The options of a stage: files that it reads (`optional` ones may be left out, `many` may be none or
    several), files that it writes, and paths that are not recorded (`options`)."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    many: tuple[str, ...] = ()

    def wrong(self, found: dict) -> str | None:
        """In words the first role of a manifest that the stage does not have, or that it needs; else None."""
        read = [role for role, entries in found["inputs"].items() if entries]
        for role in read:
            if role not in self.inputs:
                return f"read by its job as {role!r}, which this stage does not read"
            if role not in self.many and len(found["inputs"][role]) > 1:
                return f"{len(found['inputs'][role])} files as {role!r}, of which this stage reads one"
        for role in self.inputs:
            if role not in read and role not in (*self.optional, *self.many):
                return f"made without {role!r}, which this stage needs"
        for role in found["outputs"]:
            if role not in self.outputs:
                return f"written by its job as {role!r}, which this stage does not write"
        return None


@cache
def of(stage: str) -> Roles | None:
    """The roles of a stage, `ambient.train` say; None where there is no such stage here."""
    path = source_code.path_of(source_code.module_of(stage))
    for node in ast.walk(ast.parse(path.read_text())) if path else ():
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage.begin":
            return Roles(**{one.arg: tuple(ast.literal_eval(one.value)) for one in node.keywords})
    return None
