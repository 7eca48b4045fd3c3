"""Trainings one after the other: what a phase leaves for the next, and how the next one begins with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ambient.jobs import parted
from ambient.specs import StartSpec
from ambient.storage.files import naming
from ambient.training.weights import snapshot

STATE = "state/"  # the prefix of a phase's last weights and moments, in the file of its weights
LEFT = ("weights.", "step.", "exp_avg.", "exp_avg_sq.")  # of a training's tensors, those that a phase leaves


def left(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a phase leaves for one that goes on with its moments, of all that its training needs to go on."""
    return {STATE + name: tensor for name, tensor in tensors.items() if name.startswith(LEFT)}


def flattened(groups: Mapping[str, Mapping[str, Tensor]]) -> Iterator[tuple[str, str, Tensor]]:
    """(group, parameter, tensor) of each tensor of a training."""
    for group, tensors in groups.items():
        for parameter, tensor in tensors.items():
            yield group, parameter, tensor


@torch.no_grad()
def begin(path: Path, spec: StartSpec, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Put what another phase left into the groups of a training to come; averages begin as copies.

    Buffers, such as a table of positions for images of another size, are its own. Raises `ValueError` naming
    the file and the first tensor that is missing or of another shape.
    """
    prefix = STATE if spec.moments else None
    with naming(path), safe_open(path, framework="pt") as file:
        there = set(file.keys())
        for group, parameter, tensor in flattened(groups):
            if group.startswith("ema") or group == "weights":
                source = f"{prefix}weights.{parameter}" if prefix else snapshot(spec.nimg) + parameter
            elif prefix:
                source = f"{prefix}{group}.{parameter}"
            else:
                continue
            if source not in there:
                raise ValueError(f"has no tensor {source}: " + (
                    "it was trained without keep_state" if prefix else "it is of another network"))
            found = file.get_tensor(source)
            if found.shape != tensor.shape:
                raise ValueError(f"{source} has the shape {tuple(found.shape)}, this training's "
                                 f"{tuple(tensor.shape)}")
            parted.copy(tensor, found)
