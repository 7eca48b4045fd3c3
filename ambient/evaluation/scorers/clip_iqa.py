"""Scorer `clip_iqa`: CLIP-IQA (Wang et al. 2023) of an image and of its patches, as piq 0.8.0 computes it.

How much nearer the image is to "Good photo." than to "Bad photo." in the space of CLIP's RN50.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.clip_pixels import MEAN, STD
from ambient.specs import DatasetSpec, ScorerSpec
from ambient.specs.scores import require_cover, require_sides
from ambient.storage.files import naming, sha256

if TYPE_CHECKING:
    from torch import Tensor, nn

# OpenAI's RN50.pt, a TorchScript program: its published address has this digest, and no other one is run.
OPENAI_SHA256 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
ADVICE = ("fetch OpenAI's RN50.pt, or a safetensors file of its tensors by the same names, and give its "
          "local path as scorers.<name>.path in config/local.yaml")
START, END, LENGTH = 49406, 49407, 77  # tokens around a prompt, and how many there are with zeros after them
PROMPTS = ((886, 1125, 269), (2103, 1125, 269))  # "Good photo." and "Bad photo."
SMALLEST, LEAST = 224, 32  # pixels: smaller patches and smaller images are enlarged to it, bilinearly
BATCH_PIXELS = 64 * SMALLEST**2  # that are scored together


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """`path` is the file of CLIP's weights; the package piq has its network."""

    GIVEN: ClassVar[str] = "the weights of CLIP's RN50"
    PACKAGES: ClassVar[tuple[str, ...]] = ("piq",)
    ADVICE: ClassVar[str] = ADVICE
    LICENCE: ClassVar[str] = "MIT (CLIP)"
    FLOPS: ClassVar[float] = 2.4e5  # of a pixel that the network sees
    RATE: ClassVar[float] = 200.0
    SHARD: ClassVar[int] = 64

    patches: tuple[int, ...] = (32, 64, 128, 256, 512)  #: sides of non-overlapping patches, pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sides(self.patches)

    def check(self, dataset: DatasetSpec) -> None:
        require_cover(self.patches, dataset)

    def patch_sides(self) -> tuple[int, ...]:
        return self.patches

    def flops(self, images: int, channels: int, resolution: int) -> float:
        """Of the whole image, and of all patches of each side, those that are small enlarged."""
        sides = [side for side in self.patches if not scored_whole(side, resolution)]
        seen = [max(resolution, LEAST), *(resolution / side * max(side, SMALLEST) for side in sides)]
        return images * self.FLOPS * sum(side**2 for side in seen)


def scored_whole(side: int, resolution: int) -> bool:
    """Whether the only patch of a side is the image itself, neither of them enlarged."""
    return side == resolution >= SMALLEST


def scorer(spec: Spec, given: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """The score in [0, 1] of each image, and of each of its patches.

    An image is seen at its own size, as piq sees it, and a patch at 224 pixels at least, as the paper's
    annotation has it.
    """
    from ambient.data.scores import EACH, cut

    score = judge(read_network(given))

    def of(images: np.ndarray) -> dict[str, np.ndarray]:
        found = {"score": score(images, LEAST)}
        for side in spec.patches:
            parts = np.stack([cut(image, side) for image in images])
            whole = scored_whole(side, images.shape[-1])
            each = found["score"] if whole else score(parts.reshape(-1, *parts.shape[3:]), SMALLEST)
            found[f"{EACH}{side}"] = each.reshape(parts.shape[:3]).astype(np.float32)
        return found

    return of


def judge(network: nn.Module) -> Callable[[np.ndarray, int], np.ndarray]:
    """The score of uint8 images (N, 1 or 3, H, H), float32 (N,) in [0, 1], enlarged to a side where smaller.

    exp(s cos(x, good)) / (exp(s cos(x, good)) + exp(s cos(x, bad))) of the features x of an image and those
    of both prompts; s = exp(logit_scale) is of the weights. The network is told no positions in its last
    pooling, so that images may have any size.
    """
    import torch
    from torch.nn.functional import interpolate, normalize

    from ambient.training.hardware import device

    where = device()
    network = network.to(where)
    mean, std = (torch.tensor(values, device=where).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        anchors = normalize(network.encode_text(tokens().to(where)).float(), dim=1)
        scale = network.logit_scale.exp().float()

    @torch.no_grad()
    def part(images: np.ndarray, least: int) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(images)).to(where).float() / 255
        x = x.expand(-1, 3, -1, -1)
        if x.shape[-1] < least:
            x = interpolate(x, size=(least, least), mode="bilinear", align_corners=False)
        seen = normalize(network.encode_image((x - mean) / std, pos_embedding=False).float(), dim=1)
        return (scale * seen @ anchors.T).softmax(dim=1)[:, 0].cpu()

    def of(images: np.ndarray, least: int) -> np.ndarray:
        size = max(1, BATCH_PIXELS // max(images.shape[-1], least) ** 2)
        return torch.cat([part(images[first:first + size], least)
                          for first in range(0, len(images), size)]).numpy()

    return of


def tokens() -> Tensor:
    """The two prompts, int64 (2, 77)."""
    import torch

    found = torch.zeros(len(PROMPTS), LENGTH, dtype=torch.int64)
    for row, words in zip(found, PROMPTS, strict=True):
        row[:len(words) + 2] = torch.tensor([START, *words, END])
    return found


def read_network(path: Path) -> nn.Module:
    """CLIP in evaluation mode, float32. Raises `ValueError` naming the file for any other weights."""
    try:
        from piq.feature_extractors import clip
    except ImportError as error:
        raise ValueError(f"a scorer of kind clip_iqa needs the package piq ({error}): "
                         "in the clone, pip install --editable '.[pretrained]'") from None
    with naming(path):
        tensors = read_tensors(path)
        if "visual.attnpool.positional_embedding" not in tensors or "text_projection" not in tensors:
            raise ValueError(f"not the weights of CLIP's RN50; {ADVICE}")
        return clip.build_model(tensors).float().eval()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file, or of OpenAI's own."""
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return load_file(path)
    if (digest := sha256(path)) != OPENAI_SHA256:
        raise ValueError(f"sha256 is {digest}, allowed: {OPENAI_SHA256}, OpenAI's RN50.pt (TorchScript is a "
                         f"program, and no other one is run); {ADVICE}")
    return torch.jit.load(path, map_location="cpu").state_dict()
