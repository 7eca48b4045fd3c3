"""Averaged weights of any width, made of those that a training kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ambient.diffusion.averages import coefficients
from ambient.specs import ReconstructionSpec
from ambient.storage.files import naming
from ambient.training.weights import not_finite, snapshot


def described(path: Path, about: Mapping, spec: ReconstructionSpec) -> dict:
    """The description of a denoiser whose training had kept averages of one width at some snapshots.

    Raises `ValueError` naming the file where it has no averages by power functions, or no such snapshot.
    """
    training = about["spec"]
    if not training["optimiser"].get("ema_stds"):
        raise ValueError(f"{path}: its training kept no average by a power function (optimiser.ema_stds), so "
                         "none of another width can be made")
    if missing := sorted(set(spec.snapshots) - set(training["snapshots"])):
        raise ValueError(f"{path}: has no snapshot at nimg {missing[0]}, its snapshots are "
                         f"{training['snapshots']}")
    optimiser = training["optimiser"] | {"ema_stds": [spec.ema_std]}
    return dict(about) | {"spec": training | {"optimiser": optimiser, "snapshots": list(spec.snapshots)}}


def reconstructed(path: Path, about: Mapping, nimg: int, std: float) -> tuple[dict[str, Tensor], float]:
    """(the tensors of one snapshot, averaged with width `std`, and the error of their profile).

    Each tensor is last + sum of coefficient (stored - last), in float32, where `last` is the first average of
    the snapshot itself: the coefficients add up to 1, and what never changed, as buffers, stays as it is to
    the bit. Snapshots after it are not read. One tensor is in memory at a time, with its result.
    """
    stds = about["spec"]["optimiser"]["ema_stds"]
    stored = [(time, width, place) for time in about["spec"]["snapshots"] if time <= nimg
              for place, width in enumerate(stds)]
    times, widths, _ = zip(*stored, strict=True)
    factors, error = coefficients(times, widths, nimg, std)
    prefixes = [snapshot(time, width if place else None) for time, width, place in stored]
    with naming(path), safe_open(path, framework="pt") as file:
        own = snapshot(nimg)
        tensors = {name: weighed(file, name.removeprefix(own), own, prefixes, factors.tolist())
                   for name in file.keys() if name.startswith(own)}
    if bad := not_finite(tensors):
        raise ValueError(f"{path}: {bad}: damaged, or of a training that went astray; train it again (with a "
                         "lower lr, if it was the training)")
    return tensors, error


def weighed(file: safe_open, name: str, own: str, prefixes: list[str], factors: list[float]) -> Tensor:
    """One tensor of a reconstruction."""
    last = file.get_tensor(own + name).float()
    total = torch.zeros_like(last)
    for prefix, factor in zip(prefixes, factors, strict=True):
        total.add_(file.get_tensor(prefix + name).float() - last, alpha=factor)
    return last + total
