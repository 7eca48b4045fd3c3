r"""The denoiser D(x, sigma): a raw network, preconditioned.

D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), where F is the raw network (Karras et al. 2022,
equation 7). A sampler sees only D; a network knows nothing of this scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ambient.diffusion.network import Condition, Draw, Network


def per_sample(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), to broadcast one number a sample over its pixels."""
    return values.reshape(-1, 1, 1, 1)


class Preconditioned(nn.Module):
    """A network called on scaled input: F(c_in x, c_noise).

    c_in = 1 / sqrt(sigma^2 + sigma_data^2), c_noise = ln(sigma) / 4. The network may compute in
    bfloat16 under autocast; what comes out is float32, or float64 where the weights are.
    """

    def __init__(self, model: Network, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.model = model
        self.sigma_data = sigma_data

    @property
    def precision(self) -> torch.dtype:
        """The precision of the weights, which is that of all scaling."""
        return next((weight.dtype for weight in self.model.parameters()), torch.float32)

    def scaled(self, x: Tensor, sigma: Tensor, condition: Condition | None = None,
               drawn: Draw | None = None) -> Tensor:
        """F(c_in x, c_noise) for `x` (B, C, H, W) and `sigma` (B,).

        `condition`: what the network is told of the images, by name (see `Condition`); None: nothing.
        `drawn` draws the dropout masks. Raises `ValueError` in training mode with dropout where there is no
        `drawn`.
        """
        precision = self.precision
        x, sigma = x.to(precision), sigma.to(precision)
        c_in = 1 / (sigma**2 + self.sigma_data**2).sqrt()
        return self.model(per_sample(c_in) * x, sigma.log() / 4, condition or {},
                          self.model.masks(len(x), drawn)).to(precision)


class Denoiser(Preconditioned):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), estimating x_0. Shapes as in `scaled`.

    c_skip = sigma_data^2 / (sigma^2 + sigma_data^2), c_out = sigma sigma_data / sqrt(sigma^2 +
    sigma_data^2).
    """

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None,
                drawn: Draw | None = None) -> Tensor:
        x, sigma = x.to(self.precision), sigma.to(self.precision)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        F = self.scaled(x, sigma, condition, drawn)
        return per_sample(c_skip) * x + per_sample(c_out) * F
