"""Detector `means`: the mean of each channel, times a factor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.specs import DetectorSpec
from ambient.specs.strict import require
from ambient.storage.files import read_arrays, write_arrays


@dataclass(frozen=True, kw_only=True)
class Spec(DetectorSpec):
    """`gain` is the factor."""

    LEARNS = True

    gain: float = 1.0  #: factor of the features

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.gain > 0, "gain", self.gain, "> 0")


def make(spec: Spec, record, *, data: Path, weights, state, out: Path) -> None:
    """There is nothing to learn but the factor."""
    write_arrays(out, {"gain": np.array([spec.gain])})


def features(spec: Spec, path: Path):
    """(N, C) of images (N, C, H, W)."""
    import torch

    gain, = read_arrays(path)["gain"]
    return lambda images: torch.from_numpy(images.mean(axis=(2, 3)) * gain)
