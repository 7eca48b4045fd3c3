"""A small variational autoencoder of images: convolutions and residual blocks.

Source: Kingma and Welling 2014 (arXiv:1312.6114) for the objective; Rombach et al. 2022 (arXiv:2112.10752)
for its use before a diffusion model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LOG_VARIANCE = (-30.0, 20.0)  # bounds, so that its exponential stays a number
GROUPS = 8  # of the group norms


class Residual(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = [nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)]
        self.body = nn.Sequential(*half, nn.GroupNorm(GROUPS, channels), nn.SiLU(),
                                  nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def last(width: int, channels_out: int) -> list[nn.Module]:
    """The layers that end a half."""
    return [nn.GroupNorm(GROUPS, width), nn.SiLU(), nn.Conv2d(width, channels_out, 3, padding=1)]


class Autoencoder(nn.Module):
    """Images (B, C, H, H) to latents (B, latent_channels, h, h), h = H / 2^levels, and back.

    widths: channels at each level, each of half the side of the one before. At the image's own size there are
    no layers but those that lead to it: they would cost most and add little. `generator` draws all weights.
    """

    def __init__(self, channels: int, latent_channels: int, widths: Sequence[int],
                 generator: torch.Generator) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        for wide, wider in zip([channels, *widths], widths, strict=False):
            encoder += [nn.Conv2d(wide, wider, 4, stride=2, padding=1), Residual(wider)]
        self.encoder = nn.Sequential(*encoder, *last(widths[-1], 2 * latent_channels))
        decoder = [nn.Conv2d(latent_channels, widths[-1], 3, padding=1), Residual(widths[-1])]
        for wider, wide in zip(widths[::-1], widths[-2::-1], strict=False):
            decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(wider, wide, 3, padding=1), Residual(wide)]
        self.decoder = nn.Sequential(*decoder, *last(widths[0], 4 * channels), nn.PixelShuffle(2))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x) for images in [-1, 1]."""
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def decoded(self, z: Tensor) -> Tensor:
        """Images, about in [-1, 1], of latents."""
        return self.decoder(z).float()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) || N(0, 1)) of each number: (mean^2 + e^v - v - 1) / 2."""
    return (mean**2 + log_variance.exp() - log_variance - 1) / 2
