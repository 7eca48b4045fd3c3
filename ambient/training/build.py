"""A network from its settings, of whichever kind it is, and the denoiser around it."""

from __future__ import annotations

import torch

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.network import Network
from ambient.specs import NetworkSpec, TrainingSpec
from ambient.training.networks import KINDS


def build_network(spec: NetworkSpec, resolution: int, channels: int, num_classes: int, augment: bool,
                  generator: torch.Generator, encoder_only: bool = False) -> Network:
    """The network of a specification, or its encoder half; `generator` draws the initial weights."""
    kind = KINDS[spec.kind]
    make = kind.encoder if encoder_only else kind.build
    return make(spec, resolution=resolution, channels=channels, generator=generator, augment=augment,
                classes=num_classes if spec.conditional and spec.TOLD == "classes" else 0)


def build_denoiser(spec: TrainingSpec, resolution: int, channels: int, num_classes: int,
                   generator: torch.Generator) -> Denoiser:
    """The denoiser of a training; `generator` draws the initial weights."""
    network = build_network(spec.network, resolution, channels, num_classes, bool(spec.augment.transforms),
                            generator)
    return Denoiser(network, spec.sigma_data, generator if spec.loss.uncertainty else None)
