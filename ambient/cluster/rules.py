"""What the rules of the workflow say of their jobs, from the graph; Snakemake asks with a job's wildcards."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from ambient import settings
from ambient.cluster import overview
from ambient.cluster import site as sites
from ambient.cluster.requests import Requests, node, scale_of, state_of
from ambient.cluster.scales import Graphs, asked_for
from ambient.cluster.signatures import inspected
from ambient.cluster.work import LITTLE
from ambient.provenance import manifest, source_code
from ambient.settings.asked import Told
from ambient.settings.entries import Entries
from ambient.settings.graph import Graph, constraints
from ambient.settings.graph import scale_of as place_of
from ambient.specs.stage import option
from ambient.specs.stages import JOBS, STAGES
from ambient.specs.strict import SpecError, nearest, plain, to_json
from ambient.storage.files import digest

SUFFIXES = ("_of_paper", "_beside")  # of rules that make what another one makes, at another place
# Where a scale's tables and figures lie, where their logs, what their rules' names end in, and what a message
# calls the scale. The paper's lie at results/ itself, their logs beside all others of the scale.
PLACES = (("results/{scale}", "results/{scale}/logs", "", "{wildcards.scale}"),
          ("results", "results/paper/logs", "_of_paper", "paper"))


class Rules:
    """The rules of all scales: what each scale names is read here, and `check` reads the rest."""

    def __init__(self, workflow: Any, config: dict) -> None:
        """Raises `WorkflowError` for a configuration that is refused."""
        self.workflow, self.default, folder = workflow, config.get("scale"), settings.home()
        try:
            settings.check_main(config)
            self.scales, self.graphs = settings.scales(folder), Graphs(folder)
            self.constraints = constraints(Entries(folder, name) for name in self.scales)
            self.requests = Requests(self.graphs, sites.read(folder), workflow)
        except SpecError as error:
            raise refused(error) from None
        self.resources = self.requests.resources

    def check(self) -> None:
        """Check everything in the configuration of the scales that the run asks for.

        Raises `WorkflowError` for one that is refused. Snakemake knows what it is asked for after it has read
        the rules.
        """
        asked = self.workflow.dag_settings
        for scale in asked_for(asked.targets, asked.target_jobs, self.scales, self.default):
            try:
                self.graphs[scale]  # makes it
            except SpecError as error:
                raise refused(error) from None

    def explain(self, target: str) -> None:
        """Raise `WorkflowError` for a file that no rule makes, with the nearest that one does."""
        scale, place = place_of(Path(target)) or (self.default, target)
        try:
            if scale not in self.scales:
                raise SpecError(f"target: got {target!r}, but there is no scale {scale!r}"
                                f"{nearest(scale, self.scales)}")
            found = self.graphs[scale].target(place)
        except SpecError as error:
            raise WorkflowError(str(error)) from None
        raise WorkflowError(f"target: got {target!r}, allowed: the whole name of a file: {', '.join(found)}")

    def graph(self, wildcards: Any) -> Graph:
        """The graph of a job's scale."""
        return self.graphs[scale_of(wildcards)]

    def reads(self, kind: str) -> Callable:
        """Role -> input files of each job of a kind."""
        return inspected(lambda wildcards: self.graph(wildcards).reads(node(kind, wildcards)))

    def writes(self, kind: str, folder: str = "results/{scale}", beside: bool = False) -> dict[str, str]:
        """Role -> output file of a kind of job, with wildcards."""
        places = JOBS[kind].places_beside if beside else JOBS[kind].places
        return {role: f"{folder}/{place}" for role, place in places.items()}

    def told(self, kind: str) -> dict[str, Callable]:
        """The parameters of a job: its specification, the code that it reaches, and its files as options.

        The audit's page is told neither specification nor files. Paths become words of the command line here,
        which the rule quotes one by one (`:q`): no character of them means anything to a shell.
        """
        found = {"spec": lambda wildcards: to_json(self.asks(kind, wildcards)),
                 "code": lambda wildcards: digest(self.code(kind, wildcards)),
                 "files": lambda wildcards, input, output: self.files(kind, wildcards, input, output)}
        return {name: inspected(value) for name, value in found.items() if kind in STAGES or name == "code"}

    def asks(self, kind: str, wildcards: Any) -> Any:
        """The specification of a job."""
        return self.graph(wildcards).asks(node(kind, wildcards))

    def code(self, kind: str, wildcards: Any) -> dict[str, str] | None:
        """The code that a job reaches, by name and digest: an edit re-runs what depends on it, no more.

        None, for any code, at the paper's scale and at those that extend it: there a comment must not cost a
        cluster-week, and the audit reports what was made by other code.
        """
        if "paper" in self.graph(wildcards).experiments.lineage:
            return None
        if kind not in STAGES:
            return source_code.digests("ambient.audit.cli")
        return source_code.digests(STAGES[kind].recorded, plain(self.asks(kind, wildcards)))

    def files(self, kind: str, wildcards: Any, read: Any, written: Any) -> list[str]:
        """The files of a job as options of its stage. The state is undeclared: it is no result.

        What lies in the tree is the workflow's: a file without a manifest is written over.
        """
        row = JOBS[kind]
        given = {role: read.get(role) for role in row.reads}
        given |= self.graph(wildcards).outside(node(kind, wildcards))
        given |= {"state": state_of(kind, wildcards) if row.resumable else None}
        given |= {role: written.get(role) for role in row.outputs}
        return ["--replace", *(word for role, paths in given.items() if paths
                               for word in (option(role), *([paths] if isinstance(paths, str) else paths)))]

    def of_job(self, job: Any) -> Told | None:
        """What one of Snakemake's jobs would be told now, for `ambient.cluster.adopt`; None for no stage."""
        kind = kind_of(job)
        if kind not in STAGES:
            return None
        outside = self.graph(job.wildcards).outside(node(kind, job.wildcards)).values()
        return Told(kind, self.asks(kind, job.wildcards), self.code(kind, job.wildcards),
                    tuple(map(Path, outside)))

    def share(self, job: Any) -> float:
        """A job's part of the whole work, as minutes of its estimate at the place where it runs."""
        kind = kind_of(job)
        work = self.requests.work(kind, job.wildcards) if kind else LITTLE
        site = self.requests.site
        if self.workflow.local_exec:
            site = dataclasses.replace(site, hash_cpus=1)
            if not manifest.DRIVER.exists():
                site = dataclasses.replace(site, gpus=0, nodes=1)
        return work.minutes(site)

    def say_how_far_it_is(self) -> None:
        """A line a minute: what is done, what is at work, how long the rest will take."""
        overview.Overview(self.workflow.dag, self.share, logger.info).start()

    def look_only_when_a_job_ends(self) -> None:
        """Drop Snakemake's default limit of 100 starts a second; one asked for on the command line holds.

        Under it Snakemake looks for jobs again a second after each start and each end of one, over and over:
        after 165 jobs that kept a fifth of a core busy (9.27; its pull request #3744).
        """
        limit = self.workflow.scheduler.job_rate_limiter
        if limit and (limit.max_jobs, limit.timespan) == (100, 1):
            self.workflow.scheduler.job_rate_limiter = None


def refused(error: SpecError) -> WorkflowError:
    """What is wrong with the configuration, as an error that Snakemake prints without its own words."""
    return WorkflowError(f"configuration: {error}")


def print_efficiency(scale: str) -> None:
    """At the end of a run that computed something: GPU-hours, images/s, restarts of its jobs."""
    if Path(f"results/{scale}/runs").is_dir():
        subprocess.run([sys.executable, "-m", "ambient", "efficiency", f"results/{scale}"], check=False)


def kind_of(job: Any) -> str | None:
    """The kind of a job of Snakemake's; None for what only collects."""
    name = job.rule.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name if name in JOBS else None
