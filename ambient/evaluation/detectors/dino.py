"""Detector `dino`: the class token of DINO (Caron et al. 2021), in whose features the paper's Vendi score is.

The network is transformers' `ViTModel`, with weights from a local safetensors file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DetectorSpec
from ambient.specs.strict import require
from ambient.storage.files import naming

if TYPE_CHECKING:
    from torch import Tensor, device, nn

SIDE, HEAD = 224, 64  # pixels of an input; width of an attention head
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of pixels in [0, 1]
TOKEN, PATCHES = "embeddings.cls_token", "embeddings.patch_embeddings.projection.weight"
IDLE = ("pooler.",)  # behind the class token
ADVICE = ("fetch the weights of facebook/dino-vits16 as model.safetensors and give its local path as "
          "detectors.<name>.weights in config/local.yaml")


@dataclass(frozen=True)
class Spec(DetectorSpec):
    """Images come to 224 x 224 pixels bilinearly, without antialias, as for the published Vendi scores."""

    FLOPS: ClassVar[float] = 9.2e9  # of ViT-S/16 at 224 x 224 pixels
    PACKAGES: ClassVar[tuple[str, ...]] = ("transformers",)
    ADVICE: ClassVar[str] = ADVICE
    LICENCE: ClassVar[str] = "Apache-2.0 (DINO)"

    features: int = 384  #: width of the network: 384 for ViT-S/16

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.features % HEAD == 0, "features", self.features, f"a multiple of {HEAD}")


def make(spec: Spec, record, *, data: Path, weights: Path | None, state, out: Path) -> None:
    """Put the weights at `out`. Raises `ValueError` where they are missing, or of another network."""
    from ambient.evaluation.pretrained import put

    put(spec, record, weights, out, "weights of DINO, from outside",
        lambda path, called: read_network(spec, path, called))


def read_network(spec: Spec, path: Path, called: Path | None = None) -> nn.Module:
    """The network in evaluation mode, float32. Raises `ValueError` naming the file for any other weights."""
    from safetensors.torch import load_file

    from ambient.evaluation.pretrained import library, network

    found = library(spec.kind)
    with naming(called or path):
        tensors = load_file(path)
        if TOKEN not in tensors or PATCHES not in tensors:
            raise ValueError(f"not the weights of DINO as transformers names them; {ADVICE}")
        if (width := tensors[TOKEN].shape[-1]) != spec.features:
            raise ValueError(f"features: got {spec.features}, allowed: {width}, the width of this network")
        config = found.ViTConfig(image_size=SIDE, layer_norm_eps=1e-6, **architecture(tensors))
        return network(found.ViTModel, config, tensors, ADVICE, IDLE)


def architecture(tensors: Mapping[str, Tensor]) -> dict:
    """The arguments of `ViTConfig` that the weights were trained with, by their shapes."""
    width = tensors[TOKEN].shape[-1]
    blocks = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    return {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // HEAD,
            "num_hidden_layers": len(blocks), "patch_size": tensors[PATCHES].shape[-1], "qkv_bias": True}


def prepared(images: np.ndarray, where: device | str) -> Tensor:
    """The network's input, float32 (N, 3, 224, 224), of uint8 images (N, C, H, W)."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(images)).to(where, torch.float32) / 255
    x = torch.nn.functional.interpolate(x.expand(-1, 3, -1, -1), (SIDE, SIDE), mode="bilinear")
    mean, std = (torch.tensor(values, device=where).reshape(3, 1, 1) for values in (MEAN, STD))
    return (x - mean) / std


def features(spec: Spec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """The class token after the last norm (N, D)."""
    from ambient.training.hardware import device

    processor = device()
    network = read_network(spec, path).to(processor)
    return lambda images: network(prepared(images, processor)).last_hidden_state[:, 0]
