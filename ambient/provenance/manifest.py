"""Manifests: what is recorded beside each artefact, and how it is read back. Standard library only.

`x.csv` has `x.csv.manifest.json`, written by the job that made it, in the same step. No user names, host
names or absolute paths; what is unknown is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from ambient.provenance import schema, source_code
from ambient.provenance.reading import FORMAT, parse
from ambient.provenance.reading import json_text as json_text  # part of what this module offers
from ambient.provenance.tensors import Tensors
from ambient.storage import hashing, regular
from ambient.storage.digests import signature
from ambient.storage.files import canonical_json, digest, sha256, sha256_of_raw

SUFFIX = ".manifest.json"
LARGEST = 16 * 2**20  # bytes of a manifest; a table of a thousand runs has a few hundred thousand
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "safetensors", "pandas", "matplotlib",
            "clean-fid", "mlxtend", "snakemake")
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
SCHEDULER = {"SLURM_JOB_ID": "job_id", "SLURM_JOB_PARTITION": "partition",
             "SLURM_RESTART_COUNT": "restarts", "SLURMD_NODENAME": "node",
             "CUDA_VISIBLE_DEVICES": "gpus"}
DRIVER = Path("/proc/driver/nvidia/version")
STATUS = Path("/proc/self/status")  # Linux


def path_for(artefact: Path) -> Path:
    """Where an artefact's manifest lies."""
    return artefact.with_name(artefact.name + SUFFIX)


def artefact_of(path: Path) -> Path:
    """The artefact that a manifest describes."""
    return path.with_name(path.name.removesuffix(SUFFIX))


def content_sha256(path: Path) -> str:
    """Digest of a safetensors file's tensors by name: the order and metadata of the file don't matter."""
    tensors = Tensors(path)
    hashing.feed(path, [tensors.update])
    return tensors.hexdigest()


def digests(path: Path, seen: hashing.Seen = hashing.unseen) -> tuple[str, str | None]:
    """(SHA-256 of a file, that of its tensors or None where it is no safetensors file), by one reading."""
    if path.suffix != ".safetensors":
        return hashing.sha256(path, seen), None
    whole, tensors = hashlib.sha256(), Tensors(path)
    hashing.feed(path, [whole.update, tensors.update], seen)
    return whole.hexdigest(), tensors.hexdigest()


def code(module: str, spec: Mapping | None = None) -> dict:
    """The source code behind a job of specification `spec`, one digest of it all, the repository's state."""
    files = source_code.digests(module, spec)
    return {"module": module, "files": files, "sha256": digest(files),
            "bookkeeping": source_code.bookkeeping_digests(module), **source_code.commit()}


