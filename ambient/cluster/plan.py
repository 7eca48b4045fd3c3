"""What the jobs behind a target cost: their work, how many files they leave, how many bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ambient.cluster.cost import Costs
from ambient.cluster.hashing import Works
from ambient.cluster.sizes import bytes_of
from ambient.cluster.work import Work
from ambient.settings import Experiments
from ambient.settings.graph import Graph, Node
from ambient.specs.stages import JOBS, STAGES

# What the files of a stage are, as the doctor lists them.
KEPT = {"prepare": "images", "corrupt": "images", "combine": "images", "encode": "stored latents",
        "texts": "states of captions", "classifier": "noise classifiers",
        "train": "snapshots", "reconstruct": "snapshots", "sample": "samples"}
STATES = "states that jobs remove at their end"


def wanted(experiments: Experiments, target: str | None = None) -> list[Node]:
    """The jobs behind a target (None: all of the scale), each once, in the order of the table of stages.

    Raises `SpecError` for a target that the scale does not have.
    """
    graph, order = Graph(experiments), list(JOBS)
    paths = graph.everything() if target is None else graph.target(target)
    return sorted(graph.behind(paths), key=lambda job: order.index(job.kind))


def jobs(experiments: Experiments, target: str | None = None) -> Iterator[tuple[str, Work]]:
    """(stage, work) of every job."""
    for job, work in works(experiments, target):
        yield job.kind, work


def works(experiments: Experiments, target: str | None = None) -> Iterator[tuple[Node, Work]]:
    """(job, work) of every job."""
    found = Works(Graph(experiments))
    for job in wanted(experiments, target):
        yield job, found.of(job)


def files(experiments: Experiments, target: str | None = None) -> int:
    """How many files the jobs leave: what they write, a manifest for each of a stage, and a log a job."""
    return sum(len(JOBS[job.kind].outputs) * (2 if job.kind in STAGES else 1) + 1
               for job in wanted(experiments, target))


def disk_bytes(experiments: Experiments, target: str | None = None) -> Counter[str]:
    """What files are -> bytes of arrays and weights: of `KEPT`, and of `STATES` of all jobs at once."""
    costs, found, removed = Costs(experiments), Counter(), 0
    for job in wanted(experiments, target):
        kept, left = bytes_of(job.kind, job.names, costs)
        found[KEPT.get(job.kind)] += kept
        removed += left
    return +(found | Counter({STATES: removed}))  # without those of which there are none
