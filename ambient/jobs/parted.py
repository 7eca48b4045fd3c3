"""Tensors of which several ranks have some rows each, on disk: a folder, to which each rank writes a file.

`torch.distributed.checkpoint` writes and reads them, as safetensors that say which rows they hold. They may
be read by another number of ranks, or by one: each reads the rows that it needs.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import distributed

from ambient.jobs import ranks
from ambient.jobs.stopping import patiently
from ambient.storage.files import sha256, sync_folder


def is_shared(tensor: torch.Tensor) -> bool:
    """Whether several ranks have some rows of a tensor each."""
    return hasattr(tensor, "full_tensor")


def write(folder: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Write a folder, by all ranks together; the SHA-256 of each file in it, by name.

    It is complete when it has its name. Raises the error of whichever rank can't write, on all. What the
    first rank does alone after that waits for space by itself: the others don't begin again with it.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageWriter, save
    from torch.distributed.checkpoint.api import CheckpointException

    began = folder.with_name("unfinished")
    if ranks.first():
        for path in (began, folder):
            shutil.rmtree(path, ignore_errors=True)
        began.mkdir()
    ranks.barrier()
    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(began), save_distributed=True))
    except CheckpointException as failed:
        raise next(iter(failed.failures.values()))[0] from None
    own = {path.name: sha256(path) for path in began.glob(f"shard-{ranks.rank() + 1:05d}-*")}
    every: list[dict[str, str]] = [{}] * ranks.size()
    distributed.all_gather_object(every, own)
    if ranks.first():
        patiently(os.replace, began, folder)
        patiently(sync_folder, folder.parent)
    return {name: digest for digests in every for name, digest in digests.items()}


@torch.no_grad()
def read(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Read into tensors, in place, the rows that each has here. Each rank reads for itself."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as it is asked to be
        load({name: tensor.detach() for name, tensor in tensors.items()},
             storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


@torch.no_grad()
def copy(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy a whole tensor into one that several ranks may share: each takes its own rows."""
    if is_shared(target):
        from torch.distributed.tensor import distribute_tensor

        source = distribute_tensor(source, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(source)
