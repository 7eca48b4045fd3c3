"""What each job asks of the machine, from the work to be done and the site's settings.

Nothing here changes a result. Local runs read `run` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.resources import Resource

from ambient.cluster.hashing import Works
from ambient.cluster.signatures import inspected
from ambient.cluster.site import Site
from ambient.cluster.work import Work
from ambient.jobs.journal import saved
from ambient.settings.graph import Graph, Node
from ambient.specs.stages import JOBS
from ambient.specs.strict import SpecError

ALONE = "python -m ambient run"  # how a stage is started on one rank


def scale_of(wildcards: Any) -> str:
    """The scale of a job; the paper's tables and figures have none in their path."""
    return getattr(wildcards, "scale", "paper")


def node(kind: str, wildcards: Any) -> Node:
    """A job of Snakemake's in the graph of its scale."""
    return Node(kind, tuple(sorted((name, value) for name, value in wildcards.items() if name != "scale")))


def state_of(kind: str, wildcards: Any) -> str:
    """The folder of a resumable job's state."""
    return f"results/.state/{scale_of(wildcards)}/{JOBS[kind].resumes_from(wildcards)}"


class Requests:
    """The `resources` of every rule."""

    def __init__(self, graphs: Mapping[str, Graph], site: Site, workflow: Any) -> None:
        self.graphs, self.site, self.workflow = graphs, site, workflow
        self.works: dict[str, Works] = {}  # of the scales that jobs are of

    def work(self, kind: str, wildcards: Any) -> Work:
        """The work of a job."""
        scale = scale_of(wildcards)
        if scale not in self.works:
            self.works[scale] = Works(self.graphs[scale])
        return self.works[scale].of(node(kind, wildcards))

    def on_gpu(self, kind: str, wildcards: Any) -> bool:
        """Whether a job gets GPUs."""
        return self.site.gpus > 0 and self.work(kind, wildcards).gpu

    def gpus(self, kind: str, wildcards: Any) -> int | None:
        """How many, if any."""
        if not self.on_gpu(kind, wildcards):
            return None
        return self.site.gpus if self.work(kind, wildcards).ranks else 1

    def cpus(self, kind: str, wildcards: Any, threads: int) -> int:
        """Cores of a task: those beside its GPUs; or its threads, and where it hashes large files more.

        They change no bits: torch has `threads` all the same, which Snakemake exports as OMP_NUM_THREADS.
        """
        if self.on_gpu(kind, wildcards):
            many = 1 if self.spread(kind, wildcards) else self.gpus(kind, wildcards)
            return self.site.cpus_per_gpu * many
        return max(self.work(kind, wildcards).cores(self.site), threads)

    def ranks(self, kind: str, wildcards: Any) -> int:
        """The number of ranks. Raises `WorkflowError` where they can't share the job's batch evenly."""
        try:
            return self.work(kind, wildcards).processes(self.site)
        except SpecError as error:
            raise WorkflowError(f"configuration: {error}") from None

    def launcher(self, kind: str, wildcards: Any) -> str:
        """How a stage is started, on one rank or several."""
        number = self.ranks(kind, wildcards)
        several = f" --ranks {number} --nodes {self.site.nodes}" if number > 1 else ""
        if number > 1 and JOBS[kind].shardable and self.site.shard_weights:
            several += " --shard-weights"
        return f"{ALONE}{several}"

    def spread(self, kind: str, wildcards: Any) -> bool:
        """Whether a job runs on several nodes: then `srun` starts its ranks, one task each."""
        return self.site.nodes > 1 and self.ranks(kind, wildcards) > 1

    def tasks(self, kind: str, wildcards: Any, per_node: bool) -> int | None:
        """Tasks of a job on several nodes; the plugin wants them by node with GPUs, in all without."""
        if not self.spread(kind, wildcards) or per_node != self.on_gpu(kind, wildcards):
            return None
        return self.site.ranks // self.site.nodes if per_node else self.site.ranks

    def default(self, name: str, wildcards: Any) -> Any:
        """What `--default-resources` says: a rule that gives None of its own would hide it."""
        told = (self.workflow.resource_settings.default_resources or {}).get(name)
        if told is None or not told.is_evaluable():
            return told and told.value
        return Resource.cli_evaluator(name, told.raw, wildcards=wildcards, input=[], attempt=1,
                                      async_run=self.workflow.async_run)

    def extra(self, kind: str, wildcards: Any) -> str | None:
        """Further options of sbatch: a resumable job is told to stop before its time limit."""
        signal = f"--signal=TERM@{self.site.stop_seconds}" if JOBS[kind].resumable else ""
        own = self.site.slurm_extra or self.default("slurm_extra", wildcards) or ""
        return f"{signal} {own}".strip() or None

    def memory(self, kind: str, wildcards: Any, attempt: int) -> int:
        """Main memory, MB: half as much again after each attempt but those that saved their state and left.

        A long training is told to leave at every time limit, and needs no more memory for that.
        """
        ended = attempt - 1
        if ended and JOBS[kind].resumable:
            ended -= saved(Path(state_of(kind, wildcards)), ended)
        return round((1 + 0.5 * ended) * self.work(kind, wildcards).memory(self.site))

    def model(self, kind: str, wildcards: Any) -> str | None:
        """The kind of GPU, of a job that gets one."""
        own = self.site.gpu_model or self.default("gpu_model", wildcards)
        return own if self.on_gpu(kind, wildcards) else None

    def resources(self, kind: str) -> dict[str, Any]:
        """The `resources` of the rule of a kind of job: values, or functions of the job.

        What the site has no word on is left out. So what `--default-resources` says of it holds. Snakemake
        evaluates each function for each job. So what is the same for all jobs of the rule is a value.
        """
        site, given = self.site, self.workflow.resource_settings.default_resources or {}
        found = {
            "run": (lambda wildcards: self.launcher(kind, wildcards)) if site.ranks > 1 else ALONE,
            "runtime": lambda wildcards, attempt: self.work(kind, wildcards).limit(site, attempt),
            "mem_mb": lambda wildcards, attempt: self.memory(kind, wildcards, attempt),
            "gpu": lambda wildcards: self.gpus(kind, wildcards),
            "cpus_per_task": lambda wildcards, threads: self.cpus(kind, wildcards, threads)}
        if site.gpu_model or "gpu_model" in given:
            found["gpu_model"] = lambda wildcards: self.model(kind, wildcards)
        if site.partition or site.gpu_partition:
            found["slurm_partition"] = lambda wildcards: (site.partition_of(self.on_gpu(kind, wildcards))
                                                          or self.default("slurm_partition", wildcards))
        if site.nodes > 1:
            found |= {"nodes": lambda wildcards: site.nodes if self.spread(kind, wildcards) else None,
                      "mpi": lambda wildcards: "srun" if self.spread(kind, wildcards) else None,
                      "tasks": lambda wildcards: self.tasks(kind, wildcards, per_node=False),
                      "tasks_per_node": lambda wildcards: self.tasks(kind, wildcards, per_node=True)}
        if site.slurm_extra or JOBS[kind].resumable:
            found["slurm_extra"] = ((lambda wildcards: self.extra(kind, wildcards))
                                    if "slurm_extra" in given else self.extra(kind, None))
        found |= {"slurm_account": site.account, "constraint": site.constraint, "qos": site.qos}
        return {name: inspected(value) if callable(value) else value
                for name, value in found.items() if value}
