"""What the largest and the longest jobs of a target are, against what a cluster gives to one job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ambient.cluster import site as sites
from ambient.cluster.cost import Costs
from ambient.cluster.outside import MISSING, NOTE, Finding
from ambient.cluster.plan import jobs, wanted
from ambient.cluster.site import Site
from ambient.cluster.work import OVERHEAD
from ambient.provenance.source_code import ROOT
from ambient.settings import Experiments, load
from ambient.specs.stages import JOBS

PROFILE = ROOT / "workflow/profiles/slurm/config.yaml"


def largest(found: Experiments, site: Site, target: str | None) -> dict[bool, int]:
    """Whether on a GPU -> the most main memory, MB, that a job asks for at first."""
    asked = {False: 0, True: 0}
    for _, work in jobs(found, target):
        on_gpu = site.gpus > 0 and work.gpu
        asked[on_gpu] = max(asked[on_gpu], round(work.memory(site)))
    return asked


def longest(found: Experiments, site: Site, target: str | None) -> Iterator[tuple[str, str, int, float]]:
    """(kind, what the longest is of, how many are longer than one time limit, minutes of the longest)."""
    costs, over = Costs(found), {}
    for job in wanted(found, target):
        minutes = costs.of(job.kind, job.names).minutes(site)
        if minutes > site.max_minutes:
            over.setdefault(job.kind, []).append((minutes, ", ".join(map(" ".join, job.names.items()))))
    for kind, every in over.items():
        minutes, names = max(every)
        yield kind, names, len(every), minutes


def too_long(found: Experiments, site: Site, target: str | None, folder: Path | str) -> Iterator[Finding]:
    """Jobs that no time limit is long enough for, and those that need more of them than Snakemake gives."""
    attempts = 1 + load(PROFILE).get("retries", 0) if PROFILE.is_file() else None
    for kind, names, count, minutes in longest(found, site, target):
        limits = minutes / site.max_minutes
        if not JOBS[kind].resumable:
            yield MISSING, (f"time: {kind} ({names}) takes about {minutes:,.0f} minutes and begins anew "
                            f"after a time limit; max_minutes is {site.max_minutes} (set it in "
                            f"{sites.path(folder)})")
        elif attempts and limits > attempts:
            yield NOTE, (f"time: {kind}: {count} jobs are longer than {site.max_minutes} minutes and go on "
                         f"after each such limit. The longest ({names}) takes about {limits:,.0f} of them, "
                         f"and Snakemake gives a job {attempts}: add "
                         f"--retries {math.ceil(OVERHEAD * limits)}, or give the command again. With more "
                         "GPUs (gpus, nodes) there are fewer")
