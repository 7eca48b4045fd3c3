"""Network `dit`: MicroDiT, a transformer with a patch mixer and experts, which is told captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ambient.diffusion.networks.widths import BlockWidths, block_widths, dense_width, spread
from ambient.diffusion.wholes import floor_of
from ambient.specs import NetworkCost, NetworkSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from torch import Generator

    from ambient.diffusion.networks.dit import MicroDiT

WAVES = 512  # of the noise level, as in `ambient/diffusion/networks/dit.py`, which loads torch
CAPTION_RATIO = 4  # width of the MLP of captions over that of the tokens, by the rule of gated MLPs


@dataclass(frozen=True)
class Spec(NetworkSpec):
    """MicroDiT (Sehwag et al. 2024). `conditional`: it is told captions, and null captions otherwise."""

    KNOWS: ClassVar[tuple[str, ...]] = ("text", "patches")
    TOLD: ClassVar[str] = "text"

    model_channels: int  #: width of the tokens, a multiple of 4
    depth: int  #: blocks behind the patch mixer
    mixer_channels: int  #: width of the tokens in the patch mixer
    mixer_depth: int  #: blocks of the patch mixer, which sees all patches
    caption_channels: int  #: width of the states of captions
    channels_per_head: int = 64  #: width of an attention head
    patch: int = 2  #: side of a patch, in numbers of a latent (or pixels)
    #: width of attention over that of the tokens, of the first and the last block; linear between
    attention_ratios: tuple[float, ...] = (0.5, 1.0)
    mlp_ratios: tuple[float, ...] = (0.5, 4.0)  #: the same of MLPs
    mixer_attention_ratio: float = 1.0  #: in all blocks of the mixer
    mixer_mlp_ratio: float = 4.0  #: in all blocks of the mixer
    round_to: int = 256  #: widths of MLPs are rounded up to multiples of this
    num_experts: int = 8  #: in each block that has experts
    capacity: float = 2.0  #: experts that a token has on average
    experts_every: int = 2  #: each block of that number has experts, but the last block; 0: none has
    #: images of this times the side have the positions of smaller ones, more densely
    position_scale: float = 1.0
    caption_tokens: int = 77  #: length of a caption that costs are counted for; the network takes any

    def __post_init__(self) -> None:
        head = self.channels_per_head
        require(head > 0, "channels_per_head", head, ">= 1")
        require(self.model_channels > 0 and self.model_channels % 4 == 0 == self.model_channels % head,
                "model_channels", self.model_channels, f"multiples of 4 and of channels_per_head = {head}")
        require(self.mixer_channels > 0 and self.mixer_channels % head == 0, "mixer_channels",
                self.mixer_channels, f"multiples of channels_per_head = {head}")
        for key, least in (("depth", 1), ("mixer_depth", 1), ("caption_channels", 1), ("patch", 1),
                           ("round_to", 1), ("num_experts", 1), ("experts_every", 0), ("caption_tokens", 1)):
            require(getattr(self, key) >= least, key, getattr(self, key), f">= {least}")
        for key in ("attention_ratios", "mlp_ratios"):
            pair = getattr(self, key)
            require(len(pair) == 2 and all(0 < one <= 16 for one in pair), key, pair,
                    "two numbers in (0, 16], of the first and the last block")
        for key in ("mixer_attention_ratio", "mixer_mlp_ratio"):
            require(0 < getattr(self, key) <= 16, key, getattr(self, key), "(0, 16]")
        require(0 < self.capacity <= self.num_experts, "capacity", self.capacity,
                f"(0, num_experts = {self.num_experts}]")
        require(0 < self.position_scale <= 64, "position_scale", self.position_scale, "(0, 64]")

    @property
    def step(self) -> int:
        """An image consists of whole patches."""
        return self.patch

    def check(self, resolution: int) -> None:
        require(resolution % self.patch == 0, "patch", self.patch,
                f"a divisor of the side of images, {resolution}")
        self.check_patches((resolution // self.patch) ** 2)

    def check_patches(self, count: int, mask: float = 0.0) -> None:
        """Raise `SpecError` where what a `mask` leaves of so many patches is too few for the experts."""
        count = floor_of(count, 1 - mask)
        require(count > 0, "patches", count, ">= 1")
        each = floor_of(count, self.capacity / self.num_experts)
        require(self.experts_every == 0 or each > 0, "num_experts", self.num_experts,
                f"at most {int(self.capacity * count)}, so that each takes one of the {count} patches of an "
                "image, or experts_every: 0")

    @property
    def blocks(self) -> list[BlockWidths]:
        """Widths inside of each block."""
        ratios = (spread(*pair, self.depth) for pair in (self.attention_ratios, self.mlp_ratios))
        return block_widths(self.model_channels, *ratios, head=self.channels_per_head,
                            multiple=self.round_to, every=self.experts_every, last_is_dense=True)

    @property
    def mixer(self) -> list[BlockWidths]:
        """Widths inside of each block of the patch mixer, whose last block may have experts."""
        ratios = ([one] * self.mixer_depth for one in (self.mixer_attention_ratio, self.mixer_mlp_ratio))
        return block_widths(self.mixer_channels, *ratios, head=self.channels_per_head,
                            multiple=self.round_to, every=self.experts_every, last_is_dense=False)

    @property
    def caption_mlp(self) -> int:
        """Width inside of the MLP of captions."""
        return dense_width(CAPTION_RATIO * self.model_channels, self.round_to)

    def cost(self, resolution: int, channels: int, encoder_only: bool = False,
             mask: float = 0.0) -> NetworkCost:
        """Counted layer by layer, of an image of which a share `mask` of the patches is left out behind the
        mixer. Loads no torch: Snakemake asks in every dry run.
        """
        width, narrow = self.model_channels, self.mixer_channels
        numbers = self.patch**2 * channels
        count = Counter((resolution // self.patch) ** 2, self.caption_tokens if self.conditional else 1)
        count.layer(numbers, width, count.tokens, bias=True)
        for first in (WAVES, width):  # of the noise level, and of the pooled caption
            count.layer(first, width, bias=True)
            count.layer(width, width, bias=True)
        count.layer(self.caption_channels, width, count.caption, bias=True)
        count.layer(width, width, count.caption, bias=True)
        count.attention(width, width, count.caption, count.caption)
        count.gated(width, self.caption_mlp, count.caption)
        if narrow != width:
            count.layer(width, narrow, count.tokens)
            count.layer(width, narrow, count.caption)
        for inside in self.mixer:
            count.block(narrow, width, inside, self.num_experts, self.capacity)
        count.tokens = floor_of(count.tokens, 1 - mask)
        if narrow != width:
            count.layer(narrow, width, count.tokens)
        for inside in self.blocks:
            count.block(width, width, inside, self.num_experts, self.capacity)
        count.layer(width, 2 * width, bias=True)
        count.layer(width, numbers, count.tokens, bias=True)
        return NetworkCost(count.multiply_adds, count.parameters, count.features)

    def parameters(self, resolution: int, channels: int, classes: int, augment: bool) -> int:
        """Of its layers, and a factor for each channel of each normalisation, which has no offset."""
        width, narrow = self.model_channels, self.mixer_channels
        blocks = 3 * (narrow * self.mixer_depth + width * self.depth)
        between = 2 * width + narrow if narrow != width else 0  # tokens and captions to the mixer, and back
        others = 5 * width  # two of each caption's block, two of its MLPs, the last one
        return self.cost(resolution, channels).parameters + blocks + between + others


class Counter:
    """Adds up layers, as `ambient/diffusion/networks/dit.py` builds them."""

    def __init__(self, tokens: int, caption: int) -> None:
        self.tokens, self.caption = tokens, caption
        self.multiply_adds = self.parameters = self.features = 0

    def layer(self, channels_in: int, channels_out: int, rows: int = 1, bias: bool = False) -> None:
        self.parameters += (channels_in + bias) * channels_out
        self.multiply_adds += channels_in * channels_out * rows
        self.features += channels_out * rows

    def attention(self, width: int, inside: int, rows: int, others: int, crosses: bool = False) -> None:
        """To `others`: the same rows, or (`crosses`) those of another sequence."""
        if crosses:
            self.layer(width, inside, rows)
            self.layer(width, 2 * inside, others)
        else:
            self.layer(width, 3 * inside, rows)
        self.multiply_adds += 2 * inside * rows * others  # scores, and the sum they weigh
        self.layer(inside, width, rows)

    def gated(self, width: int, inside: int, rows: int) -> None:
        self.layer(width, inside, rows)
        self.layer(width, inside, rows)
        self.layer(inside, width, rows)

    def experts(self, width: int, inside: int, number: int, capacity: float) -> None:
        self.layer(width, number, self.tokens)
        each = floor_of(self.tokens, capacity / number)
        self.parameters += 2 * number * width * inside
        self.multiply_adds += 2 * number * each * width * inside
        self.features += number * each * (inside + width)

    def block(self, width: int, told: int, inside: BlockWidths, experts: int, capacity: float) -> None:
        self.layer(told, 6 * width, bias=True)
        self.attention(width, inside.attention, self.tokens, self.tokens)
        self.attention(width, width, self.tokens, self.caption, crosses=True)
        if inside.experts:
            self.experts(width, inside.mlp, experts, capacity)
        else:
            self.gated(width, inside.mlp, self.tokens)


def build(spec: Spec, *, resolution: int, channels: int, classes: int, augment: bool,
          generator: Generator) -> MicroDiT:
    """The whole network. Raises `ValueError` where it would have to be told of classes or augmentation."""
    from ambient.diffusion.networks.dit import MicroDiT

    if classes or augment:
        raise ValueError("dit has no input for classes or labels of augmentation: it is told captions")
    return MicroDiT(side=resolution, channels=channels, patch=spec.patch, width=spec.model_channels,
                    head=spec.channels_per_head, blocks=spec.blocks, mixer_width=spec.mixer_channels,
                    mixer=spec.mixer, caption_channels=spec.caption_channels, caption_mlp=spec.caption_mlp,
                    num_experts=spec.num_experts, capacity=spec.capacity, scale=spec.position_scale,
                    generator=generator)
