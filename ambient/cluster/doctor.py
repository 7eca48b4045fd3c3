"""`python -m ambient doctor SCALE TARGET`: what a target costs, and what is missing before it goes to SLURM.

TARGET is one file or name of the scale (`results/table2a.csv`, `table2a`, `figure3`, ...). Without it, it is
`all`, what a bare run of the workflow makes. `SCALE_all` is everything that the scale can make.

Nothing heavy is imported and nothing is computed: seconds, on a login node.
"""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ambient.cluster import site as sites
from ambient.cluster.limits import largest, too_long
from ambient.cluster.outside import MISSING, NOTE, OK, Finding, licences, raw_data
from ambient.cluster.plan import disk_bytes, files, jobs, wanted
from ambient.cluster.site import Site
from ambient.diffusion.wholes import floor_of
from ambient.jobs.progress import spoken
from ambient.provenance.manifest import DRIVER
from ambient.provenance.source_code import ROOT
from ambient.settings import Experiments, home, scales
from ambient.settings.unreached import check_entries
from ambient.specs.strict import require

COMMANDS = ("sbatch", "squeue", "srun", "scancel", "scontrol", "sinfo")
LOCAL_FILE_SYSTEMS = {"tmpfs", "overlay", "ext4", "ext3", "xfs", "btrfs", "zfs", "ramfs"}
STATUS_SECONDS = 60  # three times the first status check of the profile: SLURM must remember a job so long


def output(*command: str) -> str | None:
    """What a command prints, or None where it fails or isn't there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def commands() -> Iterator[Finding]:
    """SLURM's commands."""
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    yield (MISSING, f"commands: {', '.join(absent)} not on PATH (load your site's SLURM module, or run on a "
           "login node)") if absent else (OK, "commands: " + ", ".join(COMMANDS))


def environment() -> Iterator[Finding]:
    """The pinned packages, as installed for this interpreter."""
    project = ROOT / "pyproject.toml"
    if not project.is_file():
        yield NOTE, f"environment: not compared, there is no {project}, which pins the packages"
        return
    pins, wrong = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"], []
    for name, pinned in (pin.split("==") for pin in pins):
        try:
            found = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            found = "none"
        if found != pinned:
            wrong.append(f"{name} {found} (pinned {pinned})")
    yield (MISSING, f"environment: {', '.join(wrong)}; equal bits need equal versions") if wrong else (
        OK, f"environment: {len(pins)} packages as pinned, {sys.executable}")


