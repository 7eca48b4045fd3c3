# What each job asks of the machine, from the work to be done and the site's settings; no rules. Nothing here
# changes a result. Local runs read `run` only.

import subprocess

from snakemake.logging import logger
from snakemake.resources import Resource

from ambient.cluster import site as sites
from ambient.cluster.cost import Costs, Work
from ambient.cluster.overview import Overview

try:
    SITE = sites.read(settings.home())
except SpecError as error:
    raise WorkflowError(f"configuration: {error}")

# The shell outlives what tells its stage to stop (SIGTERM, Ctrl-C, a closed terminal), so that the stage can save
# and still be heard. A trap with a command in it is the shell's alone: the stage begins with the signals' own meaning.
# `keep FILE` shows what it reads and writes it to FILE; the log of an earlier attempt becomes FILE.1, FILE.2, ...
# Under a live display (`--logger rich`) it only writes: lines of jobs would tear that apart.
STOPS = "TERM INT HUP"
SHOWN = "cat >" if "rich" in workflow.output_settings.log_handler_settings else "tee"
shell.prefix(
    f"set -euo pipefail; trap : {STOPS}; "
    f"keep() {{{{ trap '' {STOPS}; local n=1; "
    'while [ -e "$1.$n" ]; do n=$((n + 1)); done; '
    f'if [ -s "$1" ]; then mv "$1" "$1.$n"; fi; {SHOWN} "$1"; }}}}; '
)

COSTS = {scale: Costs(found) for scale, found in EXPERIMENTS.items()}
RESUMABLE = ("classify", "annotate", "train", "sample", "detector")
# The wildcards by which `Costs` is asked, in order.
KEYS = {
    "prepare": ["dataset"],
    "corrupt": ["study"],
    "classify": ["study", "classifier"],
    "annotate": ["study", "annotation"],
    "train": ["run"],
    "sample": ["run"],
    "detector": ["dataset", "detector"],
    "reference": ["dataset", "detector"],
    "evaluate": ["run"],
    "locality": ["study"],
    "combine": ["run"],
    "table": [],
}
KNOWN_WORK = {}


def work(kind, wildcards):
    """The work of a job; one calculation for all seeds of a run."""
    key = (scale_of(wildcards), kind, *(wildcards[name] for name in KEYS[kind]))
    if key not in KNOWN_WORK:
        KNOWN_WORK[key] = getattr(COSTS[key[0]], kind)(*key[2:])
    return KNOWN_WORK[key]


def on_gpu(kind, wildcards):
    return SITE.gpus > 0 and work(kind, wildcards).gpu


def gpus(kind, wildcards):
    if not on_gpu(kind, wildcards):
        return None
    return SITE.gpus if work(kind, wildcards).ranks else 1


def cpus(kind, wildcards):
    """Cores of a task with GPUs. Without, they are its threads: more would change the bits."""
    if not on_gpu(kind, wildcards):
        return None
    return SITE.cpus_per_gpu * (1 if spread(kind, wildcards) else gpus(kind, wildcards))


def ranks(kind, wildcards):
    try:
        return work(kind, wildcards).processes(SITE)
    except SpecError as error:
        raise WorkflowError(f"configuration: {error}")


def launcher(kind, wildcards):
    """How a stage is started, on one rank or several."""
    number = ranks(kind, wildcards)
    nodes = SITE.nodes if number > 1 else 1
    return "python -m ambient run" + (f" --ranks {number} --nodes {nodes}" if number > 1 else "")


def spread(kind, wildcards):
    """Whether a job runs on several nodes: then `srun` starts its ranks, one task each."""
    return SITE.nodes > 1 and ranks(kind, wildcards) > 1


def several(kind, wildcards, per_node):
    """Tasks of a job on several nodes; the plugin wants them by node with GPUs, in all without."""
    if not spread(kind, wildcards) or per_node != on_gpu(kind, wildcards):
        return None
    return SITE.ranks // SITE.nodes if per_node else SITE.ranks


def given(name, wildcards):
    """What `--default-resources` says: a rule that gives None of its own would hide it."""
    found = (workflow.resource_settings.default_resources or {}).get(name)
    if found is None or not found.is_evaluable():
        return found and found.value
    return Resource.cli_evaluator(
        name, found.raw, wildcards=wildcards, input=[], attempt=1, async_run=workflow.async_run
    )


def extra(kind, wildcards):
    """Further options of sbatch: a resumable job is told to stop before its time limit."""
    signal = f"--signal=TERM@{SITE.stop_seconds}" if kind in RESUMABLE else ""
    own = SITE.slurm_extra or given("slurm_extra", wildcards) or ""
    return f"{signal} {own}".strip() or None


def resources(kind):
    """The `resources` of a rule, each a function of the job."""
    return {
        "run": lambda wildcards: launcher(kind, wildcards),
        "runtime": lambda wildcards, attempt: work(kind, wildcards).limit(SITE, attempt),
        "mem_mb": lambda wildcards, attempt: round(
            (1 + 0.5 * (attempt - 1)) * work(kind, wildcards).memory(SITE)
        ),
        "gpu": lambda wildcards: gpus(kind, wildcards),
        "cpus_per_task": lambda wildcards: cpus(kind, wildcards),
        "gpu_model": lambda wildcards: (
            SITE.gpu_model or given("gpu_model", wildcards) if on_gpu(kind, wildcards) else None
        ),
        "slurm_partition": lambda wildcards: (
            SITE.partition_of(on_gpu(kind, wildcards)) or given("slurm_partition", wildcards)
        ),
        "slurm_account": lambda wildcards: SITE.account or given("slurm_account", wildcards),
        "constraint": lambda wildcards: SITE.constraint or given("constraint", wildcards),
        "qos": lambda wildcards: SITE.qos or given("qos", wildcards),
        "nodes": lambda wildcards: SITE.nodes if spread(kind, wildcards) else None,
        "mpi": lambda wildcards: "srun" if spread(kind, wildcards) else None,
        "tasks": lambda wildcards: several(kind, wildcards, per_node=False),
        "tasks_per_node": lambda wildcards: several(kind, wildcards, per_node=True),
        "slurm_extra": lambda wildcards: extra(kind, wildcards),
    }


def look_only_when_a_job_ends():
    """Drop Snakemake's default limit of 100 starts a second; one asked for on the command line holds.

    Under it Snakemake looks for jobs again a second after each start and each end of one, over and over: after 165
    jobs that kept a fifth of a core busy (9.27; its pull request #3744).
    """
    limit = workflow.scheduler.job_rate_limiter
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def share(job):
    """A job's part of the whole work, as minutes of its estimate."""
    kind = job.rule.name if job.rule.name in KEYS else "table"
    return work(kind, job.wildcards).minutes(SITE)


def say_how_far_it_is():
    """A line a minute: what is done, what is at work, how long the rest will take."""
    Overview(workflow.dag, share, logger.info).start()


def print_efficiency(scale):
    """At the end of a run that computed something: GPU-hours, images/s, restarts of its jobs."""
    if os.path.isdir(f"results/{scale}/runs"):
        subprocess.run([sys.executable, "-m", "ambient", "efficiency", f"results/{scale}"], check=False)
