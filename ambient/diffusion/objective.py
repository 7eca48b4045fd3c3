r"""The losses: EDM's, and the ambient one, which learns the clean distribution from noisy samples too."""

from __future__ import annotations

import torch
from torch import Tensor

from ambient.diffusion.denoiser import per_sample
from ambient.diffusion.noise import added_variance, ambient_weight, edm_weight


def edm_loss(denoised: Tensor, x0: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) (D - x0)^2 per pixel, (B, C, H, W): equation 2.1 with EDM's weight.

    denoised, x0: (B, C, H, W); sigma > 0: (B,). Raises `ValueError` for other shapes.
    """
    require_shapes(1, denoised=denoised, x0=x0, sigma=sigma)
    return per_sample(edm_weight(sigma, sigma_data)) * (denoised - x0) ** 2


def ambient_loss(denoised: Tensor, x_t: Tensor, x_tn: Tensor, sigma: Tensor, sigma_tn: Tensor,
                 sigma_data: float, weighted: bool = True, clip: float | None = None) -> Tensor:
    r"""The ambient objective per pixel, shape (B, C, H, W) (equation 2.2, weight C.1).

    lambda(sigma) lambda_amb(sigma, sigma_tn) (alpha D + (1 - alpha) x_t - x_tn)^2, with
    alpha = (sigma^2 - sigma_tn^2) / sigma^2: alpha D + (1 - alpha) x_t is the best estimate of the
    sample at its own level sigma_tn, so its minimiser is the denoiser of the *clean* distribution
    wherever noise at sigma_tn has made the two distributions equal. Equals `edm_loss` at sigma_tn = 0.

    denoised, x_t, x_tn: (B, C, H, W); sigma > sigma_tn >= 0: (B,). `weighted` False leaves lambda_amb
    out; `clip` >= 1 bounds it from above. What depends on the levels alone is computed in float64: near
    sigma_tn float32 has alpha 0 and an infinite weight, and their product is no number.

    Raises `ValueError` for other shapes, and for another `clip`. Levels are not looked at: the host would
    have to wait for them.
    """
    require_shapes(2, denoised=denoised, x_t=x_t, x_tn=x_tn, sigma=sigma, sigma_tn=sigma_tn)
    if clip is not None and not clip >= 1:
        raise ValueError(f"clip: got {clip}, allowed: >= 1, the least that lambda_amb is")
    sigma, sigma_tn = sigma.to(torch.float64), sigma_tn.to(torch.float64)
    alpha = added_variance(sigma, sigma_tn) / sigma**2
    weight = edm_weight(sigma, sigma_data)
    if weighted:
        factor = ambient_weight(sigma, sigma_tn)
        weight = weight * (factor if clip is None else factor.clamp(max=clip))
    alpha, rest, root = (per_sample(v).to(denoised) for v in (alpha, 1 - alpha, weight.sqrt()))
    return (root * (alpha * denoised + rest * x_t - x_tn)) ** 2


def require_shapes(levels: int, **given: Tensor) -> None:
    """Raise `ValueError` for shapes that broadcasting would make a number of, and a wrong one.

    The last `levels` of `given` are one number for each of the images that the others are.
    """
    shapes = [tuple(one.shape) for one in given.values()]
    images = len(shapes) - levels
    if len(shapes[0]) != 4 or shapes != [shapes[0]] * images + [shapes[0][:1]] * levels:
        raise ValueError(f"{', '.join(given)}: got the shapes {shapes}, allowed: {images} times "
                         f"(B, C, H, W), {levels} times (B,)")


def uncertain(loss: Tensor, log_variance: Tensor) -> Tensor:
    """loss / exp(u) + u per pixel, (B, C, H, W), for the log-variance u (B,) of each sample's error.

    For a loss that does not depend on u its minimiser is u = ln E[loss], where the first term is 1: so every
    noise level has the same part in the gradient. Source: Kendall et al. 2018 (arXiv:1705.07115); Karras et
    al. 2024 (arXiv:2312.02696, section 2.2).
    """
    u = per_sample(log_variance)
    return loss * (-u).exp() + u
