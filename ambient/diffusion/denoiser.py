r"""The denoiser D(x, sigma), its losses, and its weights on disk.

D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), where F is the raw network (Karras et al. 2022,
equation 7). A sampler sees only D; a network knows nothing of this scaling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ambient.diffusion.networks.unet import HalfUNet, Linear, UNet
from ambient.diffusion.noise import added_variance, ambient_weight, edm_weight
from ambient.specs import NetworkSpec
from ambient.storage.files import atomic, naming


def per_sample(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1), to broadcast one number a sample over its pixels."""
    return values.reshape(-1, 1, 1, 1)


def build_unet(spec: NetworkSpec, resolution: int, channels: int, num_classes: int, augment: bool,
               generator: torch.Generator, encoder_only: bool = False) -> UNet | HalfUNet:
    """The U-Net of a specification, or its encoder half."""
    head = {} if encoder_only else {"channels_out": channels}
    return (HalfUNet if encoder_only else UNet)(
        resolution=resolution, channels_in=channels, **head,
        label_dim=num_classes if spec.conditional else 0, augment_dim=9 if augment else 0,
        model_channels=spec.model_channels, channel_mult=spec.channel_mult,
        num_blocks=spec.num_blocks, attn_resolutions=spec.attn_resolutions, dropout=spec.dropout,
        generator=generator)


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
               generator: torch.Generator | None = None) -> Tensor:
        """F(c_in x, c_noise) for `x` (B, C, H, W) and `sigma` (B,), float32.

        Raises `ValueError` in training mode with dropout and no generator.
        """
        sigma = sigma.to(torch.float32)
        c_in = 1 / (sigma**2 + self.sigma_data**2).sqrt()
        return self.model(per_sample(c_in) * x, sigma.log() / 4, class_labels=class_labels,
                          augment_labels=augment_labels, masks=self.model.masks(len(x), generator)).float()


class NoiseClassifier(Preconditioned):
    """The logit of P(corrupted | x, sigma), shape (B,). The paper's c (3.1) is 1 - sigmoid of it.

    The encoder's last features, averaged over pixels, and a linear layer.
    """

    def __init__(self, model: HalfUNet, generator: torch.Generator, sigma_data: float = 0.5) -> None:
        super().__init__(model, sigma_data)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                        Linear(model.channels_encoded, 1, generator))

    def forward(self, x: Tensor, sigma: Tensor, augment_labels: Tensor | None = None,
                generator: torch.Generator | None = None) -> Tensor:
        return self.classifier(self.scaled(x, sigma, None, augment_labels, generator)).float()[:, 0]


class Denoiser(Preconditioned):
    """D(x, sigma) = c_skip x + c_out F(c_in x, c_noise), estimating x_0. Shapes as in `scaled`.

    c_skip = sigma_data^2 / (sigma^2 + sigma_data^2), c_out = sigma sigma_data / sqrt(sigma^2 +
    sigma_data^2). `class_labels` (B, classes) and `augment_labels` (B, 9) are optional.
    """

    def forward(self, x: Tensor, sigma: Tensor, class_labels: Tensor | None = None,
                augment_labels: Tensor | None = None,
                generator: torch.Generator | None = None) -> Tensor:
        x, sigma = x.to(torch.float32), sigma.to(torch.float32)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total.sqrt()
        F = self.scaled(x, sigma, class_labels, augment_labels, generator)
        return per_sample(c_skip) * x + per_sample(c_out) * F


def edm_loss(denoised: Tensor, x0: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) (D - x0)^2 per pixel, (B, C, H, W): equation 2.1 with EDM's weight."""
    return per_sample(edm_weight(sigma, sigma_data)) * (denoised - x0) ** 2


def ambient_loss(denoised: Tensor, x_t: Tensor, x_tn: Tensor, sigma: Tensor, sigma_tn: Tensor,
                 sigma_data: float, weighted: bool = True, clip: float | None = None) -> Tensor:
    r"""The ambient objective per pixel, shape (B, C, H, W) (equation 2.2, weight C.1).

    lambda(sigma) lambda_amb(sigma, sigma_tn) (alpha D + (1 - alpha) x_t - x_tn)^2, with
    alpha = (sigma^2 - sigma_tn^2) / sigma^2: alpha D + (1 - alpha) x_t is the best estimate of the
    sample at its own level sigma_tn, so its minimiser is the denoiser of the *clean* distribution
    wherever noise at sigma_tn has made the two distributions equal. Equals `edm_loss` at sigma_tn = 0.

    denoised, x_t, x_tn: (B, C, H, W); sigma > sigma_tn >= 0: (B,). `weighted` False leaves lambda_amb
    out; `clip` bounds it from above. What depends on the levels alone is computed in float64: near
    sigma_tn float32 has alpha 0 and an infinite weight, and their product is no number.
    """
    sigma, sigma_tn = sigma.to(torch.float64), sigma_tn.to(torch.float64)
    alpha = added_variance(sigma, sigma_tn) / sigma**2
    weight = edm_weight(sigma, sigma_data)
    if weighted:
        factor = ambient_weight(sigma, sigma_tn)
        weight = weight * (factor if clip is None else factor.clamp(max=clip))
    alpha, rest, root = (per_sample(v).to(denoised) for v in (alpha, 1 - alpha, weight.sqrt()))
    return (root * (alpha * denoised + rest * x_t - x_tn)) ** 2


def save_weights(path: Path, tensors: Mapping[str, Tensor], description: Mapping) -> None:
    """Write tensors as safetensors with what is needed to rebuild the network, atomically.

    The description goes under one metadata key: with two the bytes would not be reproducible.
    """
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                  temporary, metadata={"ambient": json.dumps(description, sort_keys=True)})


def read_description(path: Path) -> dict:
    """What `save_weights` stored beside the tensors. Raises `ValueError` naming a foreign file."""
    with naming(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if "ambient" not in metadata:
        raise ValueError(f"{path}: holds no description of its network; was it written by ambient?")
    with naming(path):
        return dict(json.loads(metadata["ambient"]))


def read_weights(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors under a prefix, which is taken off their names. Reads only those.

    Raises `ValueError` naming the file and a tensor whose values are not finite.
    """
    with naming(path), safe_open(path, framework="pt") as file:
        tensors = {name.removeprefix(prefix): file.get_tensor(name)
                   for name in file.keys() if name.startswith(prefix)}
    if bad := not_finite(tensors):
        raise ValueError(f"{path}: {bad}: damaged, or of a training that went astray; train it again "
                         "(with a lower lr, if it was the training)")
    return tensors


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The first of `tensors` that holds NaN or infinity, in words; empty where there is none."""
    bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    return f"{len(bad)} of {len(tensors)} tensors are not finite, the first is {bad[0]}" if bad else ""
