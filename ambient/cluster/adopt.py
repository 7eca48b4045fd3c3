"""Before Snakemake looks at dates and at records of its own: what do the manifests say?

A result whose manifest describes the very job that would make it (specification, code, inputs by digest, its
own digest) is kept, whatever became of Snakemake's records: it was copied from another machine, or the head
of its run was killed. One that differs is made again, and the difference is said. One that waits for others
to be made again is looked at once more when they are there: where they came out equal, it is kept too.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

from snakemake import api
from snakemake.exceptions import MissingRuleException, WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import ExecMode, RerunTrigger

from ambient.cluster import abandoned, replaced
from ambient.cluster.told import INPUT, MISSING, Judge
from ambient.cluster.touched import Touching
from ambient.provenance import manifest
from ambient.provenance.renewal import Renewals
from ambient.settings.asked import Told
from ambient.storage.text import printable

RENEWALS = Path(".snakemake/ambient-renewals.jsonl")
SHOWN = 20  # lines of differences at the start of a run


class Adopting(Touching):
    """Snakemake's jobs, of which those that the manifests describe are settled beforehand."""

    judge: Judge  # set by `install`, as are the next
    renewals: Renewals
    check: Callable[[], None]
    explain: Callable[[str], None]

    async def init(self, progress: bool = False) -> None:
        """As Snakemake does, after the configuration of what is asked for was checked."""
        self.check()
        self.makers: dict[str, list] = {}
        await super().init(progress)

    async def file2jobs(self, targetfile: str, wildcards_dict: dict | None = None) -> list:
        """As Snakemake does, once for a file: each job that reads it asks again."""
        if targetfile not in self.makers:
            try:
                self.makers[targetfile] = await super().file2jobs(targetfile, wildcards_dict)
            except MissingRuleException:
                if targetfile in self.targetfiles:
                    self.explain(targetfile)
                raise
        return self.makers[targetfile]

    def check_directory_outputs(self) -> None:
        """As Snakemake does, where the names alone say that an output is below another."""
        outputs = {path for job in self.jobs for path in job.output}
        folders = set(map(os.path.dirname, outputs))
        folders |= {str(above) for folder in folders for above in Path(folder).parents}
        if not outputs.isdisjoint(folders):
            super().check_directory_outputs()

    async def check_incomplete(self) -> None:
        """Settle what the manifests describe; make again what was cut short (its state resumes)."""
        self.asked_anew = frozenset(self.forcefiles)  # by the command line
        try:
            self.settled = self.settle()
        finally:
            self.judge.digests.save()  # of an interrupted start too: it may have read terabytes
        if self.executes() and abandoned.take_over(Path(self.workflow.persistence.path), logger.info):
            logger.info("The last run in this folder was killed: its lock is taken over.")
        if not self.ignore_incomplete:
            self.forcefiles.update(await self.incomplete_files())

    def executes(self) -> bool:
        """Whether this run starts jobs."""
        return self.workflow.execution_settings is not None and not self.workflow.dryrun

    async def incomplete_files(self) -> list:
        """Files that were being made when a run ended, but for those that are whole."""
        settled = {path for job in self.settled for path in job.output}
        return [path for path in await super().incomplete_files() if path not in settled]

    def settle(self) -> set:
        """The jobs whose outputs are as asked; those that are otherwise are named and made again."""
        as_asked, settled, lines = set(), set(), []
        self.judge.announce(self.jobs)
        for job in (job for level in self.toposorted() for job in level):
            if not job.output:
                continue
            above = all(parent in as_asked for parent in self.dependencies[job])
            there = present(job)
            told = self.judge.told(job)
            if told is None:
                if above and there and not self.workflow.persistence.has_metadata(job):
                    settled.add(job)  # nothing is known against it
                continue
            found = self.judge.differences(job, told) if there or self.recorded(job) else None
            if found == [] and above:
                as_asked.add(job)
                if self.executes():
                    self.note_made(job)
                    self.renew(job)
                settled.add(job)
            elif found and self.counts(found):
                deleted = self.deleted(job, found)
                self.forcefiles.update(deleted.values())
                found = [(path, one) for path, one in found if one.key not in deleted]
                if self.counts(found) and (there or self.needed_by_manifest(found)):
                    self.forcefiles.update(job.output)
                    lines += [f"{path}: {one}" for path, one in found if not one.key.startswith(INPUT)][:1]
        tell(lines)
        return settled

    def deleted(self, job: Any, found: list) -> dict[str, str]:
        """The inputs of a job that somebody deleted, by the key of their difference.

        They are made again. Whether they come out equal, and the job is kept, is seen then (`finish`).
        """
        absent = {f"{INPUT} {os.path.normpath(path)}": path for paths in self.dependencies[job].values()
                  for path in paths if not os.path.exists(path)}
        return {one.key: absent[one.key] for _, one in found if one.wanted is None and one.key in absent}

    def note_made(self, job: Any) -> None:
        """Note which manifests a job wrote, in this run or while the head of the last one was dead."""
        for output in map(Path, job.output):
            self.renewals.made(output)

    def renew(self, job: Any) -> None:
        """Have the manifests of a kept job name those that the workflow has replaced for the same bytes."""
        for output in map(Path, job.output):
            self.renewals.same(output)
            if any(map(self.renewals.concerns, map(Path, job.input))):
                self.renewals.renew(output)

    def register_running(self, jobs: Any) -> None:
        """As Snakemake does. What is asked for once more (`--force`) goes when its job starts.

        All else stays, and its stage looks at it: another run may have made it by now.
        """
        super().register_running(jobs)
        for job in chain.from_iterable(job if job.is_group() else [job] for job in jobs):
            if job.output and self.executes() and not self.workflow.touch:
                replaced.note(job, job.rule in self.forcerules or not self.asked_anew.isdisjoint(job.output))

    def begin(self) -> None:
        """Note of what is made anew that it is: of what has a manifest, or what follows has one."""
        for job in self._needrun:
            if self.judge.told(job) and any(map(self.recorded, (job, *self.depending[job]))):
                for output in map(Path, job.output):
                    self.renewals.begin(output)

    def recorded(self, job: Any) -> bool:
        """Whether each output has a manifest: it was pruned, or lost."""
        return all(manifest.path_for(Path(path)).is_file() for path in job.output)

    def needed_by_manifest(self, found: list) -> bool:
        """Whether a pruned job differs by more than the absence of its files."""
        return any(one.key != MISSING for _, one in found)

    def counts(self, found: list) -> bool:
        """Whether a difference is one that this run looks for (`--rerun-triggers`)."""
        triggers = {"code": RerunTrigger.CODE, "spec": RerunTrigger.PARAMS, INPUT: RerunTrigger.INPUT}
        return any(triggers.get(re.split(r"[ .]", one.key)[0], RerunTrigger.MTIME)
                   in self.workflow.rerun_triggers for _, one in found)

    def forced(self, job: Any) -> bool:
        return job.rule in self.forcerules or not self.forcefiles.isdisjoint(job.output)

    def update_conda_envs(self) -> None:
        """As Snakemake does, without working out every job's parameters, on which no environment depends."""
        for job in self.jobs:
            job._conda_env_spec = job.rule.expand_conda_env(job.wildcards_dict)
        super().update_conda_envs()

    async def update_needrun(self, create_inventory: bool = False) -> None:
        """As Snakemake does, without asking about the jobs that are settled and wait for nobody.

        What was pruned is among them where nobody reads it.
        """
        kept = {job for job in self.settled if not self.forced(job)}
        pruned = {job for job in kept if not present(job)}
        while True:
            self._finished |= kept
            await super().update_needrun(create_inventory)
            self._finished -= kept
            waiting = {job for job in kept
                       if any(parent in self._needrun for parent in self.dependencies[job])}
            waiting |= {job for job in kept & pruned
                        if job in self.targetjobs or not kept.issuperset(self.depending[job])}
            if not waiting:
                break
            kept -= waiting
        self._len = len(self._finished | self._needrun)
        self.refuse_outside()
        if self.executes():
            await self.write_records(kept - pruned)
            self.begin()

    def refuse_outside(self) -> None:
        """Refuse raw data and weights that are not there, or known not to be those that are pinned."""
        for job in self._needrun:
            told = self.judge.told(job)
            for path in told.outside if told else ():
                if not path.exists():
                    raise WorkflowError(f"{', '.join(job.output)}: no such file or folder {str(path)!r}, "
                                        "which the configuration names: correct the path there")
            for path in told.outside[:1] if told else ():  # `sha256` pins the first
                found = self.judge.digests.read_before(path)
                if found and told.spec.sha256 not in (None, found):
                    raise WorkflowError(
                        printable(f"{path}: sha256 is {found}, the configuration's sha256 is "
                                  f"{told.spec.sha256}: it has changed, or the wrong one is pinned. Put back "
                                  "what was there, or write the sha256 found into its entry"))

    async def write_records(self, kept: set) -> None:
        """Give back to Snakemake the records that were lost."""
        lost = [job for job in kept if not self.workflow.persistence.has_metadata(job)
                or await self.workflow.persistence.incomplete(job)]
        self.update_jobids()  # a record tells the shell command, which may tell the number of its job
        for job in lost:
            await self.workflow.persistence.finished(job)
        if lost:
            logger.info(f"Kept: the results of {len(lost)} jobs, which their manifests describe, though "
                        "Snakemake has no record of them.")

    async def finish(self, job: Any, update_checkpoint_dependencies: bool = True) -> bool:
        """As Snakemake does; what follows is kept where its inputs came out with the bytes that it read."""
        found = await super().finish(job, update_checkpoint_dependencies)
        if self.workflow.dryrun or self.workflow.touch:
            return found
        done = list(job) if job.is_group() else [job]  # of a group those that others wait for first
        for one in done:
            self.judge.note_made(one)
            self.note_made(one)
            self.renew(one)
        for child in {child for one in done for child in self.depending[one]}:
            if child in self._ready_jobs and not self.forced(child) and self.as_asked(child):
                self.renew(child)
                self._running.add(child)
                if present(child):
                    await self.workflow.persistence.finished(child)
                self.workflow.scheduler.finished_jobs += 1
                logger.info(f"Kept: {', '.join(child.output)}; what it is made of came out equal.")
                self.workflow.scheduler.progress()
                found |= await self.finish(child)
        self.judge.digests.save()
        return found

    def as_asked(self, job: Any) -> bool:
        """Whether manifests describe a job, whose outputs are there, or were pruned and nobody reads them."""
        return self.described(job) and (present(job) or self.unread(job))

    def described(self, job: Any) -> bool:
        """Whether a job's outputs are as their manifests say, which describe it; pruned ones are, too."""
        told = self.judge.told(job)
        return bool(job.output) and told is not None and not self.judge.differences(job, told)

    def unread(self, pruned: Any) -> bool:
        """Whether all that would read what was pruned is certain to be kept.

        A job is certain where its manifests describe it and all that it waits for is finished or certain.
        """
        waiting, seen = [pruned], set()
        while waiting:
            job = waiting.pop()
            if job in seen or job in self._finished or job not in self._needrun:
                continue
            seen.add(job)
            if self.is_running(job) or self.forced(job) or not self.described(job):
                return False
            waiting += self.dependencies[job]
            if not present(job):
                if job in self.targetjobs:
                    return False
                waiting += self.depending[job]
        return True


def present(job: Any) -> bool:
    """Whether all outputs of a job are there."""
    return all(map(os.path.exists, job.output))


def tell(lines: list[str]) -> None:
    """Say what is made again, and why."""
    for line in lines[:SHOWN]:
        logger.info(f"Made again: {line}")
    if len(lines) > SHOWN:
        logger.info(f"Made again: {len(lines) - SHOWN} more, for such reasons.")


def install(workflow: Any, told: Callable[[Any], Told | None], check: Callable[[], None],
            explain: Callable[[str], None]) -> None:
    """Have this run's jobs be held against manifests. A single job that another run has started is not.

    Snakemake has no hook between knowing its jobs and judging them, so its class is replaced by one of ours.
    `check` is called before there are any jobs, `explain` with a file that is asked for and that nothing
    makes. Raises what they raise.
    """
    replaced.leave(lambda job: told(job) is not None)
    if workflow.exec_mode == ExecMode.DEFAULT:
        Adopting.judge, Adopting.renewals = Judge(told, logger.info), Renewals(RENEWALS)
        Adopting.check, Adopting.explain = staticmethod(check), staticmethod(explain)
        inspect.getmodule(api.Workflow).DAG = Adopting
    else:
        inspect.getmodule(api.Workflow).DAG = Touching
