r"""MicroDiT: a diffusion transformer that is told captions, with the names of its public checkpoints.

Written after Sehwag et al. 2024 (arXiv:2407.15811). A small transformer, the patch mixer, sees all patches of
the image. Only then may a training step leave most of them out, so that those that stay know of the others,
and the wide blocks behind it cost a fraction. Every other block has experts (`experts.py`) in the place of an
MLP. No layer of the blocks has a bias. At the initial weights F = 0, and a block passes its cross-attention
alone.

A block of width d, with (s1, g1, a1, s2, g2, a2) = W gelu(c) + b for the vector c of noise level and caption:

    x <- x + a1 * SelfAttention(LN(x) (1 + g1) + s1)
    x <- x + CrossAttention(LN(x), caption)
    x <- x + a2 * MLP(LN(x) (1 + g2) + s2)

All randomness is that of the initial weights, and comes from the caller's generator. There is no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.diffusion.network import Condition, Draw
from ambient.diffusion.networks.experts import Experts
from ambient.diffusion.networks.layers import CrossAttention, GatedMLP, Linear, SelfAttention, layer_norm
from ambient.diffusion.networks.positions import positions, waves_of_time
from ambient.diffusion.networks.widths import BlockWidths
from ambient.diffusion.patches import at, put_back, require_places, to_images

STD = 0.02  # of initial weights that lead into a branch; those that lead out of it are smaller with depth
WAVES = 512  # of the noise level


class Convolution(nn.Conv2d):
    """Of the n numbers of a patch: the weight is Xavier's uniform over all n, the bias U(+-1 / sqrt(n))."""

    def __init__(self, channels: int, width: int, patch: int, generator: torch.Generator | None) -> None:
        super().__init__(channels, width, patch, stride=patch)
        nn.init.xavier_uniform_(self.weight.data.view(width, -1), generator=generator)
        bound = (patch * patch * channels) ** -0.5
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def reset_parameters(self) -> None:
        """Nothing: torch would draw from its global generator here."""


