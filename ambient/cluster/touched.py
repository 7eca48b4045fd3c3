"""Snakemake sets the times of a job's outputs to now: whether one changed after its manifest still shows.

A job writes an output, takes its digest, and writes the manifest. So a manifest that is no older than its
output has the digest of what lies there. Snakemake touches outputs when their job ends, on the job's node
and at the head of the workflow. Then the manifest is touched as well, if it was no older than its output.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snakemake.dag import DAG

from ambient.provenance import manifest


class Touching(DAG):
    """Snakemake's jobs, whose manifests stay later than the outputs that did not change after them."""

    async def check_and_touch_output(self, job: Any, *given: Any, **more: Any) -> None:
        """As Snakemake does, and touch the manifests."""
        untouched = {"no_touch": True, "check_output_mtime": False}
        await super().check_and_touch_output(job, *given, **more | untouched)  # waits for a slow file system
        with manifest.staying_current(map(Path, job.output)):
            await super().check_and_touch_output(job, *given, **more)
