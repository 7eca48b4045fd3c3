"""Network `mp_unet`: the magnitude-preserving U-Net of EDM2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import NetworkCost, NetworkSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from torch import Generator

    from ambient.diffusion.networks.mp_unet import MPUNet


@dataclass(frozen=True)
class Spec(NetworkSpec):
    """EDM2's U-Net (Karras et al. 2024, configuration G). It has no input for labels of augmentation."""

    KNOWS: ClassVar[tuple[str, ...]] = ("classes",)

    model_channels: int  #: what all widths are multiples of
    channel_mult: tuple[int, ...]  #: factor of the width at each level; each level halves the image
    num_blocks: int  #: residual blocks of each encoder level; a decoder level has one more
    #: image sides, pixels, at which blocks have attention; the first block of the decoder always has it
    attn_resolutions: tuple[int, ...]
    dropout: float  #: in [0, 1)
    channels_per_head: int = 64  #: width of an attention head

    def __post_init__(self) -> None:
        require(len(self.channel_mult) > 0 and min(self.channel_mult) > 0, "channel_mult",
                self.channel_mult, "one or more factors >= 1")
        require(self.model_channels > 0, "model_channels", self.model_channels, ">= 1")
        require(self.num_blocks > 0, "num_blocks", self.num_blocks, ">= 1")
        require(all(side > 0 for side in self.attn_resolutions), "attn_resolutions", self.attn_resolutions,
                "image sides in pixels, >= 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "[0, 1)")
        self.check_heads([self.widths[-1]])

    @property
    def widths(self) -> list[int]:
        """Channels of each level."""
        return [factor * self.model_channels for factor in self.channel_mult]

    @property
    def step(self) -> int:
        """Each level but the first halves the side."""
        return 2 ** (len(self.channel_mult) - 1)

    def check(self, resolution: int) -> None:
        require(resolution % self.step == 0, "channel_mult", list(self.channel_mult), "fewer factors: images "
                f"of {resolution} pixels can't be halved {len(self.channel_mult) - 1} times")
        self.check_heads([width for level, width in enumerate(self.widths)
                          if resolution >> level in self.attn_resolutions])

    def check_heads(self, widths: list[int]) -> None:
        """Attention at levels of these widths consists of whole heads."""
        require(self.channels_per_head > 0 and not any(width % self.channels_per_head for width in widths),
                "channels_per_head", self.channels_per_head, "a divisor of the width of each level with "
                f"attention: {', '.join(map(str, sorted(set(widths))))}")

    def cost(self, resolution: int, channels: int, encoder_only: bool = False) -> NetworkCost:
        """Counted layer by layer. Loads no torch: Snakemake asks in every dry run."""
        count, widths = Counter(), self.widths
        embedding, width, skips = max(widths), widths[0], []
        count.layer(width, embedding)
        for level, out in enumerate(widths):
            side = resolution >> level
            if level == 0:
                count.layer(channels + 1, width, side, 3)
            else:
                count.block(width, width, width, side, embedding)
            skips.append(width)
            for _ in range(self.num_blocks):
                count.block(width, out, out, side, embedding, side in self.attn_resolutions)
                width = out
                skips.append(width)
        for level, out in reversed(list(enumerate(widths))):
            side, first = resolution >> level, level == len(widths) - 1
            count.block(width, width, width, side, embedding, attention=first)
            if first:
                count.block(width, width, width, side, embedding)
            for _ in range(self.num_blocks + 1):
                joined = width + skips.pop()
                count.block(joined, joined, out, side, embedding, side in self.attn_resolutions)
                width = out
        count.layer(width, channels, resolution, 3)
        return NetworkCost(count.multiply_adds, count.parameters, count.features)

    def parameters(self, resolution: int, channels: int, classes: int, augment: bool) -> int:
        """Of its layers; the layer of classes, of a conditional network; the gains of output and blocks."""
        labels = classes * max(self.widths) if self.conditional else 0
        blocks = 2 * len(self.widths) + len(self.widths) * (2 * self.num_blocks + 1)
        return self.cost(resolution, channels).parameters + labels + 1 + blocks


class Counter:
    """Adds up layers, as `ambient/diffusion/networks/mp_unet.py` builds them."""

    def __init__(self) -> None:
        self.multiply_adds = self.parameters = self.features = 0

    def layer(self, channels_in: int, channels_out: int, side: int = 1, kernel: int = 1) -> None:
        weights = channels_in * channels_out * kernel**2
        self.parameters += weights
        self.multiply_adds += weights * side**2
        self.features += channels_out * side**2

    def block(self, channels_in: int, inside: int, channels_out: int, side: int, embedding: int,
              attention: bool = False) -> None:
        """A block whose first convolution reads `inside` channels."""
        self.layer(inside, channels_out, side, 3)
        self.layer(embedding, channels_out)
        self.layer(channels_out, channels_out, side, 3)
        if channels_in != channels_out:
            self.layer(channels_in, channels_out, side)
        if attention:
            self.layer(channels_out, 3 * channels_out, side)
            self.multiply_adds += 2 * channels_out * side**4  # scores, and the sum they weigh
            self.layer(channels_out, channels_out, side)


def build(spec: Spec, *, resolution: int, channels: int, classes: int, augment: bool,
          generator: Generator) -> MPUNet:
    """The whole network. Raises `ValueError` where it would have to be told of augmentation."""
    from ambient.diffusion.networks.mp_unet import MPUNet

    if augment:
        raise ValueError("mp_unet has no input for labels of augmentation: set augment.transforms: []")
    return MPUNet(resolution=resolution, channels=channels, label_dim=classes, generator=generator,
                  model_channels=spec.model_channels, channel_mult=spec.channel_mult,
                  num_blocks=spec.num_blocks, attn_resolutions=spec.attn_resolutions,
                  channels_per_head=spec.channels_per_head, dropout=spec.dropout)
