"""What a job of the graph costs: the work of its stage, and the hashing of what the job reads and writes.

Before a job begins, it hashes all its inputs, and at its end all its outputs. It does so with one core of its
first rank, and anew at each attempt. Audits that are jobs of the workflow take the digests behind their
inputs from its notes (`ambient.audit.noted`).
"""

from __future__ import annotations

from dataclasses import replace

from ambient.cluster.cost import Costs
from ambient.cluster.sizes import bytes_of
from ambient.cluster.work import Work
from ambient.settings.graph import Graph, Node

# Bytes that a core reads and hashes in a second. A disk gave so many of a file that was not in memory, where
# files of terabytes never are. Of one in memory a core hashes more than twice as many.
HASHED = 3e8
PASSES = 2  # over an output: the digest of the file, and that of its tensors


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
        return replace(work, begin_minutes=minutes(sum(map(self.size, read))),
                       end_minutes=PASSES * minutes(self.written(job)))

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


def minutes(size: float) -> float:
    """In which so many bytes are read and hashed once."""
    return size / HASHED / 60
