r"""EDM2's magnitude-preserving U-Net, with the parameter names of the public EDM2 checkpoints.

Written after Karras et al. 2024 (arXiv:2312.02696, configuration G); names and shapes match, so that public
weights load: what is `unet.` there is the network here. No layer has a bias, and no activation is normalised
but by the pixel, at the beginning of each encoder block, and in attention.

The embedding is computed in float32, feature maps as autocast says. All randomness comes from the caller: a
generator of the initial weights, and a function that draws dropout masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.diffusion.network import Condition, Draw
from ambient.diffusion.networks.dropout import Dropping, drawn_masks
from ambient.diffusion.networks.magnitude import SILU_RMS, Fourier, Weight, mp_cat, mp_sum, normalised
from ambient.diffusion.networks.operators import attention, resized, without_autocast

LABEL_SHARE = 0.5  # of the class in the embedding
BRANCH_SHARE = 0.3  # of the residual branch in a block's sum, and of attention
SKIP_SHARE = 0.5  # of the encoder's output in the decoder's input
LARGEST = 256.0  # what activations are clamped to


class Block(Dropping):
    """Residual block of the encoder or (`decodes`) the decoder, with attention where `head` is not 0.

    `side` is that of its output, pixels; `head` the width of each attention head: a block that is narrower
    has no attention. `largest` is the bound of the output's magnitude.
    """

    def __init__(self, channels_in: int, channels_out: int, side: int, *, embedding: int, dropout: float,
                 largest: float, generator: torch.Generator, decodes: bool, head: int = 0,
                 resample: str | None = None) -> None:
        super().__init__(channels_out, side, dropout)
        self.decodes, self.resample, self.largest = decodes, resample, largest
        self.heads = channels_out // head if head else 0
        inside = channels_in if decodes else channels_out
        self.emb_gain = nn.Parameter(torch.zeros(()))
        self.conv_res0 = Weight(inside, channels_out, 3, generator)
        self.emb_linear = Weight(embedding, channels_out, 0, generator)
        self.conv_res1 = Weight(channels_out, channels_out, 3, generator)
        changes = channels_in != channels_out
        self.conv_skip = Weight(channels_in, channels_out, 1, generator) if changes else None
        if self.heads:
            self.attn_qkv = Weight(channels_out, 3 * channels_out, 1, generator)
            self.attn_proj = Weight(channels_out, channels_out, 1, generator)

    def forward(self, x: Tensor, embedding: Tensor, keep: Tensor | None) -> Tensor:
        if self.resample:
            x = resized(x, self.resample)
        if not self.decodes:
            x = normalised(self.skipped(x), 1)
        with without_autocast(x):
            scale = 1 + self.emb_gain * self.emb_linear(embedding)
        y = self.conv_res0(F.silu(x), 1 / SILU_RMS)
        y = F.silu(y * scale[:, :, None, None].to(y.dtype))
        y = self.conv_res1(self.dropped(y, keep), 1 / SILU_RMS)
        x = mp_sum(self.skipped(x) if self.decodes else x, y, BRANCH_SHARE)
        return F.hardtanh(self.attended(x) if self.heads else x, -self.largest, self.largest)

    def skipped(self, x: Tensor) -> Tensor:
        """`x` with as many channels as the output has."""
        return x if self.conv_skip is None else self.conv_skip(x)

    def attended(self, x: Tensor) -> Tensor:
        """Self-attention over pixels: softmax(q k / sqrt(head)) v, heads of unit-magnitude q, k and v."""
        # The public checkpoints interleave q, k and v of a head channel by channel.
        pixels = x.shape[2] * x.shape[3]  # a crop has fewer than the side says
        qkv = self.attn_qkv(x).reshape(len(x), self.heads, -1, 3, pixels)
        q, k, v = (part.transpose(2, 3) for part in normalised(qkv, 2).unbind(3))
        y = attention(q, k, v)
        return mp_sum(x, self.attn_proj(y.transpose(2, 3).reshape(x.shape).to(x.dtype)), BRANCH_SHARE)


class MPUNet(nn.Module):
    """The raw network F(x, c_noise): (B, C, side, side) -> the same shape; 0 at initialisation.

    Args:
        resolution: side of the square images, pixels.
        channels: of the images.
        label_dim: number of classes, 0 for none.
        model_channels: what all widths are multiples of.
        channel_mult: factor of the width at each level; each level halves the side.
        num_blocks: residual blocks of each encoder level; a decoder level has one more.
        attn_resolutions: sides at which blocks have self-attention; the first decoder block always has it.
        channels_per_head: width of an attention head.
        dropout: probability, in [0, 1).
        generator: of the initial weights.
        largest: what the output of each block is clamped to.
    """

    def __init__(self, *, resolution: int, channels: int, label_dim: int = 0, model_channels: int,
                 channel_mult: Sequence[int], num_blocks: int, attn_resolutions: Sequence[int],
                 channels_per_head: int, dropout: float, generator: torch.Generator,
                 largest: float = LARGEST) -> None:
        super().__init__()
        widths, self.dropout = [factor * model_channels for factor in channel_mult], dropout
        embedding, self.label_dim = max(widths), label_dim
        self.out_gain = nn.Parameter(torch.zeros(()))
        self.emb_fourier = Fourier(widths[0], generator)
        self.emb_noise = Weight(widths[0], embedding, 0, generator)
        self.emb_label = Weight(label_dim, embedding, 0, generator) if label_dim else None

        options = {"embedding": embedding, "dropout": dropout, "largest": largest, "generator": generator}
        self.enc, width, skips = nn.ModuleDict(), widths[0], []
        for level, out in enumerate(widths):
            side = resolution >> level
            head = channels_per_head if side in attn_resolutions else 0
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = Weight(channels + 1, width, 3, generator)
            else:
                self.enc[f"{side}x{side}_down"] = Block(width, width, side, decodes=False, resample="down",
                                                        **options)
            skips.append(width)
            for i in range(num_blocks):
                self.enc[f"{side}x{side}_block{i}"] = Block(width, out, side, decodes=False, head=head,
                                                            **options)
                width = out
                skips.append(width)
        self.dec = nn.ModuleDict()
        for level, out in reversed(list(enumerate(widths))):
            side = resolution >> level
            head = channels_per_head if side in attn_resolutions else 0
            if level == len(widths) - 1:
                self.dec[f"{side}x{side}_in0"] = Block(width, width, side, decodes=True,
                                                       head=channels_per_head, **options)
                self.dec[f"{side}x{side}_in1"] = Block(width, width, side, decodes=True, **options)
            else:
                self.dec[f"{side}x{side}_up"] = Block(width, width, side, decodes=True, resample="up",
                                                      **options)
            for i in range(num_blocks + 1):
                self.dec[f"{side}x{side}_block{i}"] = Block(width + skips.pop(), out, side, decodes=True,
                                                            head=head, **options)
                width = out
        self.out_conv = Weight(width, channels, 3, generator)

    def masks(self, count: int, drawn: Draw | None) -> list[Tensor]:
        """Dropout masks of `count` images: see `drawn_masks`."""
        return drawn_masks(self, self.dropout, count, drawn)

    def embed(self, c_noise: Tensor, condition: Condition) -> Tensor:
        """Embedding (B, widest level) of c_noise (B,) and, where labels are known, of `classes` (B, classes).

        The classes are one-hot; without them a conditional network is told a vector of zeros.
        """
        classes = condition.get("classes")
        with without_autocast(c_noise):
            embedding = self.emb_noise(self.emb_fourier(c_noise))
            if self.emb_label is not None:
                if classes is None:
                    classes = embedding.new_zeros(len(embedding), self.label_dim)
                label = self.emb_label(classes.to(embedding.dtype) * math.sqrt(self.label_dim))
                embedding = mp_sum(embedding, label, LABEL_SHARE)
            return F.silu(embedding) / SILU_RMS

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition | None = None,
                masks: Sequence[Tensor] = ()) -> Tensor:
        """Shapes as in `ambient.diffusion.network.Network`; of the condition it takes `classes`."""
        embedding, left, skips = self.embed(c_noise, condition or {}), iter(masks), []
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)  # in the place of biases
        for layer in self.enc.values():
            x = layer(x, embedding, next(left, None)) if isinstance(layer, Block) else layer(x)
            skips.append(x)
        for name, block in self.dec.items():
            if "block" in name:
                x = mp_cat(x, skips.pop(), SKIP_SHARE)
            x = block(x, embedding, next(left, None))
        return self.out_conv(x) * self.out_gain
