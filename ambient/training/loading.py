"""Trained networks from disk, for the stages that ask them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ambient.diffusion.denoiser import Denoiser, NoiseClassifier, build_unet, read_description, read_weights
from ambient.specs import ClassifierSpec, TrainingSpec
from ambient.specs.strict import build
from ambient.storage.files import naming


def load_denoiser(path: Path, nimg: int | None, where: torch.device) -> tuple[Denoiser, dict]:
    """The denoiser of a snapshot (None: the last) and the description stored with it.

    Raises `ValueError` for a foreign file or a snapshot that is not in it.
    """
    about = read_description(path)
    with naming(path):
        spec = build(TrainingSpec, about["spec"], "the training's specification")
    nimg = spec.snapshots[-1] if nimg is None else nimg
    if nimg not in spec.snapshots:
        raise ValueError(f"{path}: has no snapshot at nimg {nimg}, its snapshots are {spec.snapshots}")
    with naming(path):
        network = build_unet(spec.network, about["resolution"], about["channels"], about["num_classes"],
                             bool(spec.augment.transforms), torch.Generator())
        denoiser = Denoiser(network, spec.sigma_data)
        denoiser.load_state_dict(read_weights(path, f"{nimg}/"))
    return denoiser.to(where).eval(), about


class Classifier:
    """A trained noise or crops classifier: P(corrupted) of noised images, with its recalibration."""

    def __init__(self, path: Path, where: torch.device) -> None:
        self.path, about = path, read_description(path)
        with naming(path):
            self.spec = build(ClassifierSpec, about["spec"], "the classifier's specification")
            encoder = build_unet(self.spec.network, about["resolution"], about["channels"], 0,
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
