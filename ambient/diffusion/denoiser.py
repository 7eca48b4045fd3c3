r"""The denoiser D(x, sigma): a raw network, preconditioned.

D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), where F is the raw network (Karras et al. 2022,
equation 7). A sampler sees only D; a network knows nothing of this scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ambient.diffusion.networks.unet import Draw


def per_sample(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), to broadcast one number a sample over its pixels."""
    return values.reshape(-1, 1, 1, 1)


class Preconditioned(nn.Module):
    """A network called on scaled input: F(c_in x, c_noise).

    c_in = 1 / sqrt(sigma^2 + sigma_data^2), c_noise = ln(sigma) / 4. The network may compute in
    bfloat16 under autocast; what comes out is float32.
    """

    def __init__(self, model: nn.Module, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.model = model
        self.sigma_data = sigma_data

    def scaled(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None,
               augment_labels: Tensor | None = None,
               drawn: Draw | None = None) -> Tensor:
        """F(c_in x, c_noise) for `x` (B, C, H, W) and `sigma` (B,), float32.

        `drawn` draws the dropout masks (`Encoder.masks`). Raises `ValueError` in training mode with dropout
        where there is no `drawn`.
        """
        sigma = sigma.to(torch.float32)
        c_in = 1 / (sigma**2 + self.sigma_data**2).sqrt()
        return self.model(per_sample(c_in) * x, sigma.log() / 4, class_labels=class_labels,
                          augment_labels=augment_labels, masks=self.model.masks(len(x), drawn)).float()


class Denoiser(Preconditioned):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), estimating x_0. Shapes as in `scaled`.

    c_skip = sigma_data^2 / (sigma^2 + sigma_data^2), c_out = sigma sigma_data / sqrt(sigma^2 +
    sigma_data^2). `class_labels` (B, classes) and `augment_labels` (B, 9) are optional.
    """

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None,
                augment_labels: Tensor | None = None,
                drawn: Draw | None = None) -> Tensor:
        x, sigma = x.to(torch.float32), sigma.to(torch.float32)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        F = self.scaled(x, sigma, class_labels, augment_labels, drawn)
        return per_sample(c_skip) * x + per_sample(c_out) * F