def cache() -> Iterator[Finding]:
    """Whether Snakemake can copy its rules to the cache in the home, as it does before all else."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(2**20))
            os.fsync(file.fileno())  # some file systems look at a quota only then
        yield OK, f"cache: {folder}"
    except OSError as error:
        yield MISSING, (f"cache: {folder}: {error.strerror}; Snakemake keeps copies of its rules there: free "
                        "some space, or export XDG_CACHE_HOME=FOLDER, a place that the nodes see")


def last_line(text: str) -> str:
    """The last line of what a command said."""
    return (text.strip().splitlines() or ["no message"])[-1]


def minutes(text: str) -> float:
    """SLURM's [days-]hours:minutes:seconds as minutes."""
    if text in ("infinite", "UNLIMITED", "n/a"):
        return math.inf
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    parts = parts + [0] * (3 - len(parts)) if days else [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + parts[0] * 60 + parts[1] + parts[2] / 60


def partitions(site: Site, folder: Path | str = "config") -> Iterator[Finding]:
    """Partitions, their time limits and GPUs, as sinfo lists them."""
    listed = output("sinfo", "-h", "-o", "%P|%l|%G")
    if listed is None:
        yield MISSING, "partition: sinfo gives no answer (is the controller up, is SLURM_CONF right?)"
        return
    rows = [line.split("|") for line in listed.splitlines()]
    default = next((name.rstrip("*") for name, *_ in rows if name.endswith("*")), None)
    for gpu in (False, True)[: 2 if site.gpus else 1]:
        kind, wanted = "GPU jobs" if gpu else "CPU jobs", site.partition_of(gpu) or default
        mine = [row for row in rows if row[0].rstrip("*") == wanted]
        if not mine:
            known = ", ".join(sorted({name.rstrip("*") for name, *_ in rows}))
            yield MISSING, f"partition: {wanted!r} for {kind} does not exist (known: {known})"
            continue
        longest = max(minutes(row[1]) for row in mine)
        if longest < site.max_minutes:
            yield MISSING, (f"partition: {wanted} allows {longest:.0f} minutes, max_minutes is "
                            f"{site.max_minutes} (set it in {sites.path(folder)})")
        gres = sorted({item for row in mine for item in row[2].split(",") if item.startswith("gpu")})
        if gpu and not gres:
            yield MISSING, f"GPU: partition {wanted} has none (set gpu_partition in {sites.path(folder)})"
        elif gpu and site.gpu_model and not any(f":{site.gpu_model}:" in item for item in gres):
            yield MISSING, f"GPU: no {site.gpu_model!r} in partition {wanted} (found: {', '.join(gres)})"
        else:
            yield OK, f"partition: {wanted} for {kind}" + (f", {', '.join(gres)}" if gpu else "")


def accepted(site: Site, gpu: bool, memory_mb: int = 0) -> Iterator[Finding]:
    """Whether SLURM would take a job with this site's settings (sbatch --test-only; nothing is submitted).

    `memory_mb` is what the largest job of its kind asks for, 0 where there is none.
    """
    options = {"--account": site.account, "--partition": site.partition_of(gpu), "--qos": site.qos,
               "--constraint": site.constraint, "--time": str(site.max_minutes),
               "--mem": str(memory_mb or ""), "--nodes": str(site.nodes) if gpu else None}
    line = ["sbatch", "--test-only", *(f"{key}={value}" for key, value in options.items() if value)]
    if gpu:
        line.append("--gpus=" + (f"{site.gpu_model}:" if site.gpu_model else "") + str(site.gpus))
        line.append(f"--cpus-per-task={site.cpus_per_gpu * site.gpus // site.nodes}")
    try:
        done = subprocess.run([*line, *site.slurm_extra.split(), "--wrap=true"], capture_output=True,
                              text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        yield MISSING, f"request: {error}"
        return
    what = f"request: a {'GPU' if gpu else 'CPU'} job of {site.max_minutes} minutes"
    what += f" and {memory_mb / 1e3:,.1f} GB, the most that one asks for," if memory_mb else ""
    yield (MISSING, f"{what} is refused: {last_line(done.stderr)}") if done.returncode else (
        OK, f"{what} would be accepted")


def account(site: Site, folder: Path | str = "config") -> Iterator[Finding]:
    """Whether the accounting knows the site's account: Snakemake's plugin asks it before each job.

    Where the accounting is off sbatch takes any account, and the plugin none: every job would fail.
    """
    if site.account is None:
        return
    name, file = site.account, sites.path(folder)
    answers = [output("sacctmgr", "-n", "-s", "list", "user", getpass.getuser(), "format=account%256"),
               output("sshare", "-U", "--format", "Account%256", "--noheader")]
    known = sorted({line.strip() for answer in answers for line in (answer or "").split("\n")} - {""})
    if answers == [None, None]:
        yield MISSING, ("account: every job would fail: the accounting is off (neither sacctmgr nor sshare "
                        f"answers), so that account {name!r} can't be looked up; leave account out of {file}")
    elif known and name.lower() not in map(str.lower, known):
        yield MISSING, f"account: {name!r} is none of yours: {', '.join(known)} (set it in {file})"
    else:
        yield OK, f"account: {name}"


def memory_of_jobs() -> Iterator[Finding]:
    """MinJobAge: a job that SLURM forgets before it was asked about is waited for without end."""
    found = re.search(r"MinJobAge\s*=\s*(\d+)", output("scontrol", "show", "config") or "")
    if found and int(found[1]) < STATUS_SECONDS:
        yield MISSING, (f"status: MinJobAge is {found[1]} s, squeue forgets finished jobs; lower "
                        "slurm-init-seconds-before-status-checks in slurm/config.yaml to a third of it")


def file_system(folder: Path) -> Iterator[Finding]:
    """Whether the results' folder is likely to be seen from the nodes."""
    kind, longest = "unknown", -1
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        mounts = []
    for _, point, name, *_ in mounts:
        if folder.resolve().is_relative_to(point) and len(point) > longest:
            kind, longest = name, len(point)
    yield (NOTE if kind in LOCAL_FILE_SYSTEMS else OK), f"shared file system: {folder} is on {kind}" + (
        ", which is usually local to one machine (`--submit` tries it from a node)"
        if kind in LOCAL_FILE_SYSTEMS else "")


def probe(site: Site) -> Iterator[Finding]:
    """A one-minute job that looks for this folder and the environment from a node."""
    code = "import importlib.metadata as m; print(m.version('torch'), m.version('snakemake'))"
    line = ["srun", "--ntasks=1", "--time=1", "--mem=500", f"--chdir={ROOT}"]
    line += [f"{key}={value}" for key, value in {"--account": site.account, "--qos": site.qos,
             "--partition": site.partition_of(False)}.items() if value]
    try:
        done = subprocess.run([*line, sys.executable, "-c", code], capture_output=True, text=True,
                              timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        yield MISSING, f"nodes: the probe did not run ({error})"
        return
    if done.returncode:
        yield MISSING, f"nodes: {sys.executable} in {ROOT} fails there: {last_line(done.stderr)}"
    else:
        yield OK, f"nodes: folder and environment seen from one (torch, snakemake: {done.stdout.strip()})"


def few_images(found: Experiments, target: str | None) -> Iterator[Finding]:
    """Samples and datasets that are too few for the features of their detector."""
    asked: dict[tuple[str, str], int] = {}  # (where the number is set, detector) -> images
    for job in wanted(found, target):
        if job.kind == "evaluate":
            run = job.names["run"]
            study = found.run(run).study
            detector = job.names.get("detector") or found.detectors(study)[0]
            asked[f"{found.sampling_key(run)}.num_samples", detector] = found.sampling(run).num_samples
        elif job.kind == "reference":
            name, detector = job.names["dataset"], job.names["detector"]
            spec = found.dataset(name)
            limits = [number for number in (spec.max_images, spec.num_images) if number is not None]
            if limits:  # of images of one's own nothing is known before they are read
                best = found.detector(detector).best
                asked[f"datasets.{name}", detector] = floor_of(min(limits), best.share if best else 1)
    for (key, detector), images in asked.items():
        if remark := found.detector(detector).remark(images):
            yield NOTE, f"detector {detector}: {key}: {remark}"


def costs(found: Experiments, site: Site, folder: Path, target: str | None = None) -> Iterator[Finding]:
    """Estimated jobs, files, GPU-hours and bytes, and whether the disk has room."""
    stages: dict[str, list[float]] = {}
    alone, minutes = dataclasses.replace(site, gpus=0, nodes=1, cpu_ranks=1, hash_cpus=1), 0.0
    for stage, work in jobs(found, target):
        gpu = site.gpus > 0 and work.gpu
        entry = stages.setdefault(stage, [0, 0.0, 0.0])
        entry[0] += 1
        held = site.ranks if gpu and work.ranks else 1 if gpu else work.cores(site)
        entry[1 if gpu else 2] += work.minutes(site) / 60 * held
        minutes += work.minutes(alone)
    for stage, (count, on_gpu, on_cpu) in stages.items():
        yield NOTE, f"  {stage:13} {count:5.0f} jobs  {on_gpu:9.1f} GPU-hours  {on_cpu:7.1f} CPU-hours"
    count, on_gpu, on_cpu = (sum(entry[i] for entry in stages.values()) for i in range(3))
    what = target or f"all of the scale {found.scale}"
    yield NOTE, (f"estimate for {what}: {count:.0f} jobs, {files(found, target):,} files, "
                 f"{on_gpu:,.{0 if on_gpu >= 10 else 1}f} GPU-hours at {site.gpu_tflops:g} Tflop/s, "
                 f"{on_cpu:,.0f} CPU-hours")
    if not DRIVER.exists():
        cores = len(os.sched_getaffinity(0))
        yield NOTE, (f"estimate without a GPU: {spoken(60 * minutes / cores)} of this machine's {cores} "
                     f"cores, at {site.cpu_tflops:g} Tflop/s each (cpu_tflops)")
    parts, free = disk_bytes(found, target), shutil.disk_usage(folder).free
    for kind, size in parts.items():
        yield NOTE, f"  {size / 1e9:11,.1f} GB of {kind}"
    need = parts.total()
    yield (OK if need < free else MISSING), (f"disk: about {need / 1e9:,.1f} GB needed in {folder}, "
                                             f"{free / 1e9:,.1f} GB free (a quota may leave you less)")


def slurm(found: Experiments, site: Site, submit: bool, folder: Path,
          target: str | None) -> Iterator[Finding]:
    """SLURM's commands, what it says of the site's settings, and which jobs are too large or too long."""
    yield from commands()
    yield from too_long(found, site, target, folder)
    if not all(shutil.which(name) for name in COMMANDS):
        return
    yield from partitions(site, folder)
    asked = largest(found, site, target)
    for gpu in (False, True)[: 2 if site.gpus else 1]:
        yield from accepted(site, gpu, asked[gpu])
    yield from account(site, folder)
    yield from memory_of_jobs()
    if submit:
        yield from probe(site)


def findings(scale: str, folder: Path, submit: bool, target: str | None = None) -> Iterator[Finding]:
    """Everything, in the order in which it would go wrong."""
    found, site = Experiments(folder, scale), sites.read(folder)
    check_entries(found)
    wanted(found, target)  # a target that the scale doesn't have is refused first
    file = sites.path(folder)
    yield OK, f"configuration: scale {scale}, {file if file.exists() else 'no site file: defaults'}"
    yield from environment()
    yield from cache()
    if submit or file.exists() or output("sinfo", "-h"):
        yield from slurm(found, site, submit, folder, target)
    else:
        yield NOTE, (f"SLURM: not looked at, since sinfo gives no answer here and there is no {file}. "
                     "`snakemake --cores N` needs none; for `--profile slurm` ask again on a login node")
    here = Path.cwd()  # where Snakemake runs, too: in the repository, or in what `--directory` names
    results = here / "results" if (here / "results").is_dir() else here
    yield from file_system(results)
    yield from raw_data(found, target)
    yield from licences(found, target)
    yield from few_images(found, target)
    yield from costs(found, site, results, target)


def main(arguments: list[str]) -> int:
    """Print what is in order and what is missing; status 1 if something is missing."""
    parser = argparse.ArgumentParser(prog="python -m ambient doctor", description=__doc__)
    parser.add_argument("scale", nargs="?", default="paper",
                        help="a scale, which is a file of config/scales (default: %(default)s)")
    parser.add_argument("target", nargs="?", default="all",
                        help="a file or name of the scale, or SCALE_all: everything (default: %(default)s, "
                             "what a bare run makes)")
    parser.add_argument("--config", type=Path, default=home(), help="folder of the YAML files (%(default)s)")
    parser.add_argument("--submit", action="store_true", help="also run a short job that looks from a node")
    given = parser.parse_args(arguments)
    missing, known = 0, scales(given.config)
    require(bool(known), "--config", str(given.config), "a folder with scales/*.yaml in it")
    require(given.scale in known, "scale", given.scale, ", ".join(known))
    for kind, line in findings(given.scale, given.config, given.submit, given.target):
        missing += kind == MISSING
        print(f"{kind:8}{line}", flush=True)
    print(f"{missing} missing" if missing else "nothing is missing")
    return int(missing > 0)
