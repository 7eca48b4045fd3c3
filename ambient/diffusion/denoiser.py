r"""The denoiser D(x, sigma): a raw network, preconditioned.

D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), where F is the raw network (Karras et al. 2022,
equation 7). A sampler sees only D; a network knows nothing of this scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ambient.diffusion.network import Condition, Draw, Network
from ambient.diffusion.networks.magnitude import Fourier, Weight

HEAD_CHANNELS = 128  # Fourier features of the log-variance


def per_sample(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), to broadcast one number a sample over its pixels."""
    return values.reshape(-1, 1, 1, 1)


class Preconditioned(nn.Module):
    """A network called on scaled input: F(c_in x, c_noise).

    c_in = 1 / sqrt(sigma^2 + sigma_data^2), c_noise = ln(sigma) / 4. The network may compute in
    bfloat16 under autocast; what comes out is float32, or float64 where the weights are. Raises `ValueError`
    for a `sigma_data` that is not above 0.
    """

    def __init__(self, model: Network, sigma_data: float = 0.5) -> None:
        super().__init__()
        if not sigma_data > 0:
            raise ValueError(f"sigma_data: got {sigma_data}, allowed: > 0")
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
    sigma_data^2). With `uncertainty`, which draws its initial weights, it has a head for the log-variance of
    its error, too, which training alone uses. The head's names are those of the public EDM2 checkpoints.
    """

    def __init__(self, model: Network, sigma_data: float = 0.5,
                 uncertainty: torch.Generator | None = None) -> None:
        super().__init__(model, sigma_data)
        self.uncertain = uncertainty is not None
        if self.uncertain:
            self.logvar_fourier = Fourier(HEAD_CHANNELS, uncertainty)
            self.logvar_linear = Weight(HEAD_CHANNELS, 1, 0, uncertainty)

    def log_variance(self, sigma: Tensor) -> Tensor | None:
        """u(sigma) = linear(Fourier(c_noise)), (B,), for sigma (B,); None without a head."""
        if not self.uncertain:
            return None
        return self.logvar_linear(self.logvar_fourier(sigma.to(self.precision).log() / 4))[:, 0]

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None,
                drawn: Draw | None = None) -> Tensor:
        x, sigma = x.to(self.precision), sigma.to(self.precision)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        F = self.scaled(x, sigma, condition, drawn)
        return per_sample(c_skip) * x + per_sample(c_out) * F
