"""CLIP with both of its towers: how near an image is to a text, and features of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ambient.data.clip_pixels import normalised
from ambient.diffusion.networks.image_tower import ImageTower
from ambient.training.clip_texts import ClipTexts
from ambient.training.public_weights import load_strictly

VISUAL = "visual."  # before the names of the image tower's tensors in checkpoints
TOGETHER = 32  # images or texts that a tower sees at once


class ClipModel(ClipTexts):
    """A text tower and an image tower of one space. Features are computed in float32."""

    def __init__(self, visual: ImageTower, *text) -> None:
        """`text`: the arguments of `ClipTexts`."""
        super().__init__(*text)
        self.visual = visual

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Both towers' tensors. Raises `ValueError` naming the first of either that does not fit."""
        super().take(tensors)
        own = {name.removeprefix(VISUAL): one for name, one in tensors.items() if name.startswith(VISUAL)}
        if not own:
            raise ValueError(f"has no image tower ({VISUAL}...), allowed: a checkpoint with one; or image: "
                             "null, for a text encoder that sees no images")
        load_strictly(self.visual, own)

    @torch.no_grad()
    def image_features(self, images: Sequence[np.ndarray]) -> Tensor:
        """(N, F) of uint8 images (1 or 3, H, W) of any size, not of unit length."""
        where = self.merges.device
        return in_parts(images, lambda part: self.visual(
            torch.from_numpy(normalised(part, self.visual.side)).to(where)))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """(N, F) of texts, of unit length."""
        return in_parts(texts, lambda part: self.tower.features(self.tokens(part)))

    def cosines(self, images: Sequence[np.ndarray], texts: Sequence[str]) -> np.ndarray:
        """The cosine of each image with its text, float64 (N,). Raises `ValueError` for more of either."""
        if len(images) != len(texts):
            raise ValueError(f"got {len(images)} images and {len(texts)} texts, allowed: one text an image")
        pairs = normalize(self.image_features(images)) * self.text_features(texts)
        return pairs.sum(dim=1).double().cpu().numpy()


def in_parts(given: Sequence, of: Callable[[Sequence], Tensor]) -> Tensor:
    """What a function gives for a sequence, `TOGETHER` of it at a time."""
    return torch.cat([of(given[first:first + TOGETHER]) for first in range(0, len(given), TOGETHER)])
