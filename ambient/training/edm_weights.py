"""Weights of the public EDM checkpoints, as safetensors under their own parameter names.

The checkpoints themselves are pickles, which can run any program and which this package does not open.
Turn one into safetensors in EDM's own environment. The architecture is read from the names of the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.networks.unet import UNet
from ambient.storage.files import naming

BLOCK = re.compile(r"enc\.(\d+)x\1_block(\d+)\.conv1\.weight")
QKV = re.compile(r"(?:enc|dec)\.(\d+)x\1_block\d+\.qkv\.weight")


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


def load_edm(path: Path | str, device: torch.device | str = "cpu", sigma_data: float = 0.5) -> Denoiser:
    """The denoiser of a public EDM checkpoint (DDPM++) in a safetensors file, in evaluation mode.

    Names may begin with `model.`, as those of EDM's preconditioned network do. `sigma_data` is that of the
    training. Raises `ValueError` naming the file and the first tensor that is missing, unknown or misshapen.
    """
    path = Path(path)
    with naming(path), safe_open(path, framework="pt") as file:
        tensors = {name.removeprefix("model."): file.get_tensor(name) for name in file.keys()}
    with naming(path):
        network = UNet(**architecture(tensors), dropout=0.0, generator=torch.Generator())
        expected = network.state_dict()
        for name in sorted(expected.keys() | tensors.keys()):
            ours, theirs = (tuple(of[name].shape) if name in of else None for of in (expected, tensors))
            if ours != theirs:
                raise ValueError(f"{name}: has the shape {theirs}, allowed: {ours}")
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return Denoiser(network, sigma_data).to(device).eval()
