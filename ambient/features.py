"""Feature extractors ("detectors") in which distances between image sets are measured.

The metric is called `fid` only for clean-fid's Inception-v3; any other detector names its own
(`fd-<detector>`). A detector file is TorchScript (Inception) or safetensors (our classifier).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ambient.datasets import to_float
from ambient.denoiser import read_description, read_weights
from ambient.progress import Progress
from ambient.runtime import device
from ambient.spec import DetectorSpec

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


def classifier_features(path: Path) -> Callable[[np.ndarray], Tensor]:
    """Features of a `ClassNet` that the detector stage trained."""
    about = read_description(path)
    network = ClassNet(about["channels_in"], about["channels"], about["features"], about["classes"])
    network.load_state_dict(read_weights(path))
    network.to(device()).eval()
    return lambda images: network.body(torch.from_numpy(to_float(images)).to(device()))


def inception_features(path: Path) -> Callable[[np.ndarray], Tensor]:
    """clean-fid's Inception-v3 with its own resizing (`clean`: Pillow bicubic, float)."""
    from cleanfid.resize import build_resizer

    # TorchScript is data for torch's own restricted interpreter, not a pickle of Python objects;
    # clean-fid's wrapper insists on a fixed file name, so its two lines around the layers are here.
    layers = torch.jit.load(path, map_location=device()).eval().layers
    resize = build_resizer("clean")

    def features(images: np.ndarray) -> Tensor:
        rgb = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
        large = np.stack([resize(image.transpose(1, 2, 0)) for image in rgb]).transpose(0, 3, 1, 2)
        x = torch.from_numpy(np.ascontiguousarray(large, np.float32)).to(device())
        return layers((x - 128) / 128).reshape(len(x), INCEPTION_FEATURES)

    return features


@torch.no_grad()
def extract(spec: DetectorSpec, path: Path, images: np.ndarray, name: str) -> np.ndarray:
    """Features (N, D) float32 of uint8 images (N, C, H, W)."""
    detector = (inception_features if spec.kind == "inception" else classifier_features)(path)
    progress, parts = Progress(name, len(images)), []
    for first in range(0, len(images), BATCH):
        parts.append(detector(images[first:first + BATCH]).float().cpu().numpy())
        progress.update(min(first + BATCH, len(images)))
    return np.concatenate(parts)
