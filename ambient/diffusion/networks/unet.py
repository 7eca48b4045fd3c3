r"""DDPM++ U-Net and its encoder half, with the parameter names of the public EDM checkpoints.

Source: Song et al. 2021 (arXiv:2011.13456, appendix), in the configuration of Karras et al. 2022
(arXiv:2206.00364, appendix F). Written from those; names and shapes match so that public weights load.

All randomness comes from the caller: a generator of the initial weights, and a function that draws dropout
masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.diffusion.network import Condition, Draw
from ambient.diffusion.networks.dropout import Dropping, drawn_masks
from ambient.diffusion.networks.operators import GroupNorm, attention, convolution, resized

SKIP_SCALE = math.sqrt(0.5)  # after every residual and attention sum, so that the variance stays put
FREQUENCIES_MAX_PERIOD = 10_000


def xavier_uniform(weight: Tensor, generator: torch.Generator, scale: float = 1.0) -> None:
    """Fill with uniform draws of variance 2 / (fan_in + fan_out), times scale^2."""
    receptive = weight[0, 0].numel() if weight.ndim > 2 else 1
    bound = scale * math.sqrt(6 / ((weight.shape[0] + weight.shape[1]) * receptive))
    with torch.no_grad():
        weight.uniform_(-bound, bound, generator=generator)


def group_norm(channels: int) -> GroupNorm:
    """Group norm with min(32, channels // 4) groups."""
    return GroupNorm(min(32, channels // 4), channels, eps=1e-6)


class Conv(nn.Module):
    """Convolution that keeps the size, or halves or doubles it first by the 2x2 box filter.

    With the filter [1, 1] the depthwise resampling of the public networks is `resized`; the
    `resample_filter` buffer is kept for their files' sake.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, generator: torch.Generator,
                 resample: str | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.resample = resample
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        xavier_uniform(self.weight, generator, scale)
        if resample:
            self.register_buffer("resample_filter", torch.full((1, 1, 2, 2), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        if self.resample:
            x = resized(x, self.resample)
        return convolution(x, self.weight, self.bias)


class Linear(nn.Module):
    """Linear layer with the network's initialisation."""

    def __init__(self, features_in: int, features_out: int, generator: torch.Generator,
                 bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features_out, features_in))
        self.bias = nn.Parameter(torch.zeros(features_out)) if bias else None
        xavier_uniform(self.weight, generator)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Block(Dropping):
    """Residual block: GN, SiLU, conv (resampling), + embedding, GN, SiLU, dropout, conv, + skip.

    The skip is a 1x1 convolution where the channels or the size change. With attention, one head over all
    channels follows: softmax(q k / sqrt(C)) v. `side` is that of its output, in pixels.
    """

    def __init__(self, channels_in: int, channels_out: int, side: int, embedding: int, dropout: float,
                 generator: torch.Generator, attention: bool = False,
                 resample: str | None = None) -> None:
        super().__init__(channels_out, side, dropout)
        self.channels_in, self.attention = channels_in, attention
        self.norm0 = group_norm(channels_in)
        self.conv0 = Conv(channels_in, channels_out, 3, generator, resample)
        self.affine = Linear(embedding, channels_out, generator)
        self.norm1 = group_norm(channels_out)
        self.conv1 = Conv(channels_out, channels_out, 3, generator, scale=1e-5)
        if channels_in != channels_out or resample:
            self.skip = Conv(channels_in, channels_out, 1, generator, resample)
        else:
            self.skip = None
        if attention:
            self.norm2 = group_norm(channels_out)
            self.qkv = Conv(channels_out, 3 * channels_out, 1, generator, scale=math.sqrt(0.2))
            self.proj = Conv(channels_out, channels_out, 1, generator, scale=1e-5)

    def forward(self, x: Tensor, embedding: Tensor, keep: Tensor | None) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x)))
        h = h + self.affine(embedding)[:, :, None, None].to(h.dtype)
        h = F.silu(self.norm1(h))
        h = self.conv1(self.dropped(h, keep))
        x = (h + (self.skip(x) if self.skip is not None else x)) * SKIP_SCALE
        return self.attended(x) if self.attention else x

    def attended(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # The public checkpoints interleave: channel 3 c + (0, 1, 2) holds q, k, v of channel c.
        qkv = self.qkv(self.norm2(x)).reshape(batch, channels, 3, height * width)
        q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))
        h = attention(q, k, v)
        h = self.proj(h.transpose(1, 2).reshape(x.shape).to(x.dtype))
        return (x + h) * SKIP_SCALE


