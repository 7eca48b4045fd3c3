r"""CLIP's transformer of images, with the parameter names of OpenCLIP's public checkpoints.

An image is cut into patches, each of which becomes a token by one linear map. A class token c stands before
them: x = LN([c, W patch_1, W patch_2, ...] + positions), then the blocks of the text tower, without a mask.
The features of the image are LN(x) at the class token, projected. They are not of unit length.

Source: Radford et al. 2021 (arXiv:2103.00020).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ambient.diffusion.networks.text_tower import Transformer


class ImageTower(nn.Module):
    """Normalised RGB images (B, 3, S, S) to features (B, features).

    Args:
        side: S, pixels. What does not fill a patch at the right and at the bottom is not seen.
        patch: pixels of a patch's side, at most `side`.
        width: channels of a token, a multiple of `heads`.
        heads: of attention.
        layers: blocks.
        features: width of the space that images share with texts.
        quick_gelu: x sigmoid(1.702 x) in the place of the exact GELU.
    """

    def __init__(self, side: int, patch: int, width: int, heads: int, layers: int, features: int,
                 quick_gelu: bool) -> None:
        super().__init__()
        self.side = side
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((side // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, heads, layers, quick_gelu)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, features))

    def forward(self, x: Tensor) -> Tensor:
        """Raises `ValueError` for images of another size."""
        if x.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"images of the shape {tuple(x.shape[1:])}, allowed: (3, {self.side}, "
                             f"{self.side})")
        patches = self.conv1(x).flatten(2).transpose(1, 2)  # row after row
        x = torch.cat([self.class_embedding.to(patches.dtype).expand(len(x), 1, -1), patches], dim=1)
        x = self.transformer(self.ln_pre(x + self.positional_embedding))
        return self.ln_post(x[:, 0]) @ self.proj
