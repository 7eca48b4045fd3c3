"""Weights of the public EDM and EDM2 checkpoints, under their own parameter names.

The architecture is read from the names and shapes of the tensors: DDPM++ of EDM, or EDM2's network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.networks.mp_unet import MPUNet
from ambient.diffusion.networks.unet import UNet
from ambient.storage.files import naming
from ambient.training.public_weights import check_shapes, load_strictly, read_tensors

BLOCK = re.compile(r"enc\.(\d+)x\1_block(\d+)\.conv1\.weight")
QKV = re.compile(r"(?:enc|dec)\.(\d+)x\1_block\d+\.qkv\.weight")
MP_BLOCK = re.compile(r"enc\.(\d+)x\1_block(\d+)\.conv_res0\.weight")
MP_QKV = re.compile(r"(?:enc|dec)\.(\d+)x\1_block\d+\.attn_qkv\.weight")
EDM2 = "emb_fourier.freqs"  # a name that EDM2's networks have, and EDM's have not
WRAPPERS = ("model.", "unet.")  # what names of the preconditioned network begin with in EDM and in EDM2
TRAINING = "logvar_"  # parts of EDM2's network that are used in its training alone


def architecture(tensors: Mapping[str, Tensor]) -> dict:
    """The arguments of `UNet` that a DDPM++ checkpoint was made with, but for dropout.

    Raises `ValueError` naming the first tensor that is missing.
    """
    try:
        width = tensors["map_layer0.weight"].shape[1]
        blocks = {(int(m[1]), int(m[2])): tensors[name].shape[0]
                  for name in tensors if (m := BLOCK.fullmatch(name))}
        sides = sorted({side for side, _ in blocks}, reverse=True)
        out = f"dec.{sides[0]}x{sides[0]}_aux_conv.weight"
        first = f"enc.{sides[0]}x{sides[0]}_conv.weight"
        return {
            "resolution": sides[0], "channels_in": tensors[first].shape[1],
            "channels_out": tensors[out].shape[0], "model_channels": width,
            "channel_mult": [blocks[side, 0] // width for side in sides],
            "num_blocks": sum(side == sides[0] for side, _ in blocks),
            "attn_resolutions": sorted({int(m[1]) for name in tensors if (m := QKV.fullmatch(name))}),
            "label_dim": tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else 0,
            "augment_dim": tensors["map_augment.weight"].shape[1] if "map_augment.weight" in tensors else 0}
    except (KeyError, IndexError) as error:
        raise ValueError(f"not the weights of EDM's DDPM++ network: {error} is missing") from None


def mp_architecture(tensors: Mapping[str, Tensor]) -> dict:
    """The arguments of `MPUNet` that an EDM2 checkpoint was made with, but for dropout and width of heads.

    Raises `ValueError` naming the first tensor that is missing.
    """
    try:
        channels = tensors["out_conv.weight"].shape[0]
        blocks = {(int(m[1]), int(m[2])): tensors[name].shape[0]
                  for name in tensors if (m := MP_BLOCK.fullmatch(name))}
        sides = sorted({side for side, _ in blocks}, reverse=True)
        width = math.gcd(*(blocks[side, 0] for side in sides))
        return {
            "resolution": sides[0], "channels": channels, "model_channels": width,
            "channel_mult": [blocks[side, 0] // width for side in sides],
            "num_blocks": sum(side == sides[0] for side, _ in blocks),
            "attn_resolutions": sorted({int(m[1]) for name in tensors if (m := MP_QKV.fullmatch(name))}),
            "label_dim": tensors["emb_label.weight"].shape[1] if "emb_label.weight" in tensors else 0}
    except (KeyError, IndexError) as error:
        raise ValueError(f"not the weights of EDM2's network: {error} is missing") from None


def load_edm(path: Path | str, device: torch.device | str = "cpu", sigma_data: float = 0.5,
             channels_per_head: int = 64) -> Denoiser:
    """The denoiser of a public EDM (DDPM++) or EDM2 checkpoint, in evaluation mode.

    `path`: the published pickle (`.pkl`), of which nothing is run, or a safetensors file of its state. Names
    may begin with `model.` or `unet.`, as those of preconditioned networks do. `sigma_data` is that of the
    training, `channels_per_head` the width of EDM2's attention heads, 64 in all published ones. EDM2's
    log-variance head, which is used in training alone, is left out. Raises `ValueError` naming the file and
    the first tensor that is missing, unknown or misshapen.
    """
    path = Path(path)
    tensors = {unwrapped(name): tensor for name, tensor in read_tensors(path).items()
               if not name.startswith(TRAINING)}
    with naming(path):
        with torch.device("meta"):  # without memory: few bytes may claim to be of a network larger than any
            check_shapes(network_of(tensors, channels_per_head, None), tensors)
        network = network_of(tensors, channels_per_head, torch.Generator())
        load_strictly(network, tensors)
    return Denoiser(network, sigma_data).to(device).eval()


def unwrapped(name: str) -> str:
    """A tensor's name in the raw network."""
    return next((name.removeprefix(one) for one in WRAPPERS if name.startswith(one)), name)


def network_of(tensors: Mapping[str, Tensor], channels_per_head: int,
               generator: torch.Generator | None) -> nn.Module:
    """The raw network that tensors are of, with other weights. No generator: on the device `meta`."""
    if EDM2 in tensors:
        return MPUNet(**mp_architecture(tensors), channels_per_head=channels_per_head, dropout=0.0,
                      generator=generator)
    return UNet(**architecture(tensors), dropout=0.0, generator=generator)
