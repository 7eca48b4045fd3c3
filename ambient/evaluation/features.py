"""Feature extractors ("detectors") in which distances between image sets are measured.

The metric is called `fid` or `fid-clean` only for Inception-v3; any other detector names its own
(`fd-<detector>`). A detector file is TorchScript (Inception) or safetensors (our classifier).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ambient.data.datasets import to_float
from ambient.jobs.progress import Progress
from ambient.specs import DetectorSpec
from ambient.specs.evaluation import INCEPTION_SHA256
from ambient.storage.files import naming
from ambient.training.hardware import device
from ambient.training.weights import read_description, read_weights

BATCH = 250
INCEPTION_SIDE, INCEPTION_FEATURES = 299, 2048


class ClassNet(nn.Module):
    """A small residual-free CNN: three stride-2 blocks, then a `features`-wide layer, then classes.

    The activations before the last layer are the features.
    """

    def __init__(self, channels_in: int, channels: int, features: int, classes: int) -> None:
        super().__init__()
        layers, width = [], channels_in
        for out in (channels, 2 * channels, 4 * channels):
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU(),
                       nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU(),
                       nn.AvgPool2d(2)]
            width = out
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                                  nn.Linear(4 * width, features))
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits (B, classes) for images (B, C, H, W) in [-1, 1]."""
        return self.head(torch.nn.functional.silu(self.body(x)))


class ClassNets(nn.Module):
    """Several `ClassNet`s that differ in their initial weights, as one detector.

    Networks that class images equally well see different things in them: a distance by one of them is a draw
    that can exchange the order of methods. The features are those of all M members side by side, divided by
    sqrt(M), so that a squared distance of means is the members' average.
    """

    def __init__(self, members: int, *shape: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(ClassNet(*shape) for _ in range(members))

    def features(self, x: Tensor) -> Tensor:
        """(B, M D) for images (B, C, H, W) in [-1, 1]."""
        return torch.cat([member.body(x) for member in self.members], dim=1) / len(self.members) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Each member's class logits, (M, B, classes)."""
        return torch.stack([member(x) for member in self.members])


def classifier_features(path: Path, resize: str = "none") -> Callable[[np.ndarray], Tensor]:
    """Features of the `ClassNets` that the detector stage trained; it takes images as they are."""
    about = read_description(path)
    with naming(path):
        network = ClassNets(*(about[key] for key in ("members", "channels_in", "channels", "features",
                                                     "classes")))
        network.load_state_dict(read_weights(path))
    network.to(device()).eval()
    return lambda images: network.features(torch.from_numpy(to_float(images)).to(device()))


@cache
def bicubic(side: int) -> Tensor:
    """Pillow's bicubic resizing of a line of `side` pixels to 299, as a matrix (side, 299), float32.

    Resizing is linear, and columns do not mix: Pillow says what it does to each pixel when it widens the unit
    matrix. For a whole batch the product is many times as fast as Pillow, image by image.
    """
    unit = Image.fromarray(np.eye(side, dtype=np.float32))
    wide = unit.resize((INCEPTION_SIDE, side), resample=Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(wide))


def inception_bytes(path: Path) -> bytes:
    """Inception's file, read once. Raises `ValueError` for any file but NVIDIA's inception-2015-12-05.pt.

    TorchScript is a program: it can read and write any file of whoever runs it. So its digest is compared
    at every load, with the digest written in this package and with no setting or manifest.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != INCEPTION_SHA256:
        raise ValueError(f"{path}: sha256 is {found}, allowed: {INCEPTION_SHA256}, NVIDIA's "
                         "inception-2015-12-05.pt (TorchScript is a program, and no other one is run); fetch "
                         "that file, or choose a detector of kind classifier")
    return content


def inception_features(path: Path, resize: str) -> Callable[[np.ndarray], Tensor]:
    """Features of Inception-v3, resized by the network itself (`legacy`) or as clean-fid does (`clean`).

    legacy: clean-fid's `legacy_tensorflow`; images enter with their own size and values in [0, 255].
    clean: Pillow's bicubic in float, cut to [0, 255], then the network's layers after its own resizing.
    """
    # clean-fid's wrapper insists on a fixed file name and loads whatever has it: its lines are here.
    where = device()
    network = torch.jit.load(io.BytesIO(inception_bytes(path)), map_location=where).eval()

    def features(images: np.ndarray) -> Tensor:
        rgb = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
        x = torch.from_numpy(rgb).to(where, torch.float32)
        if resize == "legacy":
            return network(x, return_features=True).reshape(len(x), INCEPTION_FEATURES)
        rows, columns = (bicubic(side).to(where) for side in x.shape[2:])
        x = (rows.T @ (x @ columns)).clamp(0, 255)
        return network.layers((x - 128) / 128).reshape(len(x), INCEPTION_FEATURES)

    return features


DETECTORS = {"classifier": classifier_features, "inception": inception_features}


@torch.no_grad()
def extract(spec: DetectorSpec, path: Path, images: np.ndarray, name: str) -> np.ndarray:
    """Features (N, D) float32 of uint8 images (N, C, H, W)."""
    detector = DETECTORS[spec.kind](path, spec.resize)
    progress, parts = Progress(name, len(images)), []
    for first in range(0, len(images), BATCH):
        parts.append(detector(images[first:first + BATCH]).float().cpu().numpy())
        progress.update(min(first + BATCH, len(images)))
    return np.concatenate(parts)
