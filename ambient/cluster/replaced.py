"""Results are replaced whole, not removed first: what Snakemake removes of itself, it leaves to the stages.

Snakemake removes the outputs of a job before it starts, and those of a job that failed. Another run of the
same tree may have made them since, or be writing them at that moment. A stage needs neither. It works under a
lock, does nothing where its outputs are there and as it would make them, and writes over what is otherwise.
Where it fails it takes away what has no manifest (`ambient.jobs.stage`).

So a stage would do nothing either for who asks for its job once more (`-R`, `-F`). That is marked by a file
in Snakemake's folder. Where the job starts, on whichever machine, its outputs go with the mark.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake.jobs import Job

from ambient.storage.files import digest

MARKS = "ambient-anew"  # folder in .snakemake
REMOVE, CLEAN_UP = Job.remove_existing_output, Job.cleanup


def mark(job: Any) -> Path:
    """The file that says that a job is asked for once more."""
    return Path(job.dag.workflow.persistence.path) / MARKS / digest(str(job.output[0]))


def note(job: Any, anew: bool) -> None:
    """Say of a job that is about to be started, or submitted, whether it is asked for once more."""
    path = mark(job)
    if anew:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.unlink(missing_ok=True)


def leave(is_stage: Callable[[Any], bool]) -> None:
    """Have the outputs and logs of stages stay, at the start of a job and after a failure. Others' go.

    A stage that failed counts as one that was begun: Snakemake takes a job without removed outputs for done.
    """
    async def at_start(job: Any) -> None:
        if not is_stage(job):
            await REMOVE(job)
        elif mark(job).exists():
            mark(job).unlink(missing_ok=True)
            for output in map(Path, job.output):
                output.unlink(missing_ok=True)

    async def after_failure(job: Any, kept: Any) -> None:
        if not is_stage(job):
            await CLEAN_UP(job, kept)
        else:
            job.dag.workflow.persistence.started(job)

    Job.remove_existing_output, Job.cleanup = at_start, after_failure
