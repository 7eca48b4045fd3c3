"""A model of images and texts in one space: two towers, and the loss by which they find each other.

Source: Radford et al. 2021 (arXiv:2103.00020), CLIP, with two differences: the text tower sees all of its
tokens from each of them, and texts that are equal count as one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from ambient.diffusion.networks.operators import Pool

GROUPS = 8  # of the group norms
SIDE = 4  # numbers of a side, which the images' features keep: where a thing is, matters
FIRST_SCALE, LARGEST_SCALE = 10.0, 100.0  # of cosines, as CLIP bounds it


class ImageTower(nn.Module):
    """Images (B, C, H, H) in [-1, 1] to features (B, features): three blocks, each of half the side."""

    def __init__(self, channels_in: int, channels: int, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, out in zip((channels_in, channels, 2 * channels), (channels, 2 * channels, 4 * channels),
                              strict=True):
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.GroupNorm(GROUPS, out), nn.SiLU(),
                       nn.AvgPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(4 * channels, 4 * channels, 3, padding=1),
                                  nn.GroupNorm(GROUPS, 4 * channels), nn.SiLU(), Pool(SIDE), nn.Flatten(),
                                  nn.Linear(4 * channels * SIDE**2, features))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class TextTower(nn.Module):
    """Tokens (B, T) to states (B, T, width), after the last norm, and to features (B, features) of their
    mean.

    There is no mask: each token is seen by all others, padding too.
    """

    def __init__(self, vocabulary: int, tokens: int, width: int, layers: int, heads: int,
                 features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(tokens, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation="gelu",
                                           batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.project = nn.Linear(width, features)

    def states(self, tokens: Tensor) -> Tensor:
        """(B, T, width)."""
        return self.blocks(self.embedding(tokens) + self.positions)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.project(self.states(tokens).mean(dim=1))


class Contrastive(nn.Module):
    """Both towers, and ln of the scale of cosines. `generator` draws all weights."""

    def __init__(self, images: ImageTower, texts: TextTower, generator: torch.Generator) -> None:
        super().__init__()
        self.images, self.texts = images, texts
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                std = 0.5 if "embedding" in name else 0.1 if "positions" in name else weight[0].numel()**-0.5
                nn.init.normal_(weight, std=std, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def similarities(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Cosines (B, B') of images and texts, times the scale e^log_scale, which is at most 100."""
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        return scale * normalize(self.images(images).float()) @ normalize(self.texts(tokens).float()).T


def matching_loss(similar: Tensor, texts: Tensor) -> Tensor:
    """The symmetric cross-entropy of similarities s (B, B) of pairs whose texts have the numbers `texts`
    (B,).

    With q_ij = [text i = text j] / how often it is there, the mean of -1/B sum_ij q_ij ln softmax_j(s_ij) and
    of the same with s transposed: in a batch a text may be there twice, and each of its images is right.
    """
    same = (texts[:, None] == texts).to(similar)
    wanted = same / same.sum(dim=1, keepdim=True)
    return (cross_entropy(similar, wanted) + cross_entropy(similar.T, wanted)) / 2
