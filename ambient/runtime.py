"""The machine side of training: device, precision, and a state that survives any interruption."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ambient import sources, stopping
from ambient.files import atomic, digest, is_full, read_json, sha256, sync_folder, write_json
from ambient.strict import plain

JOB = {"SLURM_JOB_ID": "job_id", "SLURMD_NODENAME": "node", "CUDA_VISIBLE_DEVICES": "gpus"}
DISK_POLL = 20.0  # seconds between two attempts to write to a full disk
GENERATIONS = 2  # complete checkpoints kept, so that a damaged newest one costs one interval only


@cache
def device() -> torch.device:
    """The GPU where there is one, else the CPU.

    On a GPU float32 is float32 (torch has convolutions round to TF32 otherwise), and every operation is
    asked to repeat its bits, so that a resumed run ends as a whole one does: torch warns of any that can't.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    return torch.device("cuda")


def compile_for(network: nn.Module, evaluations: int) -> None:
    """Have torch compile a network on a GPU, where enough evaluations follow to repay the minutes it takes.

    AMBIENT_COMPILE_FROM: how many (default 20,000). Where compiling fails (it needs a C compiler), torch says
    so and goes on without.
    """
    if evaluations >= stopping.setting("AMBIENT_COMPILE_FROM") and next(network.parameters()).is_cuda:
        torch._dynamo.config.suppress_errors = True
        network.compile(dynamic=False)


@cache
def has_bfloat16(where: torch.device) -> bool:
    """Whether the processor itself multiplies bfloat16: emulated it is slow. Where not, says so once."""
    if where.type == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # names of x86 and of Arm
        able = torch.cpu.get_capabilities()
        found = any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if not found:
        print(f"{where.type}: no bfloat16 arithmetic here, float32 takes its place", file=sys.stderr)
    return found


def autocast(precision: str, where: torch.device) -> AbstractContextManager:
    """The network's arithmetic in `precision`; the weights, norms and losses stay float32."""
    enabled = precision == "bfloat16" and has_bfloat16(where)
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=enabled)


def identity(module: str, spec: object, *inputs: Path) -> str:
    """What a state belongs to: the specification, the inputs' digests and the code that reads them."""
    return digest({"spec": plain(spec), "inputs": [sha256(path) for path in inputs],
                   "code": sources.digests(module, plain(spec))})[:16]


def patiently(write: Callable, *arguments: object) -> None:
    """Call `write`, and where the disk is full try again until there is space or the process is told to stop.

    The work is in memory still: ending here would lose it, waiting does not.
    """
    while True:
        try:
            write(*arguments)
            return
        except OSError as error:
            if not is_full(error):
                raise
            stopping.say(f"{error.filename or 'disk'}: {error.strerror}; nothing is lost while this waits: "
                         f"free some space (next attempt in {DISK_POLL:.0f} s)")
            until = time.monotonic() + DISK_POLL
            while time.monotonic() < until:
                if why := stopping.reason():
                    stopping.leave(f"disk full and told to stop ({why}): going back to the last checkpoint")
                time.sleep(0.2)


class State:
    """The resumable state of one job: a folder outside the workflow's declared outputs.

    Snakemake deletes the outputs of a failed job; this folder it does not know. Each checkpoint is
    one safetensors file with its SHA-256 in a JSON file that is written last, so a checkpoint is
    either complete or not there. Each identity has a folder of its own below `folder`: work done
    under other settings or code is never mixed in, and never thrown away either.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self.root, self.folder = Path(folder), Path(folder) / owner
        self.folder.mkdir(parents=True, exist_ok=True)
        for other in sorted(self.root.iterdir()):
            if other.is_dir() and other != self.folder:
                print(f"{other}: state of other settings, data or code; kept, not used here",
                      file=sys.stderr)

    def checkpoints(self) -> list[int]:
        """Positions (images seen) of the complete checkpoints, newest first."""
        found = [int(path.stem.removeprefix("checkpoint-"))
                 for path in self.folder.glob("checkpoint-*.json")]
        return sorted(found, reverse=True)

    def save(self, position: int, tensors: Mapping[str, Tensor], facts: Mapping) -> None:
        """Write a checkpoint, then forget all but the newest `GENERATIONS`."""
        from safetensors.torch import save_file

        path = self.folder / f"checkpoint-{position}.safetensors"
        with atomic(path) as temporary:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
        write_json(path.with_suffix(".json"), {"sha256": sha256(path), "facts": dict(facts)})
        for old in self.checkpoints()[GENERATIONS:]:
            for suffix in (".json", ".safetensors"):
                (self.folder / f"checkpoint-{old}{suffix}").unlink(missing_ok=True)

    def load(self) -> tuple[int, dict[str, Tensor], dict] | None:
        """The newest sound checkpoint, or None. A damaged one is named, and the one before used."""
        from safetensors.torch import load_file

        for position in self.checkpoints():
            path = self.folder / f"checkpoint-{position}.safetensors"
            try:
                record = read_json(path.with_suffix(".json"))
                if sha256(path) != record["sha256"]:
                    raise ValueError("its digest differs from the one recorded")
                return position, load_file(path), record["facts"]
            except (OSError, ValueError, KeyError) as error:
                print(f"{path}: damaged ({error}); trying the one before", file=sys.stderr)
        return None

    def begin(self, nimg: int, logged: int) -> None:
        """Note an attempt that goes on after `nimg` images, where `logged` had been done before it."""
        record = {"from_nimg": nimg, "repeated_nimg": max(logged - nimg, 0)}
        record |= {name: os.environ[key] for key, name in JOB.items() if os.environ.get(key)}
        with open(self.folder / "attempts.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")

    def history(self) -> dict:
        """For the manifest: how often the work was interrupted, images seen twice, and each attempt."""
        lines = (self.folder / "attempts.jsonl").read_text().splitlines()
        attempts = [json.loads(line) for line in lines if line.endswith("}")]
        return {"resumptions": len(attempts) - 1, "attempts": attempts,
                "repeated_images": sum(a["repeated_nimg"] for a in attempts)}

    def remove(self) -> None:
        """Forget the state: the artefact it led to is on disk."""
        shutil.rmtree(self.root, ignore_errors=True)


def last_logged(path: Path) -> int:
    """The furthest position (images seen) in a log of JSON lines, 0 where there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return int(max((p for p in map(position_of, lines) if p != float("inf")), default=0))


@contextmanager
def line_log(path: Path, keep: int) -> Iterator:
    """Append JSON lines to `path`, after cutting off lines of positions beyond `keep` (a resume)."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if position_of(line) <= keep]
    with atomic(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
    with open(path, "ab", buffering=0) as file:
        def append(record: object) -> None:
            rest = json.dumps(record).encode() + b"\n"

            def some() -> None:
                nonlocal rest
                rest = rest[file.write(rest):]

            while rest:  # a full disk takes part of a line
                patiently(some)

        yield append
    sync_folder(path.parent)


def position_of(line: str) -> float:
    """The `nimg` of a log line; infinity for a line that a kill cut short."""
    try:
        return json.loads(line)["nimg"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
