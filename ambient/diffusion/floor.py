r"""What the ambient loss costs beside the error of the denoiser: its noise floor.

With x_tn = x_0 + sigma_tn Z and x_t = x_tn + sqrt(sigma^2 - sigma_tn^2) eps the error that the loss is of is

    alpha D + (1 - alpha) x_t - x_tn = alpha (D - x_0) + r,  r = (1 - alpha) sqrt(sigma^2 - sigma_tn^2) eps
                                                                 - alpha sigma_tn Z.

The residual r is independent of x_t, which is all that D sees, and has the variance alpha sigma_tn^2.
"""

from __future__ import annotations

from torch import Tensor

from ambient.diffusion.noise import added_variance, edm_weight


def noise_floor(sigma: Tensor, sigma_tn: Tensor, sigma_data: float) -> Tensor:
    """E[ambient loss] - E[EDM's loss] of a sample, whatever the denoiser is, (B,), for one of its numbers.

    lambda(sigma) sigma_tn^2 sigma^2 / (sigma^2 - sigma_tn^2), for sigma > sigma_tn: 0 at sigma_tn = 0, and
    without bound as sigma falls to sigma_tn. It is that of the loss with lambda_amb (C.1) and no clip.
    """
    return edm_weight(sigma, sigma_data) * sigma_tn**2 * sigma**2 / added_variance(sigma, sigma_tn)
