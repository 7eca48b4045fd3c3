"""What a job takes of a machine: operations, memory, time at a site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ambient.cluster.site import Site
from ambient.cluster.site import path as path_of_site
from ambient.specs.strict import require
from ambient.storage.files import HELD

OVERHEAD = 1.5  # of the estimate: queues of the file system, evaluations, checkpoints
STARTUP_MINUTES = 10
BASE_MB = 4000  # libraries and the CUDA context
# Bytes of a file that are read and hashed in a second. A disk gave so many of one that was not in memory, as
# files of terabytes never are. Of one in memory a core hashes more than twice as many: so it keeps up with
# the disk where two digests are taken of an output. Several files that are read at once are taken to come so
# fast each, as from a parallel file system: one disk gives them together no more than it gives one.
HASHED = 3e8
BRIEF = 10  # minutes of hashing for which nobody waits: more cores are not asked for
NEAR = 1.1  # of the shortest hashing, what further cores are not asked for


@dataclass(frozen=True)
class Work:
    """A job: floating-point operations, further minutes on the CPU, memory, and whether a GPU helps."""

    flops: float = 0.0
    cpu_minutes: float = 0.0  # of all its processes together
    reads: tuple[int, ...] = ()  # bytes of its inputs, which its first rank hashes at each attempt
    writes: int = 0  # bytes of its output, which it hashes at its end
    grows: bool = False  # it has saved this output so far, and hashes what is there when it goes on
    memory_mb: float = BASE_MB
    gpu: bool = False
    ranks: bool = False  # can use several
    weights_mb: float = 0.0  # of a training: the weights, once
    copies: int = 0  # of them: they, their gradients, Adam's two moments, averages
    shardable: bool = False  # ranks may each hold a part of these
    activations_mb: float = 0.0  # in the GPU's memory, or the CPU's where there is no GPU
    batch: int = 0  # images of a training step, of which each rank takes its part; 0: it has none

    def processes(self, site: Site) -> int:
        """Ranks that do the job. Raises `SpecError` where they can't share its batch evenly."""
        number = site.ranks if self.ranks else 1
        if number > 1:
            require(self.batch % number == 0, f"{path_of_site()}: {'gpus' if site.gpus else 'cpu_ranks'}",
                    number, f"a divisor of the batch of {self.batch}, of which each rank takes a part")
        return number

    def memory(self, site: Site) -> float:
        """Main memory, MB, of all ranks of a node: libraries, data, weights, and activations on a CPU."""
        on_gpu, number = self.gpu and site.gpus, site.ranks // site.nodes if self.ranks else 1
        each = self.memory_mb + (0 if on_gpu else self.activations_mb)
        return number * each + self.of_weights(site, number) * self.weights_mb

    def of_weights(self, site: Site, number: int) -> float:
        """How many copies of a training's weights are in the main memory of a node, which has so many ranks.

        On a CPU each rank has its weights and what belongs to them, twice over while it writes them. Of GPUs
        the first rank alone writes a checkpoint, which passes through main memory so. The others have two
        copies there, while the network is built and a tensor of a checkpoint is read. Ranks that share the
        weights write a part each, beside two copies: weights and gradients of a step that is tried before,
        later averages that the first collects.
        """
        whole = 2.0 * self.copies
        if self.shardable and site.shard_weights and site.ranks > 1:
            return number * (whole / site.ranks + 2)
        return whole + (number - 1) * (min(whole, 2) if self.gpu and site.gpus else whole)

    def own_minutes(self, site: Site) -> float:
        """Expected time at a site, but for the hashing of its files. Ranks share what the CPU does, too."""
        rate = site.gpu_tflops if self.gpu and site.gpus else site.cpu_tflops
        return (self.cpu_minutes + self.flops / (rate * 1e12) / 60) / self.processes(site)

    def minutes(self, site: Site) -> float:
        """Expected wall time at a site."""
        return self.own_minutes(site) + self.hashing(self.cores(site))

    def hashing(self, cores: int, again: bool = False) -> float:
        """Minutes in which so many cores hash all that it reads, and at its end what it wrote.

        `again`: with what an attempt that goes on may find, which all cores share: each save has its digest.
        """
        saved = [self.writes / cores] * cores if again and self.grows else []
        return sum(minutes(sizes, cores) for sizes in (self.reads, saved, [self.writes]))

    def cores(self, site: Site) -> int:
        """Cores that its first rank hashes with. Without a GPU it asks for those that make that much shorter.

        On several nodes srun starts the ranks, and gives each of them one.
        """
        if self.gpu and site.gpus:
            number = site.gpus if self.ranks else 1
            return 1 if number > 1 and site.nodes > 1 else site.cpus_per_gpu * number
        again = self.own_minutes(site) + self.hashing(1) > site.max_minutes
        enough = max(NEAR * self.hashing(site.hash_cpus, again), BRIEF)
        return next(n for n in range(1, site.hash_cpus + 1) if self.hashing(n, again) <= enough)

    def limits(self, site: Site) -> float:
        """How many of a site's time limits it takes where it goes on after each, and hashes first in each.

        Infinity where a limit has no room for the hashing alone, of which nothing is kept.
        """
        cores, whole = self.cores(site), self.minutes(site)
        if whole <= site.max_minutes:
            return whole / site.max_minutes
        after = minutes([self.writes], cores)
        before = self.hashing(cores, again=True) - after
        if before + after >= site.max_minutes:
            return math.inf
        return (whole - minutes(self.reads, cores)) / (site.max_minutes - before)

    def limit(self, site: Site, attempt: int) -> int:
        """Time to ask for, minutes: grows with the attempt, and never exceeds what the site allows."""
        asked = attempt * (STARTUP_MINUTES + OVERHEAD * self.minutes(site))
        return min(math.ceil(asked), site.max_minutes)


def minutes(sizes: Sequence[float], cores: int) -> float:
    """In which files of so many bytes are hashed, each by one core: the largest ones are begun first."""
    busy = [0.0] * cores
    for size in sorted(sizes, reverse=True):
        busy[busy.index(min(busy))] += size
    return max(busy) / HASHED / 60


def in_memory_mb(size: float) -> float:
    """Of an array of so many bytes what is in memory at once, MB: the rest is read when it is asked for."""
    return min(size, HELD) / 1e6


def loading_mb(parameters: int) -> float:
    """Of a network of so many parameters as it is loaded, MB: its weights, beside those of the file."""
    return 2 * 4 * parameters / 1e6


LITTLE = Work(cpu_minutes=0.2)  # of a job that draws or tabulates: it loads libraries, mostly
