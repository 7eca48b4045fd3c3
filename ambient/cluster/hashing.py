"""What a job of the graph costs: the work of its stage, and the hashing of what the job reads and writes.

Before a job begins, its first rank hashes all its inputs, each by one of its cores, and at its end all its
outputs. An attempt that goes on begins so, too, and hashes what has grown in the state. Audits that are jobs
of the workflow take the digests behind their inputs from its notes (`ambient.audit.noted`).
"""

from __future__ import annotations

from dataclasses import replace

from ambient.cluster.cost import Costs
from ambient.cluster.sizes import bytes_of
from ambient.cluster.work import Work
from ambient.settings.graph import Graph, Node

GROWING = ("prepare", "corrupt")  # jobs whose output grows in their state (`ambient.jobs.growing`)


class Works:
    """The work of every job of a graph, calculated once for all seeds of a run."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.costs = graph, Costs(graph.experiments)
        self.known: dict[tuple, Work] = {}
        self.sizes: dict[tuple, int] = {}

    def of(self, job: Node) -> Work:
        """The work of a job."""
        key = seedless(job)
        if key not in self.known:
            self.known[key] = self.counted(job)
        return self.known[key]

    def counted(self, job: Node) -> Work:
        """The work of a job, with the hashing of its files: each that it reads counts once."""
        work = self.costs.of(job.kind, job.names)
        read = {path for paths in self.graph.reads(job).values() for path in paths}
        sizes = sorted(filter(None, map(self.size, read)))
        return replace(work, reads=tuple(sizes), writes=self.written(job), grows=job.kind in GROWING)

    def size(self, path: str) -> int:
        """Bytes of a file of the tree: 0 for a table, a log, and what else is small."""
        if not path.endswith(".safetensors"):
            return 0
        job = self.graph.made(path)
        return self.written(job) if path == next(iter(self.graph.writes(job).values())) else 0

    def written(self, job: Node) -> int:
        """Bytes of what a job writes: its first output has them."""
        key = seedless(job)
        if key not in self.sizes:
            self.sizes[key] = bytes_of(job.kind, job.names, self.costs)[0]
        return self.sizes[key]


def seedless(job: Node) -> tuple:
    """A job but for its seed, on which neither its work nor its files' sizes depend."""
    return job.kind, *(pair for pair in job.wildcards if pair[0] != "seed")
