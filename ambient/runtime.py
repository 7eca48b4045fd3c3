"""The machine side of training: device, precision, and a state that survives any interruption."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ambient import sources
from ambient.files import atomic, digest, read_json, sha256, sync_folder, write_json
from ambient.strict import plain

GENERATIONS = 2  # complete checkpoints kept, so that a damaged newest one costs one interval only


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str, where: torch.device) -> AbstractContextManager:
    """The network's arithmetic in `precision`; the weights, norms and losses stay float32."""
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def checkpoint_seconds() -> float:
    """Work that may be lost: seconds between checkpoints (AMBIENT_CHECKPOINT_SECONDS, default 120)."""
    return float(os.environ.get("AMBIENT_CHECKPOINT_SECONDS", "120"))


def identity(module: str, spec: object, *inputs: Path) -> str:
    """What a state belongs to: the specification, the inputs' digests and the code that reads them."""
    return digest({"spec": plain(spec), "inputs": [sha256(path) for path in inputs],
                   "code": sources.digests(module)})[:16]


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

    def remove(self) -> None:
        """Forget the state: the artefact it led to is on disk."""
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def line_log(path: Path, keep: int) -> Iterator:
    """Append JSON lines to `path`, after cutting off lines of positions beyond `keep` (a resume)."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if position_of(line) <= keep]
    with atomic(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
    with open(path, "a", buffering=1) as file:
        yield lambda record: file.write(json.dumps(record) + "\n")
    sync_folder(path.parent)


def position_of(line: str) -> float:
    """The `nimg` of a log line; infinity for a line that a kill cut short."""
    try:
        return json.loads(line)["nimg"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
