"""Encoder `block_pca`: the principal components of square blocks of pixels, in closed form.

For small images, of which a network would have to learn what a decomposition of a matrix gives. A block is
one place of the latent, so with blocks as large as what images are composed of a transformer has a token a
thing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import EncoderSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset
    from ambient.jobs.state import State
    from ambient.training.principal_blocks import PrincipalBlocks


@dataclass(frozen=True, kw_only=True)
class Spec(EncoderSpec):
    """`numbers` of each block are kept."""

    LEARNS: ClassVar[bool] = True

    block: int  #: pixels of a block's side
    numbers: int  #: k: a power of two, at most block^2

    def __post_init__(self) -> None:
        require(self.block > 1, "block", self.block, ">= 2 pixels")
        power = self.numbers > 0 and self.numbers & (self.numbers - 1) == 0
        require(power and self.numbers <= self.block**2, "numbers", self.numbers,
                f"a power of two, at most {self.block**2}, the pixels of a block")
        super().__post_init__()

    @property
    def channels(self) -> int:
        return self.numbers

    @property
    def factor(self) -> int:
        return self.block

    def multiply_adds(self, resolution: int, channels: int) -> float:
        return channels * resolution**2 * self.numbers


def build(spec: Spec, channels: int) -> PrincipalBlocks:
    """The encoder for images of so many channels, before it has its matrix."""
    from ambient.training.principal_blocks import PrincipalBlocks

    return PrincipalBlocks(spec.block, spec.numbers, channels)


def make(spec: Spec, record, *, data: Dataset, weights: Path | None, state: State) -> PrincipalBlocks:
    """The components of the dataset's own blocks; how much of their variance is kept is recorded."""
    coder = build(spec, data.images.shape[1])
    record.facts |= {"variance_kept": coder.fit(data.images)}
    return coder
