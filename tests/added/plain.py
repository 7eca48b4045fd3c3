"""Network `plain`: two convolutions, told the noise level and the classes as further channels."""

from __future__ import annotations

from dataclasses import dataclass

from ambient.specs import NetworkCost, NetworkSpec
from ambient.specs.strict import require


@dataclass(frozen=True)
class Spec(NetworkSpec):
    """`width` is that of the layer between."""

    width: int  #: channels

    def __post_init__(self) -> None:
        require(self.width > 0, "width", self.width, ">= 1")

    def cost(self, resolution: int, channels: int, encoder_only: bool = False) -> NetworkCost:
        weights = 9 * self.width * (2 * channels + 1)
        return NetworkCost(weights * resolution**2, weights + self.width + channels,
                           (self.width + channels) * resolution**2)


def build(spec: Spec, *, resolution, channels, classes, augment, generator):
    """Its masks are none: nothing is dropped."""
    import torch
    from torch import nn

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(channels + 1, spec.width, 3, padding=1)
            self.last = nn.Conv2d(spec.width, channels, 3, padding=1)
            for weight in (self.first.weight, self.last.weight):
                nn.init.normal_(weight, std=0.1, generator=generator)
            for bias in (self.first.bias, self.last.bias):
                nn.init.zeros_(bias)

        def masks(self, count, drawn):
            return []

        def forward(self, x, c_noise, condition, masks):
            level = c_noise.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:]).to(x)
            return self.last(self.first(torch.cat([x, level], dim=1)).relu())

    return Plain()
