"""diffusers' `AutoencoderKL` as an `ambient.training.encoding.Coder`, with the ranges of EDM2's latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ambient.training.hardware import autocast

TOGETHER = 2**21  # pixels of the images that the network sees at once: 8 of 512 x 512
LEVELS = 255  # the largest of the grey levels


class PretrainedVAE(nn.Module):
    """The network, of RGB images. Raises `ValueError` for images of other channels.

    widths: channels of each level; layers: residual blocks of each level of the encoder.
    """

    def __init__(self, channels: int, latent_channels: int, widths: Sequence[int], layers: int,
                 precision: str, signed: bool = False) -> None:
        super().__init__()
        if channels != 3:
            raise ValueError(f"images have {channels} channels, sd_vae takes 3 (RGB): set the dataset's "
                             "channels")
        levels = len(widths)
        self.precision, self.signed = precision, signed
        self.vae = AutoencoderKL(
            block_out_channels=tuple(widths), layers_per_block=layers, latent_channels=latent_channels,
            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels)

    def fill(self, folder: Path) -> None:
        """Take the weights of a local folder. Nothing is downloaded, and no pickle is read.

        Raises `ValueError` naming the first tensor that another architecture has, or does not have.
        """
        theirs = AutoencoderKL.from_pretrained(folder, local_files_only=True, use_safetensors=True,
                                               low_cpu_mem_usage=False).state_dict()
        ours = self.vae.state_dict()
        for name in sorted(ours.keys() | theirs.keys()):
            has, wanted = (tuple(of[name].shape) if name in of else None for of in (theirs, ours))
            if has != wanted:
                raise ValueError(f"{name}: has the shape {has}, the specification's network {wanted}")
        self.vae.load_state_dict({name: tensor.float() for name, tensor in theirs.items()})

    def together(self, side: int) -> int:
        """Images of so many pixels that the network sees at once."""
        return max(1, TOGETHER // side**2)

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (N, C, h, h) of the latents of uint8 images (N, 3, H, H)."""
        where, parts = next(self.parameters()).device, []
        for some in torch.from_numpy(images).split(self.together(images.shape[-1])):
            pixels = some.to(where, torch.float32) / LEVELS
            with autocast(self.precision, where):
                latent = self.vae.encode(2 * pixels - 1 if self.signed else pixels).latent_dist
            parts.append((latent.mean.float(), latent.std.float()))
        mean, std = (torch.cat(one) for one in zip(*parts, strict=True))
        return mean, std

    def decode(self, z: Tensor) -> Tensor:
        """Images in [-1, 1] of latents z: the decoder's output cut to its range, and unless it is signed to
        whole grey levels."""
        side = z.shape[-1] * 2 ** (len(self.vae.config.block_out_channels) - 1)
        parts = []
        for some in z.split(self.together(side)):
            with autocast(self.precision, z.device):
                decoded = self.vae.decode(some).sample
            parts.append(decoded.float().clamp(-1, 1) if self.signed else whole_levels(decoded.float()))
        return torch.cat(parts)


def whole_levels(decoded: Tensor) -> Tensor:
    """2 floor(255 y) / 255 - 1 for the decoder's output y, cut to [0, 1]: the published rule, on [-1, 1]."""
    return 2 * (decoded.clamp(0, 1) * LEVELS).floor() / LEVELS - 1
