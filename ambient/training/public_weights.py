"""Tensors of networks that were published as pickles of whole objects, or as safetensors, by their names.

A pickle of EDM or EDM2 holds the source of its classes, which would be run. Here `ambient.data.pickles` reads
it: objects are data, and the tensors in them have the names that modules give them. A file that `torch.save`
wrote is read by torch's own reader of weights, which makes tensors and plain containers, and nothing else.
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ambient.data.pickles import Inert, InertUnpickler, read_inert
from ambient.storage.files import naming
from ambient.training.weights import not_finite

RECONSTRUCT = "torch_utils.persistence._reconstruct_persistent_obj"
SAVED = (".pt", ".pth", ".bin")  # names of files of `torch.save` end so
NETWORK = "ema"  # the entry of the averaged weights in a published pickle


class Held:
    """A tensor of a pickle; an object of its own, so that a pickle can't change the tensor's."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a tensor with more than its numbers")


def storage(content: bytes) -> torch.TypedStorage:
    """The numbers of a tensor, by torch's reader of weights, which runs nothing either."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def tensor(numbers: Any, offset: int, size: tuple, stride: tuple, *others: Any) -> Held:
    """A tensor of some numbers. Raises `ValueError` where they are too few, or not the tensor's as they are.

    others: whether it takes gradients, hooks, and what torch has to do to the numbers (conjugate, negate).
    """
    if any(others[2:]):
        raise ValueError(f"a tensor of numbers that are to be changed ({others[2]!r:.50}), allowed: its own")
    if not isinstance(numbers, torch.TypedStorage):
        raise ValueError(f"a tensor of {type(numbers).__name__}")
    flat = torch.empty(0, dtype=numbers.dtype).set_(numbers._untyped_storage)  # `untyped()` warns
    view = flat.as_strided(size, stride, offset)
    if view.numel() > flat.numel():
        raise ValueError(f"a tensor of {view.numel():,} numbers from {flat.numel():,}")
    return Held(view.clone())


def parameter(held: Held, *others: Any) -> Held:
    """A parameter is a tensor here."""
    return held


MADE = {("torch.storage", "_load_from_bytes"): storage, ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter, ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_parameter_with_state"): parameter,
        ("builtins", "set"): set, ("__builtin__", "set"): set}


class NetworkUnpickler(InertUnpickler):
    """Tensors too; all other objects are inert."""

    made = InertUnpickler.made | MADE


def attributes(module: Any) -> Mapping:
    """The attributes of a module in a pickle; none for what is no module."""
    state = module.state if isinstance(module, Inert) else None
    if isinstance(module, Inert) and module.origin == RECONSTRUCT and module.arguments:
        told = module.arguments[0]
        state = told.get("state") if isinstance(told, Mapping) else None
    return state if isinstance(state, Mapping) else {}


def tensors_below(module: Any, prefix: str = "",
                  seen: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a module's state and of those in it, as torch's `state_dict` names them.

    Raises `ValueError` for a module in two places, by which few bytes could hold endlessly many names.
    """
    own, seen = attributes(module), set() if seen is None else seen
    if own and id(module) in seen:
        raise ValueError(f"{prefix[:-1]:.50} is in another place, too: no module of EDM or EDM2 is in two")
    seen.add(id(module))
    passing = own.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, held in (own.get(kind) or {}).items():
            if isinstance(held, Held) and name not in passing:
                yield prefix + name, held.tensor
    for name, inner in (own.get("_modules") or {}).items():
        yield from tensors_below(inner, f"{prefix}{name}.", seen)


def read_saved(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of `torch.save`: a state by its names, or that of the model in a checkpoint.

    Raises `ValueError` for a damaged file, for one with other objects in it, and for one without a state.
    """
    try:
        read = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch's words advise to read it with all that a pickle may run
        more = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError("not a file of torch.save, or one with more in it than weights, which is not read"
                         f"{f': {more[1]}' if more else ', or cut short'}") from None
    for key in ("state", "model"):
        if isinstance(read, Mapping) and isinstance(read.get(key), Mapping):
            read = read[key]
    state = {name: one for name, one in read.items() if isinstance(one, Tensor)} if isinstance(
        read, Mapping) else {}
    if not state or not all(isinstance(name, str) for name in state):
        raise ValueError("holds no state of a network: names with tensors")
    return state


def check_shapes(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` naming the first tensor that is missing, unknown or misshapen for a network."""
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        ours, theirs = (tuple(of[name].shape) if name in of else None for of in (expected, tensors))
        if ours != theirs:
            raise ValueError(f"{name}: has the shape {theirs}, allowed: {ours}")


def load_strictly(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors of the same names and shapes into a network, as float32.

    Raises `ValueError` as `check_shapes` does, and naming the first tensor that is not finite.
    """
    check_shapes(network, tensors)
    if bad := not_finite(tensors):
        raise ValueError(f"{bad}: damaged, or not the weights of a network that was trained to its end")
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a published network: of a pickle (.pkl), torch's own format (`SAVED`), or safetensors.

    Of a pickle with several networks the averaged one (`ema`) is meant. Nothing of a pickle is run. Raises
    `ValueError` naming a file that is damaged or has no network.
    """
    with naming(path):
        if path.suffix in SAVED:
            return read_saved(path)
        if path.suffix != ".pkl":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}
        read = read_inert(path, NetworkUnpickler)
        top = read[NETWORK] if isinstance(read, Mapping) and NETWORK in read else read
        tensors = dict(tensors_below(top))
        if not tensors:
            raise ValueError("holds no network, or none in the format of EDM and EDM2")
        return tensors