class Encoder(nn.Module):
    """The embedding and the downward half that `UNet` and `HalfUNet` share.

    Args:
        resolution: side of the square images, pixels.
        channels_in: image channels.
        label_dim: number of classes, 0 for none.
        augment_dim: number of augmentation labels, 0 for none.
        model_channels: width of the first level.
        channel_mult: factor of the width at each level; each level halves the side.
        num_blocks: residual blocks of each level.
        attn_resolutions: sides at which blocks have self-attention.
        dropout: probability, in [0, 1).
        generator: of the initial weights.
    """

    def __init__(self, *, resolution: int, channels_in: int, label_dim: int = 0, augment_dim: int = 0,
                 model_channels: int, channel_mult: Sequence[int], num_blocks: int,
                 attn_resolutions: Sequence[int], dropout: float,
                 generator: torch.Generator) -> None:
        super().__init__()
        side = resolution >> (len(channel_mult) - 1)
        if side << (len(channel_mult) - 1) != resolution or side < 2:
            raise ValueError(f"resolution {resolution} can't be halved {len(channel_mult) - 1} times "
                             "(channel_mult has one factor a level)")
        self.label_dim = label_dim
        self.dropout, width = dropout, 4 * model_channels
        self.options = {"embedding": width, "dropout": dropout, "generator": generator}
        half = model_channels // 2
        frequencies = torch.exp(
            -math.log(FREQUENCIES_MAX_PERIOD) * torch.arange(half, dtype=torch.float32) / (half - 1))
        self.register_buffer("frequencies", frequencies, persistent=False)  # on the network's device
        self.map_label = Linear(label_dim, model_channels, generator) if label_dim else None
        self.map_augment = (Linear(augment_dim, model_channels, generator, bias=False)
                            if augment_dim else None)
        self.map_layer0 = Linear(model_channels, width, generator)
        self.map_layer1 = Linear(width, width, generator)
        self.enc = nn.ModuleDict()
        channels = model_channels
        for level, factor in enumerate(channel_mult):
            side = resolution >> level
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = Conv(channels_in, channels, 3, generator)
            else:
                self.enc[f"{side}x{side}_down"] = Block(channels, channels, side, resample="down",
                                                        **self.options)
            for i in range(num_blocks):
                self.enc[f"{side}x{side}_block{i}"] = Block(
                    channels, factor * model_channels, side, attention=side in attn_resolutions,
                    **self.options)
                channels = factor * model_channels
        self.channels_encoded = channels

    def embed(self, c_noise: Tensor, condition: Condition) -> Tensor:
        """Embedding (B, 4 model_channels) of c_noise (B,), and of what is told of the images.

        Of the condition: `classes` (B, label_dim), one-hot, and `augment` (B, augment_dim).
        """
        precision = self.map_layer0.weight.dtype
        angles = c_noise.to(precision)[:, None] * self.frequencies.to(precision)
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1)
        if self.map_label is not None:
            classes = condition.get("classes")
            if classes is None:
                classes = embedding.new_zeros(len(embedding), self.label_dim)
            # One-hot rows scaled to unit variance.
            embedding = embedding + self.map_label(classes.to(precision) * math.sqrt(self.label_dim))
        if self.map_augment is not None and "augment" in condition:
            embedding = embedding + self.map_augment(condition["augment"].to(precision))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(embedding))))

    def masks(self, count: int, drawn: Draw | None) -> list[Tensor]:
        """Dropout masks of `count` images: see `drawn_masks`."""
        return drawn_masks(self, self.dropout, count, drawn)

    def encode(self, x: Tensor, embedding: Tensor, masks: Iterator[Tensor]) -> list[Tensor]:
        """The output of every encoder layer, in order."""
        outputs = []
        for layer in self.enc.values():
            x = layer(x, embedding, next(masks, None)) if isinstance(layer, Block) else layer(x)
            outputs.append(x)
        return outputs


class HalfUNet(Encoder):
    """The encoder alone: features (B, C, H', W') of the last block. Arguments as `Encoder`."""

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition | None = None,
                masks: Sequence[Tensor] = ()) -> Tensor:
        embedding = self.embed(c_noise, condition or {})
        return self.encode(x, embedding, iter(masks))[-1]


class UNet(Encoder):
    """The raw network F(x, c_noise): (B, channels_in, H, W) -> (B, channels_out, H, W).

    Arguments as `Encoder`, and `channels_out`. In `forward`, `c_noise` (B,); of the condition `classes`
    (B, label_dim), one-hot, and `augment` (B, augment_dim), each of which may be missing: no label. `masks`
    are those of `Encoder.masks`; without them nothing is dropped.
    """

    def __init__(self, *, channels_out: int, **options) -> None:
        super().__init__(**options)
        resolution, generator = options["resolution"], options["generator"]
        mult, num_blocks = options["channel_mult"], options["num_blocks"]
        base, attn = options["model_channels"], options["attn_resolutions"]
        skips = [layer.channels_out if isinstance(layer, Block) else layer.weight.shape[0]
                 for layer in self.enc.values()]
        channels = self.channels_encoded
        self.dec = nn.ModuleDict()
        for level, factor in reversed(list(enumerate(mult))):
            side = resolution >> level
            if level == len(mult) - 1:
                self.dec[f"{side}x{side}_in0"] = Block(channels, channels, side, attention=True,
                                                       **self.options)
                self.dec[f"{side}x{side}_in1"] = Block(channels, channels, side, **self.options)
            else:
                self.dec[f"{side}x{side}_up"] = Block(channels, channels, side, resample="up",
                                                      **self.options)
            for i in range(num_blocks + 1):
                self.dec[f"{side}x{side}_block{i}"] = Block(
                    channels + skips.pop(), factor * base, side,
                    attention=i == num_blocks and side in attn, **self.options)
                channels = factor * base
        self.dec[f"{side}x{side}_aux_norm"] = group_norm(channels)
        self.dec[f"{side}x{side}_aux_conv"] = Conv(channels, channels_out, 3, generator, scale=1e-5)

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition | None = None,
                masks: Sequence[Tensor] = ()) -> Tensor:
        embedding, left = self.embed(c_noise, condition or {}), iter(masks)
        skips = self.encode(x, embedding, left)
        x = skips[-1]
        *blocks, norm, conv = self.dec.values()
        for block in blocks:
            if block.channels_in != x.shape[1]:
                x = torch.cat([x, skips.pop()], dim=1)
            x = block(x, embedding, next(left, None))
        return conv(F.silu(norm(x)))
