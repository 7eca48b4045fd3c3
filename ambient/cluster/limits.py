"""What the largest and the longest jobs of a target are, against what a cluster gives to one job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ambient.cluster import site as sites
from ambient.cluster.outside import MISSING, NOTE, Finding
from ambient.cluster.plan import jobs, works
from ambient.cluster.site import Site
from ambient.cluster.work import OVERHEAD, Work
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


def longest(found: Experiments, site: Site, target: str | None) -> Iterator[tuple[str, str, int, Work]]:
    """(kind, what the longest is of, how many are longer than one time limit, work of the longest)."""
    over: dict[str, list[tuple[str, Work]]] = {}
    for job, work in works(found, target):
        if work.minutes(site) > site.max_minutes:
            over.setdefault(job.kind, []).append((", ".join(map(" ".join, job.names.items())), work))
    for kind, every in over.items():
        names, work = max(every, key=lambda one: (one[1].limits(site), one[1].minutes(site), one[0]))
        yield kind, names, len(every), work


def begun_anew(work: Work, site: Site, resumable: bool) -> str:
    """What of a job a time limit loses: all, or the hashing of its files where it goes on with the rest."""
    hashing = work.hashing(work.cores(site), again=resumable)
    if resumable:
        return f"takes about {hashing:,.0f} minutes to hash its files and begins that anew"
    part = f" ({hashing:,.0f} of them to hash files)" if hashing >= 1 else ""
    return f"takes about {work.minutes(site):,.0f} minutes{part} and begins anew"


def too_long(found: Experiments, site: Site, target: str | None, folder: Path | str) -> Iterator[Finding]:
    """Jobs that no time limit is long enough for, and those that need more of them than Snakemake gives."""
    attempts = 1 + load(PROFILE).get("retries", 0) if PROFILE.is_file() else None
    for kind, names, count, work in longest(found, site, target):
        limits = work.limits(site)
        if not JOBS[kind].resumable or math.isinf(limits):
            which = f"{kind} ({names})" if names else kind
            yield MISSING, (f"time: {which} {begun_anew(work, site, JOBS[kind].resumable)} "
                            f"after a time limit; max_minutes is {site.max_minutes} (set it in "
                            f"{sites.path(folder)})")
        elif attempts and limits > attempts:
            yield NOTE, (f"time: {kind}: {count} jobs are longer than {site.max_minutes} minutes and go on "
                         f"after each such limit. The longest ({names}) takes about {limits:,.0f} of them, "
                         f"and Snakemake gives a job {attempts}: add "
                         f"--retries {math.ceil(OVERHEAD * limits)}, or give the command again. With more "
                         "GPUs (gpus, nodes) there are fewer")
