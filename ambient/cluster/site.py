"""What is particular to a cluster: config/site.yaml, or the file named by AMBIENT_SITE.

No specification of a job has any of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ambient.settings import load
from ambient.specs.strict import build, require


@dataclass(frozen=True)
class Site:
    """Where jobs go and how large they may be. The defaults fit a cluster that needs no such choice."""

    account: str | None = None
    partition: str | None = None  # of every job
    gpu_partition: str | None = None  # of GPU jobs, where it is another one
    gpu_model: str | None = None  # as SLURM names it: a100, h100, ...
    constraint: str | None = None
    qos: str | None = None
    gpus: int = 1  # of each training job; 0: everything on CPUs
    nodes: int = 1  # that those are spread over
    shard_weights: bool = False  # of a denoiser in training: each rank holds a part of what belongs to them
    cpus_per_gpu: int = 2  # cores beside each GPU
    hash_cpus: int = 4  # the most cores of a job without GPUs, where it hashes several large files
    cpu_ranks: int = 1  # processes of each training job where gpus is 0
    max_minutes: int = 1440  # the longest job allowed; longer work goes on in the next one
    stop_seconds: int = 180  # before its time limit a job is told to save and leave
    gpu_tflops: float = 20.0  # what one GPU sustains here (20 M images in 4.4 h on 8 V100, as published)
    cpu_tflops: float = 0.1  # what one CPU job sustains
    slurm_extra: str = ""  # further options for sbatch

    def __post_init__(self) -> None:
        for key in ("nodes", "cpus_per_gpu", "hash_cpus", "cpu_ranks", "max_minutes"):
            require(getattr(self, key) >= 1, key, getattr(self, key), ">= 1")
        for key in ("gpus", "stop_seconds"):
            require(getattr(self, key) >= 0, key, getattr(self, key), ">= 0")
        for key in ("gpu_tflops", "cpu_tflops"):
            require(getattr(self, key) > 0, key, getattr(self, key), "> 0")
        require(self.nodes == 1 or self.gpus == 0 or self.gpus > self.nodes, "gpus", self.gpus,
                f"two or more on each of {self.nodes} nodes")
        require(self.ranks % self.nodes == 0, "nodes", self.nodes, f"a divisor of {self.ranks} ranks")

    @property
    def ranks(self) -> int:
        """Processes of a training job, one a GPU."""
        return self.gpus or self.cpu_ranks

    def partition_of(self, gpu: bool) -> str | None:
        """The partition of a GPU or CPU job, or None for the cluster's own choice."""
        return (self.gpu_partition or self.partition) if gpu else self.partition


def path(folder: Path | str = "config") -> Path:
    """The file of site settings, which need not exist."""
    return Path(os.environ.get("AMBIENT_SITE") or Path(folder) / "site.yaml")


def read(folder: Path | str = "config") -> Site:
    """The site's settings, the defaults without a file. Raises `SpecError` naming file and key."""
    file = path(folder)
    if not os.environ.get("AMBIENT_SITE") and not file.exists():
        return Site()
    return build(Site, load(file), str(file))
