"""Averaged weights of any width, made of those that a training kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient.diffusion.averages import coefficients
from ambient.specs import ReconstructionSpec
from ambient.storage.arrays import open_arrays
from ambient.training.weights import snapshot


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


class Reconstruction:
    """One snapshot of a denoiser, averaged with width `std`: its tensors, float32, are made one at a time.

    Each is last + sum of coefficient (stored - last), where `last` is the first average of the snapshot
    itself: the coefficients add up to 1, and what never changed, as buffers, stays as it is to the bit.
    Snapshots after it are not read. `error` is that of the profile.
    """

    def __init__(self, path: Path, about: Mapping, nimg: int, std: float) -> None:
        stds = about["spec"]["optimiser"]["ema_stds"]
        stored = [(time, width, place) for time in about["spec"]["snapshots"] if time <= nimg
                  for place, width in enumerate(stds)]
        times, widths, _ = zip(*stored, strict=True)
        self.factors, self.error = coefficients(times, widths, nimg, std)
        self.prefixes = [snapshot(time, width if place else None) for time, width, place in stored]
        self.path, self.own = path, snapshot(nimg)
        self.stored = open_arrays(path, most=0)  # a mapped file would count as memory
        self.shapes = {name: array.shape for name, array in self.stored.items() if name.startswith(self.own)}

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of each. Raises `ValueError` naming the file and a tensor that is not finite."""
        for name in self.shapes:
            tensor = self.weighed(name.removeprefix(self.own))
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{self.path}: {name} is not finite: damaged, or of a training that went "
                                 "astray; train it again (with a lower lr, if it was the training)")
            yield name, tensor

    def weighed(self, name: str) -> Tensor:
        """One tensor."""
        last = self.read(self.own + name)
        total = torch.zeros_like(last)
        for prefix, factor in zip(self.prefixes, self.factors.tolist(), strict=True):
            total.add_(self.read(prefix + name) - last, alpha=factor)
        return last + total

    def read(self, name: str) -> Tensor:
        """A tensor of the file, float32."""
        return torch.from_numpy(np.asarray(self.stored[name])).float()