def environment() -> dict:
    """Interpreter, machine and library versions; torch's devices if it is loaded."""
    found: dict = {"python": platform.python_version(), "system": platform.system(),
                   "release": platform.release(), "machine": platform.machine(),
                   "packages": versions(), **processor()}
    if libc := "-".join(filter(None, platform.libc_ver())):
        found["libc"] = libc
    lock = source_code.ROOT / "environment.yml"
    if lock.is_file():
        found["lock_sha256"] = sha256(lock)
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        found["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        if torch.cuda.is_available():
            found["gpu"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
            if DRIVER.is_file() and (number := re.search(r"\d+\.\d[\d.]*", DRIVER.read_text())):
                found["driver"] = number[0]
    return found


@cache
def versions() -> dict:
    """Installed versions of the packages that a result may depend on."""
    from importlib import metadata  # a stage up to its command line does without

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> dict:
    """The CPU's model and those of its features that change the arithmetic, where they can be read."""
    found: dict = {}
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return found
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            found["cpu"] = value.strip()
        elif name.strip() in ("flags", "Features"):
            found["cpu_features"] = [f for f in CPU_FEATURES if f in value.split()]
            break
    return found


def scheduler() -> dict:
    """The scheduler's job, its partition, and how often it was requeued; {} without one."""
    return {name: os.environ[key] for key, name in SCHEDULER.items() if os.environ.get(key)}


def now() -> datetime:
    """The present in UTC."""
    return datetime.now(UTC)


def peak_memory() -> int:
    """The most bytes that this process, or one that it started, has had in memory.

    Linux hands the peak of a process down to those that it starts: by `getrusage` alone a small job would
    have taken what the workflow's engine took. `VmHWM` is of this process alone.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    own, children = (resource.getrusage(who).ru_maxrss * unit
                     for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    if STATUS.is_file() and (found := re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)):
        own = int(found[1]) * 1024
    return max(own, children)


class Clock:
    """Start, end, and what the process and its children used in between."""

    def __init__(self, ranks: int = 1) -> None:
        """`ranks`: of the job."""
        self.started, self.ranks = now(), ranks

    def execution(self) -> dict:
        """Times in UTC and seconds, peak memory in bytes, and the scheduler's job where there is one.

        gpu_sec: wall time of a job on GPUs, times the number of its ranks, each of which holds one.
        """
        ended = now()
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        wall = round((ended - self.started).total_seconds(), 3)
        found = {"started": self.started.isoformat(timespec="seconds"),
                 "ended": ended.isoformat(timespec="seconds"), "wall_sec": wall,
                 "cpu_sec": round(sum(u.ru_utime + u.ru_stime for u in usage), 3),
                 "peak_memory_bytes": peak_memory()}
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_initialized():
            devices = range(torch.cuda.device_count())
            found |= {"gpu_sec": round(wall * self.ranks, 3),
                      "peak_gpu_bytes": sum(torch.cuda.max_memory_allocated(i) for i in devices)}
        where = scheduler()
        return found | ({"scheduler": where} if where else {})


def build(artefact: Path, stage: str, spec: Mapping,
          inputs: Mapping[str, Sequence[tuple[Path, str, str | None]]],
          external: Sequence[Mapping], facts: Mapping, clock: Clock, made_by: Mapping | None = None,
          interrupted: Sequence[Mapping] = (), root: Mapping | None = None,
          outputs: Mapping[str, tuple[Path, str]] | None = None,
          tensors: Mapping[Path, str | None] | None = None) -> dict:
    """The manifest of an artefact; `inputs` are those of `identify` by role.

    `made_by` is `code(stage, spec)` from before the job ran; by default that of now. `interrupted` are
    earlier attempts at the same job, `root` the Merkle root of the manifests below a table;
    `outputs` are all the files that the job made, (path, sha256) by the stage's name for them, `tensors` the
    digests of their tensors; an artefact that is none of them is hashed here.
    Raises `ValueError` for what a manifest must not hold.
    """
    hashed = dict((outputs or {}).values())
    found = {
        "format": FORMAT, "stage": stage, "artefact": artefact.name,
        "sha256": hashed.get(artefact) or sha256(artefact),
        "size": artefact.stat().st_size,
        "inputs": {role: [entry(artefact, *found) for found in entries]
                   for role, entries in inputs.items()},
        "external": list(external), "spec": dict(spec), "spec_sha256": digest(spec),
        "code": dict(made_by or code(stage, spec)), "environment": environment(),
        "execution": clock.execution(), "facts": dict(facts)}
    if interrupted:
        found["execution"]["interrupted"] = list(interrupted)
    if root:
        found["root"] = dict(root)
    if outputs:
        found["outputs"] = {role: entry(artefact, path, value, None)
                            for role, (path, value) in outputs.items()}
    if artefact.suffix == ".safetensors":
        found["content_sha256"] = (tensors or {}).get(artefact) or content_sha256(artefact)
    found |= {"seal": digest(found)}
    schema.MANIFEST(json.loads(canonical_json(found)), "")
    return found


def refuse_early(targets: Mapping[str, Path], stage: str, spec: Mapping,
                 inputs: Mapping[str, Sequence[tuple[Path, str, str | None]]], clock: Clock, made_by: Mapping,
                 interrupted: Sequence[Mapping]) -> None:
    """Raise `ValueError` for what the manifests of a job must not hold, as far as it is known at its begin.

    `build` would say so at its end: of a text in the specification, a file's name, or the scheduler's words.
    """
    known = {"stage": stage, "spec": dict(spec), "code": dict(made_by), "environment": environment(),
             "execution": clock.execution() | {"interrupted": list(interrupted)}}
    for artefact in targets.values():
        schema.BEGUN(known | {
            "artefact": artefact.name,
            "inputs": {role: [entry(artefact, *one) for one in entries] for role, entries in inputs.items()},
            "outputs": {role: entry(artefact, path, "0" * 64, None) for role, path in targets.items()}}, "")


def entry(artefact: Path, path: Path, value: str, seal: str | None) -> dict:
    """An input: its path from the artefact's folder, its digest, and the seal of its own manifest.

    The seal ties a manifest to all those before it: a manifest that is rewritten later, with a new
    seal, is not the one that its descendants saw.
    """
    found = {"path": Path(os.path.relpath(path, artefact.parent)).as_posix(), "sha256": value}
    return found | ({"seal": seal} if seal else {})


def identify(path: Path, seen: hashing.Seen = hashing.unseen) -> tuple[Path, str, str | None]:
    """A file as an input: (path, SHA-256, seal of its manifest, or None where it has none)."""
    record = path_for(path)
    return path, hashing.sha256(path, seen), read(record)["seal"] if record.is_file() else None


def describes(artefact: Path, stage: str, spec: Mapping,
              inputs: Mapping[str, Sequence[tuple[Path, str, str | None]]], made_by: Mapping,
              outside: Sequence[Path] = ()) -> bool:
    """Whether `artefact` is there, whole, and was made by this stage, specification, code and inputs.

    `outside` are the raw data and weights from outside the tree, in the order in which the stage records
    them. The seals of inputs count where the stage writes down their levels.
    """
    sealed = source_code.states_levels(stage)
    wanted = {role: [entry(artefact, path, value, seal if sealed else None) for path, value, seal in entries]
              for role, entries in inputs.items()}
    try:
        found = read(path_for(artefact))
        read_from = {role: [one if sealed else {"path": one["path"], "sha256": one["sha256"]}
                            for one in entries] for role, entries in found["inputs"].items()}
        return (found["stage"] == stage and found["spec_sha256"] == digest(spec)
                and found["code"]["sha256"] == made_by["sha256"] and read_from == wanted
                and found["sha256"] == sha256(artefact) and len(outside) <= len(found["external"])
                and all(one["sha256"] == sha256_of_raw(path, hashing.cores())[0]
                        for path, one in zip(outside, found["external"], strict=False)))
    except (OSError, ValueError):
        return False


def is_current(artefact: Path) -> bool:
    """Whether a file has a manifest, and by its times has not changed since that was written."""
    try:
        return max(signature(artefact)[1:]) <= os.stat(path_for(artefact)).st_mtime_ns
    except OSError:
        return False


@contextmanager
def staying_current(artefacts: Iterable[Path]) -> Iterator[None]:
    """Let the manifests that are current be so after what sets times of their files, and changes no byte.

    One that can't be touched is current no more: then its file is hashed where its digest is wanted.
    """
    current = list(filter(is_current, artefacts))
    yield
    for artefact in current:
        with suppress(OSError):
            os.utime(path_for(artefact))


def read(path: Path) -> dict:
    """Read a manifest. Raises `ValueError` naming the file and what is wrong with it."""
    try:
        return parse(regular.read(path, LARGEST))
    except (ValueError, RecursionError) as error:
        what = "not valid JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
        raise ValueError(f"{path}: {str(what).removeprefix(f'{path}: ')}") from None


def read_below(folder: Path, skipped: Callable[[str], None]) -> Iterator[tuple[Path, dict]]:
    """(artefact, manifest) for every manifest below a folder, by path.

    `skipped` gets a line for each unsound one, for each folder that can't be read, and for each link to a
    folder, which is not followed: it may lead out of this one.
    """
    for path, kind in regular.below(folder):
        if kind == regular.LINK and regular.kind(path) == regular.FOLDER:
            kind = f"{regular.FOLDER} by a link, which is not followed"
        if kind.startswith(regular.FOLDER) and not path.name.startswith("."):
            skipped(f"{path}: {kind}")
        if kind.startswith(regular.FOLDER) or not path.name.endswith(SUFFIX):
            continue
        try:
            if kind != regular.FILE:
                raise ValueError(f"{path}: {kind}, not a regular file")
            yield artefact_of(path), read(path)
        except (OSError, ValueError) as error:
            skipped(str(error))