class PatchEmbedding(nn.Module):
    """Images (B, C, S, S) to tokens (B, T, width), row by row: a convolution with stride = kernel = patch."""

    def __init__(self, channels: int, patch: int, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.proj = Convolution(channels, width, patch, generator)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class NoiseEmbedding(nn.Module):
    """c_noise (B,) to (B, width): two layers with gelu between, on its waves."""

    def __init__(self, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(WAVES, width, generator, STD, bias=True), nn.GELU("tanh"),
                                 Linear(width, width, generator, STD, bias=True))

    def forward(self, c_noise: Tensor) -> Tensor:
        return self.mlp(waves_of_time(c_noise, WAVES))


class CaptionMLP(nn.Module):
    """W2 LN(gelu(W1 y + b1)) + b2: (..., width_in) -> (..., width)."""

    def __init__(self, width_in: int, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.fc1 = Linear(width_in, width, generator, STD, bias=True)
        self.norm = layer_norm(width)
        self.fc2 = Linear(width, width, generator, STD, bias=True)

    def forward(self, y: Tensor) -> Tensor:
        return self.fc2(self.norm(F.gelu(self.fc1(y), approximate="tanh")))


class CaptionEmbedding(nn.Module):
    """States of captions (B, L, width_in) to tokens (B, L, width)."""

    def __init__(self, width_in: int, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.y_proj = CaptionMLP(width_in, width, generator)

    def forward(self, y: Tensor) -> Tensor:
        return self.y_proj(y)


class CaptionBlock(nn.Module):
    """y + SelfAttention(LN(y)), and to that its gated MLP: (B, L, width), every position counts."""

    def __init__(self, width: int, inside: int, head: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.norm1 = layer_norm(width)
        self.attn = SelfAttention(width, width, head, generator, std=STD, std_out=0)
        self.norm2 = layer_norm(width)
        self.mlp = GatedMLP(width, inside, generator, std=STD, std_out=STD, std_last=0)

    def forward(self, y: Tensor) -> Tensor:
        y = y + self.attn(self.norm1(y))
        return y + self.mlp(self.norm2(y))


def modulation(width: int, outputs: int, generator: torch.Generator | None) -> nn.Sequential:
    """W gelu(c) + b, 0 at first: (B, width) -> (B, outputs)."""
    return nn.Sequential(nn.GELU("tanh"), Linear(width, outputs, generator, 0, bias=True))


class Block(nn.Module):
    """A block of the formula above: tokens (B, T, width), caption (B, L, width), vector (B, told).

    `num_experts` and `capacity` are those of a block with experts; `std_out` is that of the initial weights
    which lead out of its branches.
    """

    def __init__(self, width: int, told: int, inside: BlockWidths, head: int, num_experts: int,
                 capacity: float, generator: torch.Generator | None, std_out: float) -> None:
        super().__init__()
        drawn = {"generator": generator, "std": STD, "std_out": std_out}
        self.norm1 = layer_norm(width)
        self.attn = SelfAttention(width, inside.attention, head, **drawn)
        self.cross_attn = CrossAttention(width, width, head, **drawn)
        self.norm2 = layer_norm(width)
        self.norm3 = layer_norm(width)
        self.mlp = (Experts(width, inside.mlp, num_experts, capacity, **drawn) if inside.experts
                    else GatedMLP(width, inside.mlp, **drawn))
        self.adaLN_modulation = modulation(told, 6 * width, generator)

    def forward(self, x: Tensor, caption: Tensor, vector: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            self.adaLN_modulation(vector)[:, None].chunk(6, dim=2))
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        x = x + self.cross_attn(self.norm2(x), caption)
        return x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)


class FinalLayer(nn.Module):
    """Tokens (B, K, width) and the vector (B, width) to patches (B, K, outputs)."""

    def __init__(self, width: int, outputs: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.norm_final = layer_norm(width)
        self.adaLN_modulation = modulation(width, 2 * width, generator)
        self.linear = Linear(width, outputs, generator, 0, bias=True)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vector)[:, None].chunk(2, dim=2)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


def mapped(channels_in: int, channels_out: int, generator: torch.Generator | None) -> nn.Module:
    """W LN(x), or `x` where the widths are equal."""
    if channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(layer_norm(channels_in), Linear(channels_in, channels_out, generator))


class MicroDiT(nn.Module):
    """The raw network F(x, c_noise): (B, C, side, side) -> the same shape; 0 at initialisation.

    Of the condition it takes
      `text`: states of captions (B, L, caption_channels), of any length L >= 1. All zeros, as a caption that
        a step drops has them, and no text at all are the null caption;
      `patches`: places (B, K) of the patches that stay (`ambient.diffusion.patches`). Its output is exactly 0
        at all others. Without it all patches stay, as in sampling.

    Args:
        side: of the square images, pixels or numbers of a latent.
        channels: of the images.
        patch: side of a patch; it divides `side`.
        width: of the tokens, a multiple of 4 and of `head`.
        head: width of an attention head.
        blocks: widths inside of each block (`networks/widths.py`).
        mixer_width: of the tokens in the patch mixer, a multiple of `head`.
        mixer: widths inside of each of its blocks.
        caption_channels: of the states of captions.
        caption_mlp: width inside of the MLP of captions.
        num_experts: in each block with experts.
        capacity: experts that a token has on average, in (0, num_experts].
        scale: of positions (`networks/positions.py`).
        generator: of the initial weights.

    Raises `ValueError` for an image that is no grid of patches, and for tokens that are no whole heads.
    """

    def __init__(self, *, side: int, channels: int, patch: int, width: int, head: int,
                 blocks: Sequence[BlockWidths], mixer_width: int, mixer: Sequence[BlockWidths],
                 caption_channels: int, caption_mlp: int, num_experts: int, capacity: float,
                 generator: torch.Generator | None, scale: float = 1.0) -> None:
        super().__init__()
        for name, value, divisor in (("side", side, patch), ("width", width, head),
                                     ("mixer_width", mixer_width, head)):
            if value % divisor:
                raise ValueError(f"{name}: got {value}, allowed: multiples of {divisor}")
        self.shape, self.patch, self.caption_channels = (channels, side, side), patch, caption_channels
        self.register_buffer("pos_embed", positions(side // patch, width, scale).float())
        self.register_buffer("mask_token", torch.zeros(1, 1, patch * patch * channels))
        self.x_embedder = PatchEmbedding(channels, patch, width, generator)
        self.t_embedder = NoiseEmbedding(width, generator)
        self.y_embedder = CaptionEmbedding(caption_channels, width, generator)
        self.y_emb_preprocess = CaptionBlock(width, caption_mlp, head, generator)
        self.pooled_y_emb_process = CaptionMLP(width, width, generator)
        self.patch_mixer_map_xin = mapped(width, mixer_width, generator)
        self.patch_mixer_map_y = mapped(width, mixer_width, generator)
        depth = len(blocks)
        self.patch_mixer = nn.ModuleList(
            Block(mixer_width, width, inside, head, num_experts, capacity, generator,
                  std_out=STD / (2 * depth) ** 0.5) for inside in mixer)
        self.patch_mixer_map_xout = mapped(mixer_width, width, generator)
        self.blocks = nn.ModuleList(
            Block(width, width, inside, head, num_experts, capacity, generator,
                  std_out=STD / (2 * (i + 1)) ** 0.5) for i, inside in enumerate(blocks))
        self.final_layer = FinalLayer(width, patch * patch * channels, generator)

    def masks(self, count: int, drawn: Draw | None) -> list[Tensor]:
        """An empty list: this network drops nothing."""
        return []

    def told(self, c_noise: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        """(caption tokens (B, L, width), vector (B, width)) of c_noise (B,) and states (B, L, channels).

        Raises `ValueError` for states of another shape.
        """
        if text is None:
            # One token: tokens that are equal remain equal, and their number changes no attention to them.
            text = c_noise.new_zeros(len(c_noise), 1, self.caption_channels)
        if text.ndim != 3 or text.shape[::2] != (len(c_noise), self.caption_channels) or not text.shape[1]:
            raise ValueError(f"text of the shape {tuple(text.shape)}, allowed: ({len(c_noise)}, tokens, "
                             f"{self.caption_channels}), the states of a caption for each image, one or more")
        caption = self.y_emb_preprocess(self.y_embedder(text.to(c_noise.dtype)))
        return caption, self.t_embedder(c_noise) + self.pooled_y_emb_process(caption.mean(1))

    def mixed(self, x: Tensor, caption: Tensor, vector: Tensor, places: Tensor | None = None) -> Tensor:
        """Tokens (B, T, width) after the mixer, which sees all of them; then those at places (B, K) alone."""
        x, caption = self.patch_mixer_map_xin(x), self.patch_mixer_map_y(caption)
        for block in self.patch_mixer:
            x = block(x, caption, vector)
        return self.patch_mixer_map_xout(x if places is None else at(x, places))

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition | None = None,
                masks: Sequence[Tensor] = ()) -> Tensor:
        """Shapes as in `ambient.diffusion.network.Network`; of the condition it takes `text`, `patches`.

        Raises `ValueError` for images and conditions of other shapes.
        """
        condition = condition or {}
        if x.shape[1:] != self.shape:
            raise ValueError(f"images of the shape {tuple(x.shape)}, allowed: (B, "
                             f"{', '.join(map(str, self.shape))}), of which this network is made")
        caption, vector = self.told(c_noise, condition.get("text"))
        places = condition.get("patches")
        if places is not None:
            require_places(places, len(x))
        tokens = self.mixed(self.x_embedder(x) + self.pos_embed, caption, vector, places)
        for block in self.blocks:
            tokens = block(tokens, caption, vector)
        patches = self.final_layer(tokens, vector)
        if places is not None:
            empty = self.mask_token.expand(len(x), self.pos_embed.shape[1], -1)
            patches = put_back(patches, places, empty)
        return to_images(patches, self.patch)
