"""The noise classifier of equation 3.1: its network, and a trained one from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ambient.diffusion.denoiser import Preconditioned
from ambient.diffusion.network import Condition, Draw
from ambient.diffusion.networks.unet import HalfUNet, Linear
from ambient.specs import ClassifierSpec
from ambient.specs.strict import build
from ambient.storage.files import naming
from ambient.training.build import build_network
from ambient.training.weights import read_description, read_weights


class NoiseClassifier(Preconditioned):
    """The logit of P(corrupted | x, sigma), shape (B,). The paper's c (3.1) is 1 - sigmoid of it.

    The encoder's last features, averaged over pixels, and a linear layer.
    """

    def __init__(self, model: HalfUNet, generator: torch.Generator, sigma_data: float = 0.5) -> None:
        super().__init__(model, sigma_data)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                        Linear(model.channels_encoded, 1, generator))

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None,
                drawn: Draw | None = None) -> Tensor:
        return self.classifier(self.scaled(x, sigma, condition, drawn)).to(self.precision)[:, 0]


class Classifier:
    """A trained noise or crops classifier: P(corrupted) of noised images, with its recalibration."""

    def __init__(self, path: Path, where: torch.device) -> None:
        self.path, about = path, read_description(path, "a noise classifier")
        with naming(path):
            self.spec = build(ClassifierSpec, about["spec"], "the classifier's specification")
            encoder = build_network(self.spec.network, about["resolution"], about["channels"], 0,
                                 bool(self.spec.augment.transforms), torch.Generator(), encoder_only=True)
            self.network = NoiseClassifier(encoder, torch.Generator())
            self.network.load_state_dict(read_weights(path))
            self.levels, self.shifts = np.array(about["offsets"]).T
        self.network.to(where).eval()

    def offset(self, sigma: float | np.ndarray) -> float | np.ndarray:
        """What recalibration adds to the logit at a level."""
        return np.interp(np.log(sigma), np.log(self.levels), self.shifts)

    def logits(self, x: Tensor, sigma: float) -> Tensor:
        """The logit of P(corrupted), (B,), of images (B, C, H, W) noised to `sigma`.

        Raises `FloatingPointError` where one is not finite: it would count as never crossing a threshold.
        """
        level = torch.full((len(x),), float(sigma), device=x.device)
        logits = self.network(x, level) + float(self.offset(sigma))
        if not torch.isfinite(logits).all():
            raise FloatingPointError(f"{self.path}: its logits at sigma {sigma:.4g} are not finite: its "
                                     "weights are too large; train it again with a lower lr")
        return logits


def of_crops(files: Sequence[Path], where: torch.device) -> dict[int, Classifier]:
    """Crop size -> its classifier.

    Raises `ValueError` for a classifier of whole images, and for two of one crop size.
    """
    found: dict[int, Classifier] = {}
    for file in files:
        classifier = Classifier(file, where)
        size = classifier.spec.crop
        if size is None:
            raise ValueError(f"{file}: is a classifier of whole images, not of crops")
        if size in found:
            raise ValueError(f"{file}: is a second classifier of {size}-pixel crops")
        found[size] = classifier
    return found
