"""Network `unet`: the DDPM++ U-Net of EDM, or its encoder half for classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import NetworkCost, NetworkSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from torch import Generator

    from ambient.diffusion.networks.unet import HalfUNet, UNet

LABELS = 9  # of augmentation, as in `ambient/diffusion/augment.py`, which loads torch


@dataclass(frozen=True)
class Spec(NetworkSpec):
    """DDPM++ U-Net, or its encoder half (Song et al. 2021; Karras et al. 2022)."""

    ENCODES: ClassVar[bool] = True

    model_channels: int  #: width of the first level
    channel_mult: tuple[int, ...]  #: factor of the width at each level; each level halves the image
    num_blocks: int  #: residual blocks of each level
    attn_resolutions: tuple[int, ...]  #: image sides, pixels, at which blocks have attention
    dropout: float  #: in [0, 1)

    def __post_init__(self) -> None:
        require(len(self.channel_mult) > 0 and min(self.channel_mult) > 0, "channel_mult",
                self.channel_mult, "one or more factors >= 1")
        # Group norm has min(32, channels // 4) groups, also over two widths joined in the decoder.
        widest = 2 * max(self.channel_mult) * self.model_channels
        require(self.model_channels > 0 and (self.model_channels % 32 == 0 or (
            self.model_channels % 4 == 0 and widest <= 128)), "model_channels", self.model_channels,
            "a multiple of 32, or one of 4 where 2 max(channel_mult) model_channels <= 128")
        require(self.num_blocks > 0, "num_blocks", self.num_blocks, ">= 1")
        require(all(side > 0 for side in self.attn_resolutions), "attn_resolutions", self.attn_resolutions,
                "image sides in pixels, >= 1")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "[0, 1)")

    @property
    def step(self) -> int:
        """Each level but the first halves the side."""
        return 2 ** (len(self.channel_mult) - 1)

    def check(self, resolution: int) -> None:
        halvings = len(self.channel_mult) - 1
        require(resolution % self.step == 0 and resolution >> halvings >= 2, "channel_mult",
                list(self.channel_mult), f"fewer factors: images of {resolution} pixels can't be halved "
                f"{halvings} times to 2 or more")

    def cost(self, resolution: int, channels: int, encoder_only: bool = False) -> NetworkCost:
        """Counted layer by layer. Loads no torch: Snakemake asks in every dry run."""
        count = self.counted(resolution, channels, encoder_only)
        return NetworkCost(count.multiply_adds, count.parameters, count.features)

    def parameters(self, resolution: int, channels: int, classes: int, augment: bool) -> int:
        """Of its layers; factor and offset of each normalised channel; the layers of what it is told."""
        count, told = self.counted(resolution, channels), 0
        if self.conditional and classes:
            told += (classes + 1) * self.model_channels
        if augment:
            told += LABELS * self.model_channels
        return count.parameters + 2 * (count.normalised + self.channel_mult[0] * self.model_channels) + told

    def counted(self, resolution: int, channels: int, encoder_only: bool = False) -> Counter:
        """Its layers, added up."""
        count, base = Counter(), self.model_channels
        embedding, width, skips = 4 * base, base, []
        count.conv(base, embedding, 1, 1)
        count.conv(embedding, embedding, 1, 1)
        for level, factor in enumerate(self.channel_mult):
            side = resolution >> level
            if level == 0:
                count.conv(channels, width, side)
            else:
                count.block(width, width, side, embedding, resample=True)
            skips.append(width)
            for _ in range(self.num_blocks):
                count.block(width, factor * base, side, embedding, side in self.attn_resolutions)
                width = factor * base
                skips.append(width)
        if not encoder_only:
            for level, factor in reversed(list(enumerate(self.channel_mult))):
                side, last = resolution >> level, len(self.channel_mult) - 1
                if level == last:
                    count.block(width, width, side, embedding, attention=True)
                    count.block(width, width, side, embedding)
                else:
                    count.block(width, width, side, embedding, resample=True)
                for i in range(self.num_blocks + 1):
                    count.block(width + skips.pop(), factor * base, side, embedding,
                                i == self.num_blocks and side in self.attn_resolutions)
                    width = factor * base
            count.conv(width, channels, resolution)
        return count


class Counter:
    """Adds up layers, as `ambient/diffusion/networks/unet.py` builds them."""

    def __init__(self) -> None:
        self.multiply_adds = self.parameters = self.features = 0
        self.normalised = 0  # channels of all normalisations

    def conv(self, channels_in: int, channels_out: int, side: int, kernel: int = 3) -> None:
        weights = channels_in * channels_out * kernel * kernel
        self.parameters += weights + channels_out
        self.multiply_adds += weights * side * side
        self.features += channels_out * side * side

    def block(self, channels_in: int, channels_out: int, side: int, embedding: int,
              attention: bool = False, resample: bool = False) -> None:
        self.normalised += channels_in + channels_out * (2 if attention else 1)
        self.conv(channels_in, channels_out, side)
        self.conv(embedding, channels_out, 1, 1)
        self.conv(channels_out, channels_out, side)
        if resample or channels_in != channels_out:
            self.conv(channels_in, channels_out, side, 1)
        if attention:
            self.conv(channels_out, 3 * channels_out, side, 1)
            self.multiply_adds += 2 * channels_out * side**4  # scores, and the sum they weigh
            self.conv(channels_out, channels_out, side, 1)


def build(spec: Spec, *, channels: int, generator: Generator, **images: int) -> UNet:
    """The whole network."""
    from ambient.diffusion.networks.unet import UNet

    return UNet(channels_in=channels, channels_out=channels, generator=generator, **options(spec, **images))


def encoder(spec: Spec, *, channels: int, generator: Generator, **images: int) -> HalfUNet:
    """The encoder half, for classifiers."""
    from ambient.diffusion.networks.unet import HalfUNet

    return HalfUNet(channels_in=channels, generator=generator, **options(spec, **images))


def options(spec: Spec, resolution: int, classes: int, augment: bool) -> dict:
    """The arguments that both have."""
    return {"resolution": resolution, "label_dim": classes, "augment_dim": LABELS if augment else 0,
            "model_channels": spec.model_channels, "channel_mult": spec.channel_mult,
            "num_blocks": spec.num_blocks, "attn_resolutions": spec.attn_resolutions, "dropout": spec.dropout}
