"""Results are replaced whole, not removed first: what Snakemake removes of itself, it leaves to the stages.

Snakemake removes the outputs of a job before it starts, and those of a job that failed. Another run of the
same tree may have made them since, or be writing them at that moment. A stage needs neither. It works under a
lock, does nothing where its outputs are there and as it would make them, and writes over what is otherwise.
Where it fails it takes away what has no manifest (`ambient.jobs.stage`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from snakemake.jobs import Job

REMOVALS = {name: getattr(Job, name) for name in ("remove_existing_output", "cleanup")}


def leave(is_stage: Callable[[Any], bool]) -> None:
    """Have the outputs and logs of stages stay, at the start of a job and after a failure. Others' go."""
    def leaving(removal: Callable) -> Callable:
        async def left(job: Any, *arguments: Any) -> None:
            if not is_stage(job):
                await removal(job, *arguments)
        return left

    for name, removal in REMOVALS.items():
        setattr(Job, name, leaving(removal))
