"""A network from its settings, of whichever kind it is."""

from __future__ import annotations

import torch

from ambient.diffusion.network import Network
from ambient.specs import NetworkSpec
from ambient.training.networks import KINDS


def build_network(spec: NetworkSpec, resolution: int, channels: int, num_classes: int, augment: bool,
                  generator: torch.Generator, encoder_only: bool = False) -> Network:
    """The network of a specification, or its encoder half; `generator` draws the initial weights."""
    kind = KINDS[spec.kind]
    make = kind.encoder if encoder_only else kind.build
    return make(spec, resolution=resolution, channels=channels, generator=generator, augment=augment,
                classes=num_classes if spec.conditional else 0)
