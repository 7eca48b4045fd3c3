"""The resumable state of a job: pieces of its work, each checked against the digest written with it.

A piece is one safetensors file with a sealed JSON record of its SHA-256, which is written last, so a piece is
either complete or not there. What is damaged is named, set aside, and made again. Every stage that can be
resumed keeps what it has done in such pieces. The folder goes when the manifests of the job are on disk.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ambient.jobs import ranks, records
from ambient.jobs.identity import Identity
from ambient.jobs.records import ASIDE
from ambient.jobs.stopping import patiently, say
from ambient.storage.arrays import write_by_rows
from ambient.storage.files import remove_all_temporaries, sha256

if TYPE_CHECKING:  # a job without tensors does without torch, which takes seconds to load
    import torch

JOB = {"SLURM_JOB_ID": "job_id", "SLURMD_NODENAME": "node", "CUDA_VISIBLE_DEVICES": "gpus"}
GENERATIONS = 2  # complete checkpoints kept, so that a damaged newest one costs one interval only
GO_ON = "AMBIENT_GO_ON_FROM"  # names the folder of a state of the same job by other code, to go on from it
SUFFIXES = (".json", ".safetensors", "")  # of a piece's record, file or folder; the record goes first
NAME = "note"  # in a note, its own name
CHECKPOINT = re.compile(r"checkpoint-(\d+)\.json")


class State:
    """The state of one job: a folder outside the workflow's declared outputs, which a failed job would lose.

    Each identity has a folder of its own below `folder`: work done under other settings or code is never
    mixed in, and never thrown away either. Of several ranks the first keeps order in it.
    """

    def __init__(self, folder: Path, owner: Identity, alone: bool = False) -> None:
        """`alone`: this job holds the lock of the folder, so that what is half written is of nobody."""
        self.root, self.owner, self.folder = Path(folder), owner, Path(folder) / owner.name
        if ranks.first():
            self.settle()
            if alone:
                self.sweep()
        ranks.barrier()

    def settle(self) -> None:
        """Make the folder and its record; go on from the state that the environment names; tell of others."""
        self.root.mkdir(parents=True, exist_ok=True)
        for other in sorted(path for path in self.root.iterdir() if path.is_dir() and path != self.folder):
            self.meet(other)
        self.folder.mkdir(exist_ok=True)
        about = recorded(self.folder)
        if not about and (path := self.folder / "identity.json").exists():
            records.set_aside(path, "damaged (no sound record)")
        went_on = about.get("went_on", [])
        if about.get("code", self.owner.code) != self.owner.code:
            went_on = [*went_on, {
                "code_sha256": [about["code_sha256"], self.owner.code_sha256],
                "files": {name: [about["code"].get(name), self.owner.code.get(name)]
                          for name in differing(about["code"], self.owner.code)}}]
        records.write(self.folder / "identity.json", {
            "job": self.owner.job, "code": dict(self.owner.code), "code_sha256": self.owner.code_sha256,
            "went_on": went_on})

    def sweep(self) -> None:
        """Remove what a killed attempt left: half a file, or a piece without its record, of many GB maybe."""
        remove_all_temporaries(self.folder)
        for path in self.folder.iterdir():
            piece = path.suffix == ".safetensors" or path.is_dir() and path.name.startswith("checkpoint-")
            if piece and ASIDE not in path.name and not path.with_suffix(".json").exists():
                remove(path)

    def meet(self, other: Path) -> None:
        """Take another state over if it is this job's and the environment names it; else say it is kept."""
        about, what = recorded(other), "state of other settings, data or code; kept, not used here"
        if about.get("job") == self.owner.job:
            if other.name == os.environ.get(GO_ON):
                if self.folder.exists():
                    records.set_aside(self.folder, f"{GO_ON} names another state")
                os.replace(other, self.folder)
                return
            changed = ", ".join(differing(about["code"], self.owner.code))
            what = (f"state of this very job by other code ({changed}); kept, not used here; "
                    f"{GO_ON}={other.name} goes on from it and records both codes")
        say(f"{other}: {what} (rm -r {other} removes it)")

    # --- pieces

    def put(self, name: str, tensors: Mapping[str, torch.Tensor], facts: Mapping | None = None) -> None:
        """Write a piece: tensors, and facts about them (JSON)."""
        path = self.folder / f"{name}.safetensors"
        write_by_rows(path, {key: tensor.detach().cpu().numpy() for key, tensor in tensors.items()})
        self.record(name, sha256(path), facts or {})

    def put_parts(self, name: str, tensors: Mapping[str, torch.Tensor], facts: Mapping) -> None:
        """Write a piece whose tensors several ranks share (`ambient.jobs.parted`); all of them call it.

        The others wait for the first rank at the end. Were its record to raise for a full disk, the whole
        would be tried again by this rank alone.
        """
        from ambient.jobs import parted

        digests = parted.write(self.folder / name, tensors)
        if ranks.first():
            patiently(self.record, name, digests, facts)
        ranks.barrier()

    def record(self, name: str, digests: str | Mapping[str, str], facts: Mapping) -> None:
        """Say that a piece is complete. Its name is told, too: two pieces may exchange all their files."""
        records.write(self.folder / f"{name}.json", {"piece": name, "sha256": digests, "facts": dict(facts)})

    def files(self, name: str, digests: str | Mapping[str, str]) -> dict[Path, str]:
        """The files of a piece, by what its record says, with the SHA-256 of each."""
        if isinstance(digests, str):
            return {self.folder / f"{name}.safetensors": digests}
        return {self.folder / name / file: digest for file, digest in digests.items()}

    def facts(self, name: str) -> dict | None:
        """The facts of a piece whose bytes are those that were written; None where it is not there.

        A damaged one is named and set aside: then it is not there.
        """
        path = self.folder / f"{name}.json"
        try:
            record = records.read(path)
            if record.get("piece", name) != name:  # code before this one told no name
                raise ValueError(f"it is the record of {record['piece']}")
            for file, digest in self.files(name, record["sha256"]).items():
                if sha256(file) != digest:
                    raise ValueError("its digest differs from the one recorded")
            return record["facts"]
        except (OSError, ValueError) as error:
            if path.exists():
                self.set_aside(name, f"damaged ({error})")
            return None

    def told(self, name: str) -> dict:
        """The facts of a piece that is known to be sound: its bytes are not looked at again."""
        return records.read(self.folder / f"{name}.json")["facts"]

    def note(self, name: str, facts: Mapping) -> None:
        """Leave something for the next attempt, as JSON. Its name is told: two files may change places."""
        records.write(self.folder / f"{name}.json", {**facts, NAME: name})

    def noted(self, name: str) -> dict:
        """What an attempt left; {} where none did, or nothing sound."""
        path = self.folder / f"{name}.json"
        try:
            found = records.read(path)
            if (other := found.pop(NAME, name)) != name:  # code before this one told no name
                raise ValueError(f"it is the record of {other}")
            return found
        except (OSError, ValueError) as error:
            if path.exists():
                records.set_aside(path, f"damaged ({error})")
            return {}

    def set_aside(self, name: str, why: str) -> None:
        """Take a piece out of use, and keep its files."""
        for suffix in SUFFIXES:
            if (path := self.folder / f"{name}{suffix}").exists():
                records.set_aside(path, why)

    def whole(self, name: str) -> tuple[Path, dict]:
        """(file, facts) of a piece. Raises `ValueError` where it is not there, whole."""
        path, facts = self.folder / f"{name}.safetensors", self.facts(name)
        if facts is None:
            raise ValueError(f"{path}: damaged or gone since it was written; the same command makes it again")
        return path, facts

    def get(self, name: str) -> tuple[dict[str, torch.Tensor], dict]:
        """(tensors, facts) of a piece. Raises `ValueError` where it is not there, whole."""
        from safetensors.torch import load_file

        path, facts = self.whole(name)
        return load_file(path), facts

    def restore(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put the tensors of a piece, that is known to be sound, back in place: one after the other.

        It may have been written by another number of ranks, which shared the tensors or did not.
        """
        from safetensors import safe_open

        from ambient.jobs import parted

        if (self.folder / name).is_dir():
            parted.read(self.folder / name, tensors)
            return
        with safe_open(self.folder / f"{name}.safetensors", framework="pt") as file:
            for key, tensor in tensors.items():
                parted.copy(tensor, file.get_tensor(key))

    # --- checkpoints

    def checkpoints(self) -> list[int]:
        """Positions (images seen) of the checkpoints, newest first."""
        found = (CHECKPOINT.fullmatch(path.name) for path in self.folder.glob("checkpoint-*.json"))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def save(self, position: int, tensors: Mapping[str, torch.Tensor], facts: Mapping) -> None:
        """Write a checkpoint, then forget all but the newest `GENERATIONS`.

        All ranks call it. The first writes, but where they share tensors: there each writes its own rows.
        """
        from ambient.jobs import parted

        if any(parted.is_shared(tensor) for tensor in tensors.values()):
            self.put_parts(f"checkpoint-{position}", tensors, facts)
        elif ranks.first():
            self.put(f"checkpoint-{position}", tensors, facts)
        for old in self.checkpoints()[GENERATIONS:] if ranks.first() else []:
            for suffix in SUFFIXES:
                remove(self.folder / f"checkpoint-{old}{suffix}")

    def newest(self, marks: tuple[int, ...] = (), piece: str = "") -> int:
        """Position of the newest sound checkpoint that leaves no damaged piece behind it; 0 where none does.

        `<piece>-<mark>` is written when a training passes each mark: one that is lost is made again from the
        last checkpoint before it, and what lies after that is set aside.
        """
        for position in self.checkpoints():
            lost = [mark for mark in marks if mark < position and self.facts(f"{piece}-{mark}") is None]
            if lost:
                self.set_aside(f"checkpoint-{position}", f"of no use, {piece}-{lost[0]} before it is lost")
            elif self.facts(f"checkpoint-{position}") is not None:
                return position
        return 0

    # --- what the manifest tells of it

    def begin(self, nimg: int, logged: int) -> None:
        """Note an attempt that goes on after `nimg` images, where `logged` had been done before it."""
        record = {"from_nimg": nimg, "repeated_nimg": max(logged - nimg, 0),
                  "code_sha256": self.owner.code_sha256}
        record |= {name: os.environ[key] for key, name in JOB.items() if os.environ.get(key)}
        path = self.folder / "attempts.jsonl"
        records.write_lines(path, [*records.lines(path), record])

    def history(self) -> dict:
        """How often the work was interrupted, images seen twice, and each attempt."""
        attempts = records.lines(self.folder / "attempts.jsonl")
        return {"resumptions": len(attempts) - 1, "attempts": attempts,
                "repeated_images": sum(a["repeated_nimg"] for a in attempts)}

    def remarks(self) -> dict:
        """What was out of the ordinary: files set aside as damaged, work that was done by other code."""
        aside = sorted(path.name for path in self.folder.glob(f"*{ASIDE}*"))
        went_on = recorded(self.folder).get("went_on")
        found = {"set_aside": aside, "went_on_by_other_code": went_on}
        return {name: value for name, value in found.items() if value}


def remove(path: Path) -> None:
    """Remove a file or folder, which need not be there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def recorded(folder: Path) -> dict:
    """What a state's folder says it belongs to; {} where it says nothing, or nothing sound."""
    try:
        return records.read(folder / "identity.json")
    except (OSError, ValueError):
        return {}


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The files that two codes do not share."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
