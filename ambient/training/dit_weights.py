"""Weights of the public MicroDiT checkpoints, and of networks with their parameter names.

The architecture is read from the names and shapes of the tensors, but for the width of heads and the capacity
of experts, which leave no trace in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.networks.dit import MicroDiT
from ambient.diffusion.networks.widths import BlockWidths
from ambient.storage.files import naming
from ambient.training.public_weights import load_strictly, read_tensors

INDEX = re.compile(r"(blocks|patch_mixer)\.(\d+)\.")
AS_WIDE = ("patch_mixer.0.norm1.weight", "patch_mixer_map_xin.1.weight")  # as the mixer's tokens are
WRAPPER = "dit."  # what names begin with in a checkpoint of a training, beside encoders' names


def inside(tensors: Mapping[str, Tensor], block: str) -> BlockWidths:
    """The widths inside of a block, by the name that its tensors begin with."""
    attention = tensors[f"{block}.attn.proj.weight"].shape[1]
    if f"{block}.mlp.gate.weight" in tensors:
        return BlockWidths(attention, tensors[f"{block}.mlp.w1"].shape[2], experts=True)
    return BlockWidths(attention, tensors[f"{block}.mlp.w1.weight"].shape[0])


def dit_architecture(tensors: Mapping[str, Tensor]) -> dict:
    """The arguments of `MicroDiT` that tensors were made with, but for `head`, `capacity` and `scale`.

    The scale of positions is not needed: their table is one of the tensors. Raises `ValueError` naming the
    first tensor that is missing.
    """
    try:
        width, channels, patch, _ = tensors["x_embedder.proj.weight"].shape
        found = {part: {int(m[2]) for name in tensors if (m := INDEX.match(name)) and m[1] == part}
                 for part in ("blocks", "patch_mixer")}
        stacks = {part: [inside(tensors, f"{part}.{i}") for i in range(len(found[part]))] for part in found}
        gates = [tensor.shape[0] for name, tensor in tensors.items() if name.endswith(".mlp.gate.weight")]
        return {"side": patch * isqrt(tensors["pos_embed"].shape[1]), "channels": channels, "patch": patch,
                "width": width, "blocks": stacks["blocks"], "mixer": stacks["patch_mixer"],
                "mixer_width": next((tensors[name].shape[0] for name in AS_WIDE if name in tensors), width),
                "caption_channels": tensors["y_embedder.y_proj.fc1.weight"].shape[1],
                "caption_mlp": tensors["y_emb_preprocess.mlp.w1.weight"].shape[0],
                "num_experts": gates[0] if gates else 1}
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"not the weights of MicroDiT: {error} is missing or misshapen") from None


def load_microdit(path: Path | str, device: torch.device | str = "cpu", sigma_data: float = 0.9,
                  channels_per_head: int = 64, capacity: float = 2.0) -> Denoiser:
    """The denoiser of a public MicroDiT checkpoint, in evaluation mode.

    `path`: a safetensors file, or a `.pt` file, of which torch reads weights alone: a state of the network,
    or a checkpoint of its training, where names begin with `dit.`. `channels_per_head`: 64 in all published
    ones of width 1024 (32 in MicroDiT_Tiny). `capacity`: experts that a token has on average, 2 as published.
    D(x, sigma, {"text": states}) is told the states (B, L, C) of captions. Raises `ValueError` naming the
    file and the first tensor that is missing, unknown or misshapen, and for heads that the widths have no
    room for.
    """
    path = Path(path)
    tensors = read_tensors(path)
    if any(name.startswith(WRAPPER) for name in tensors):
        tensors = {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()
                   if name.startswith(WRAPPER)}
    with naming(path):
        made = dit_architecture(tensors)
        widths = [made["width"], made["mixer_width"], *(b.attention for b in made["blocks"] + made["mixer"])]
        if channels_per_head < 1 or any(width % channels_per_head for width in widths):
            raise ValueError(f"channels_per_head: got {channels_per_head}, allowed: a divisor of the widths "
                             f"of attention: {', '.join(map(str, sorted(set(widths))))}")
        network = MicroDiT(**made, head=channels_per_head, capacity=capacity, generator=torch.Generator())
        load_strictly(network, tensors)
    return Denoiser(network, sigma_data).to(device).eval()
