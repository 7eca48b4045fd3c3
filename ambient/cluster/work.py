"""What a job takes of a machine: operations, memory, time at a site."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ambient.cluster.site import Site
from ambient.cluster.site import path as path_of_site
from ambient.specs.strict import require
from ambient.storage.files import HELD

OVERHEAD = 1.5  # of the estimate: queues of the file system, evaluations, checkpoints
STARTUP_MINUTES = 10
BASE_MB = 4000  # libraries and the CUDA context


@dataclass(frozen=True)
class Work:
    """A job: floating-point operations, further minutes on the CPU, memory, and whether a GPU helps."""

    flops: float = 0.0
    cpu_minutes: float = 0.0
    begin_minutes: float = 0.0  # by one core of the first rank: what it reads is hashed, at each attempt
    end_minutes: float = 0.0  # so, too: what it wrote is hashed
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
        require(self.batch % number == 0, f"{path_of_site()}: {'gpus' if site.gpus else 'cpu_ranks'}", number,
                f"a divisor of the batch of {self.batch}, of which each rank takes a part")
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

    def minutes(self, site: Site) -> float:
        """Expected wall time at a site."""
        rate = site.gpu_tflops if self.gpu and site.gpus else site.cpu_tflops
        own = self.cpu_minutes + self.flops / (rate * 1e12 * self.processes(site)) / 60
        return own + self.hashing_minutes

    @property
    def hashing_minutes(self) -> float:
        """What its last attempt hashes: all that it reads, and all that it wrote."""
        return self.begin_minutes + self.end_minutes

    def limits(self, site: Site) -> float:
        """How many of a site's time limits it takes where it goes on after each, and hashes first in each.

        Infinity where a limit has no room for the hashing alone, of which nothing is kept.
        """
        if self.hashing_minutes >= site.max_minutes:
            return math.inf
        return (self.minutes(site) - self.begin_minutes) / (site.max_minutes - self.begin_minutes)

    def limit(self, site: Site, attempt: int) -> int:
        """Time to ask for, minutes: grows with the attempt, and never exceeds what the site allows."""
        asked = attempt * (STARTUP_MINUTES + OVERHEAD * self.minutes(site))
        return min(math.ceil(asked), site.max_minutes)


def in_memory_mb(size: float) -> float:
    """Of an array of so many bytes what is in memory at once, MB: the rest is read when it is asked for."""
    return min(size, HELD) / 1e6


def loading_mb(parameters: int) -> float:
    """Of a network of so many parameters as it is loaded, MB: its weights, beside those of the file."""
    return 2 * 4 * parameters / 1e6


LITTLE = Work(cpu_minutes=0.2)  # of a job that draws or tabulates: it loads libraries, mostly
