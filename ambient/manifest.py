"""Manifests: what is recorded beside each artefact, and how it is read back. Standard library only.

`x.csv` has `x.csv.manifest.json`, written by the job that made it, in the same step. No user names, host
names or absolute paths; what is unknown is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import struct
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from ambient import sources
from ambient.files import digest, read_json, sha256

FORMAT = 1
SUFFIX = ".manifest.json"
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "safetensors", "pandas", "matplotlib",
            "clean-fid", "mlxtend", "snakemake")
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
SCHEDULER = {"SLURM_JOB_ID": "job_id", "SLURM_JOB_PARTITION": "partition",
             "SLURM_RESTART_COUNT": "restarts", "SLURMD_NODENAME": "node",
             "CUDA_VISIBLE_DEVICES": "gpus"}
SCHEMA: dict[str, type] = {"format": int, "stage": str, "artefact": str, "sha256": str, "size": int,
                           "inputs": dict, "external": list, "spec": dict, "spec_sha256": str,
                           "code": dict, "environment": dict, "execution": dict, "facts": dict,
                           "seal": str}
OPTIONAL = {"content_sha256"}


def path_for(artefact: Path) -> Path:
    """Where an artefact's manifest lies."""
    return artefact.with_name(artefact.name + SUFFIX)


def artefact_of(path: Path) -> Path:
    """The artefact that a manifest describes."""
    return path.with_name(path.name.removesuffix(SUFFIX))


def content_sha256(path: Path) -> str:
    """Digest of a safetensors file's tensors by name: the order and metadata of the file don't matter."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        total = hashlib.sha256()
        for name in sorted(header):
            entry = header[name]
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            inner = hashlib.sha256(file.read(end - begin)).hexdigest()
            total.update(f"{name}|{entry['dtype']}|{entry['shape']}|{inner}\n".encode())
    return total.hexdigest()


def code(module: str) -> dict:
    """The source files behind a stage, one digest of them all, and the repository's state."""
    files = sources.digests(module)
    return {"module": module, "files": files, "sha256": digest(files), **sources.commit()}


def environment() -> dict:
    """Interpreter, machine and library versions; torch's devices if it is loaded."""
    found: dict = {"python": platform.python_version(), "system": platform.system(),
                   "machine": platform.machine(), "packages": {}}
    for name in PACKAGES:
        try:
            found["packages"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            found["cpu"] = value.strip()
        elif name.strip() in ("flags", "Features"):
            found["cpu_features"] = [f for f in CPU_FEATURES if f in value.split()]
            break
    lock = sources.ROOT / "environment.yml"
    if lock.is_file():
        found["lock_sha256"] = sha256(lock)
    if torch := sys.modules.get("torch"):
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
            found["cuda"] = torch.version.cuda
    return found


class Clock:
    """Start, end, and what the process used in between."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC)

    def execution(self) -> dict:
        """Times in UTC and seconds, peak memory in bytes, and the scheduler's job where there is one."""
        ended, usage = datetime.now(UTC), resource.getrusage(resource.RUSAGE_SELF)
        unit = 1 if sys.platform == "darwin" else 1024
        found = {"started": self.started.isoformat(timespec="seconds"),
                 "ended": ended.isoformat(timespec="seconds"),
                 "wall_sec": round((ended - self.started).total_seconds(), 3),
                 "cpu_sec": round(usage.ru_utime + usage.ru_stime, 3),
                 "peak_memory_bytes": usage.ru_maxrss * unit}
        scheduler = {name: os.environ[key] for key, name in SCHEDULER.items() if key in os.environ}
        return found | ({"scheduler": scheduler} if scheduler else {})


def build(artefact: Path, stage: str, spec: Mapping, inputs: Mapping[str, Sequence[tuple[Path, str]]],
          external: Sequence[Mapping], facts: Mapping, clock: Clock,
          made_by: Mapping | None = None) -> dict:
    """The manifest of an artefact; `inputs` are (path, sha256) by role.

    `made_by` is `code(stage)` from before the job ran; by default that of now.
    """
    found = {
        "format": FORMAT, "stage": stage, "artefact": artefact.name, "sha256": sha256(artefact),
        "size": artefact.stat().st_size,
        "inputs": {role: [{"path": Path(os.path.relpath(path, artefact.parent)).as_posix(),
                           "sha256": value} for path, value in entries]
                   for role, entries in inputs.items()},
        "external": list(external), "spec": dict(spec), "spec_sha256": digest(spec),
        "code": dict(made_by or code(stage)), "environment": environment(),
        "execution": clock.execution(), "facts": dict(facts)}
    if artefact.suffix == ".safetensors":
        found["content_sha256"] = content_sha256(artefact)
    return found | {"seal": digest(found)}


def describes(artefact: Path, stage: str, spec: Mapping, inputs: Mapping[str, Sequence[tuple[Path, str]]],
              made_by: Mapping) -> bool:
    """Whether `artefact` is there, whole, and was made by this stage, specification, code and inputs."""
    try:
        found = read(path_for(artefact))
        same = found["sha256"] == sha256(artefact)
    except (OSError, ValueError):
        return False
    digests = {role: [entry["sha256"] for entry in entries] for role, entries in found["inputs"].items()}
    return (same and found["stage"] == stage and found["spec_sha256"] == digest(spec)
            and found["code"]["sha256"] == made_by["sha256"]
            and digests == {role: [value for _, value in entries] for role, entries in inputs.items()})


def read(path: Path) -> dict:
    """Read a manifest. Raises `ValueError` naming the file and what is wrong with it.

    The seal, a digest of all the rest, finds damage anywhere; whoever rewrites a manifest can
    compute it anew.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a manifest")
    for key, kind in SCHEMA.items():
        if not isinstance(found.get(key), kind):
            raise ValueError(f"{path}: {key} is missing or not {kind.__name__}")
    for key in found.keys() - SCHEMA.keys() - OPTIONAL:
        raise ValueError(f"{path}: unknown key {key!r}")
    if found["format"] != FORMAT:
        raise ValueError(f"{path}: format {found['format']}, this version reads {FORMAT}")
    if digest(found["spec"]) != found["spec_sha256"]:
        raise ValueError(f"{path}: spec differs from spec_sha256")
    files = found["code"].get("files")
    if not isinstance(files, dict) or digest(files) != found["code"].get("sha256"):
        raise ValueError(f"{path}: code.files differ from code.sha256")
    for entries in found["inputs"].values():
        check_entries(path, "an input", entries, ("path", "sha256"))
        if any(Path(e["path"]).is_absolute() for e in entries):
            raise ValueError(f"{path}: an input with an absolute path")
    check_entries(path, "an external file", found["external"], ("file", "sha256"))
    if found["seal"] != digest({k: v for k, v in found.items() if k != "seal"}):
        raise ValueError(f"{path}: differs from its seal")
    return found


def check_entries(path: Path, what: str, entries: object, keys: Sequence[str]) -> None:
    """Raise `ValueError` unless `entries` is a list of objects with text under each of `keys`."""
    good = isinstance(entries, list) and all(
        isinstance(e, dict) and all(isinstance(e.get(key), str) for key in keys) for e in entries)
    if not good:
        raise ValueError(f"{path}: {what} without {' and '.join(keys)}")
