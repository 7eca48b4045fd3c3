"""Detector `dinov2`: the class token of DINOv2 (Oquab et al. 2023), for FD-DINOv2 (Stein et al. 2023).

The network is transformers' `Dinov2Model`, with weights from a local safetensors file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from ambient.specs import DetectorSpec
from ambient.specs.strict import require
from ambient.storage.files import naming

if TYPE_CHECKING:
    from torch import Tensor, device, nn

SIDE, HEAD = 224, 64  # pixels of an input; width of an attention head at every size of the network
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels in [0, 1]
POSITIONS, PATCHES = "embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"
STRETCH = 0.1  # of a patch, which the original adds to the goal when it stretches its table of positions
ADVICE = ("fetch model.safetensors of facebook/dinov2-large (ViT-L/14 without registers) and give its local "
          "path as detectors.<name>.weights in config/local.yaml")


@dataclass(frozen=True)
class Spec(DetectorSpec):
    """`resize` says how images come to 224 x 224 pixels, bicubic and without a crop.

    `torch`: antialiased in float32, neither rounded nor clamped, as published FD-DINOv2 is measured. `pil`:
    Pillow's, rounded to uint8.
    """

    FULL_RANK: ClassVar[bool] = True
    RESIZES: ClassVar[bool] = True
    FLOPS: ClassVar[float] = 1.62e11  # of ViT-L/14 at 224 x 224 pixels
    PACKAGES: ClassVar[tuple[str, ...]] = ("transformers",)
    ADVICE: ClassVar[str] = ADVICE
    LICENCE: ClassVar[str] = "Apache-2.0 (DINOv2)"
    APART_FROM_WEIGHTS: ClassVar[Mapping] = {"resize": "torch", "sha256": None}

    features: int = 1024  #: width of the network: 1024 for ViT-L/14
    resize: Literal["torch", "pil"] = "torch"  #: who resizes images

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.features % HEAD == 0, "features", self.features, f"a multiple of {HEAD}")

    def protocol(self) -> dict:
        return {"resize": self.resize}


def make(spec: Spec, record, *, data: Path, weights: Path | None, state, out: Path) -> None:
    """Put the weights at `out`. Raises `ValueError` where they are missing, or of another network."""
    from ambient.evaluation.pretrained import put

    put(spec, record, weights, out, "weights of DINOv2, from outside",
        lambda path, called: read_network(spec, path, called))


def read_network(spec: Spec, path: Path, called: Path | None = None) -> nn.Module:
    """The network in evaluation mode, float32. Raises `ValueError` naming the file for any other weights."""
    from safetensors.torch import load_file

    from ambient.evaluation.pretrained import library, network

    found = library(spec.kind)
    with naming(called or path):
        tensors = load_file(path)
        if POSITIONS not in tensors or PATCHES not in tensors:
            raise ValueError(f"not the weights of DINOv2 as transformers names them; {ADVICE}")
        settings = architecture(tensors)
        if settings["hidden_size"] != spec.features:
            raise ValueError(f"features: got {spec.features}, allowed: {settings['hidden_size']}, the width "
                             "of this network")
        tensors[POSITIONS] = stretched(tensors[POSITIONS], SIDE // settings["patch_size"])
        config = found.Dinov2Config(image_size=SIDE, layer_norm_eps=1e-6, **settings)
        return network(found.Dinov2Model, config, tensors, ADVICE)


def architecture(tensors: Mapping[str, Tensor]) -> dict:
    """The arguments of `Dinov2Config` that the weights were trained with, by their shapes."""
    width = tensors[POSITIONS].shape[-1]
    blocks = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    return {"hidden_size": width, "num_attention_heads": width // HEAD, "num_hidden_layers": len(blocks),
            "patch_size": tensors[PATCHES].shape[-1]}


def stretched(table: Tensor, goal: int) -> Tensor:
    """A table of positions (1, 1 + n^2, D) for n x n patches, as the original stretches it to goal x goal.

    Bicubic, without antialias, by the factor (goal + 0.1) / n. transformers would stretch it by goal / n,
    which changes features by a thousandth.
    """
    from torch import cat
    from torch.nn.functional import interpolate

    side = round((table.shape[1] - 1) ** 0.5)
    if side == goal:
        return table
    grid = table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    grid = interpolate(grid, scale_factor=((goal + STRETCH) / side,) * 2, mode="bicubic", antialias=False)
    return cat([table[:, :1].float(), grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def prepared(images: np.ndarray, resize: str, where: device | str) -> Tensor:
    """The network's input, float32 (N, 3, 224, 224), of uint8 images (N, C, H, W)."""
    import torch
    from PIL import Image

    rgb = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
    if resize == "pil":
        rgb = np.stack([np.asarray(Image.fromarray(one.transpose(1, 2, 0)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC)) for one in rgb]).transpose(0, 3, 1, 2)
    x = torch.from_numpy(np.ascontiguousarray(rgb)).to(where, torch.float32)
    if resize == "torch":
        x = torch.nn.functional.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(values, device=where).reshape(3, 1, 1) for values in (MEAN, STD))
    return (x / 255 - mean) / std


def features(spec: Spec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """The class token after the last norm (N, D)."""
    from ambient.training.hardware import device

    processor = device()
    network = read_network(spec, path).to(processor)
    return lambda images: network(prepared(images, spec.resize, processor)).pooler_output
