"""Weights on disk: safetensors, with a description of the network that they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ambient.storage.arrays import open_arrays, write_by_rows
from ambient.storage.files import naming

# What weights are of -> the key of a description that none but theirs has.
TOLD_BY = {"a denoiser": "num_classes", "a noise classifier": "offsets"}


def snapshot(nimg: int, std: float | None = None) -> str:
    """The prefix of a snapshot's tensors: `160/`; of an average of a further width `160-ema-0.1/`."""
    return f"{nimg}/" if std is None else f"{nimg}-ema-{std}/"


def save_weights(path: Path, tensors: Mapping[str, Tensor], description: Mapping) -> None:
    """Write tensors as safetensors with what is needed to rebuild the network, atomically.

    The description goes under one metadata key: with two the bytes would not be reproducible.
    """
    write_by_rows(path, {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()},
                  about=metadata_of(description))


def join_weights(path: Path, pieces: Iterable[Path], description: Mapping) -> None:
    """Write the tensors of several files as one, to the byte as `save_weights` would.

    Their rows pass through memory some at a time: the snapshots of a long training are larger than it.
    """
    tensors = {name: array for piece in pieces for name, array in open_arrays(piece, most=0).items()}
    write_by_rows(path, tensors, about=metadata_of(description))


def metadata_of(description: Mapping) -> dict[str, str]:
    """A description as the file's head has it."""
    return {"ambient": json.dumps(description, sort_keys=True)}


def read_description(path: Path, of: str | None = None) -> dict:
    """What `save_weights` stored beside the tensors; `of`: the name in `TOLD_BY` of what the file must hold.

    Raises `ValueError` naming a folder, a foreign file, or one that holds something else.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path}: is a folder, allowed: a file of weights in it")
    with naming(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "ambient" not in metadata:
        raise ValueError(f"{path}: holds no description of its network; was it written by ambient?")
    with naming(path):
        about = dict(json.loads(metadata["ambient"]))
    if of is not None and TOLD_BY[of] not in about:
        found = [name for name, key in TOLD_BY.items() if key in about]
        raise ValueError(f"{path}: holds {found[0] if found else 'another network'}, allowed: {of}")
    return about


def read_weights(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors under a prefix, which is taken off their names. Reads only those.

    Raises `ValueError` naming the file and a tensor whose values are not finite.
    """
    with naming(path), safe_open(path, framework="pt") as file:
        tensors = {name.removeprefix(prefix): file.get_tensor(name)
                   for name in file.keys() if name.startswith(prefix)}
    if bad := not_finite(tensors):
        raise ValueError(f"{path}: {bad}: damaged, or of a training that went astray; train it again "
                         "(with a lower lr, if it was the training)")
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The first of `tensors` that holds NaN or infinity, in words; empty where there is none."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    return f"{len(bad)} of {len(tensors)} tensors are not finite, the first is {bad[0]}" if bad else ""
