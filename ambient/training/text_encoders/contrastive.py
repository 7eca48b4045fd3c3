"""Text encoder `contrastive`: a small model of images and texts that learns from the workflow's own pairs.

Its text tower's states condition a denoiser. Its cosines and its features of images judge samples, as
`ambient.evaluation.scorers.clip_score` and `ambient.evaluation.detectors.contrastive` say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.specs import OptimiserSpec, TextEncoderSpec
from ambient.specs.strict import later, require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset
    from ambient.jobs.state import State
    from ambient.training.contrasting import ImageTextModel


@dataclass(frozen=True, kw_only=True)
class Spec(TextEncoderSpec):
    """Each word of the captions that it learns from is a token; a caption has at most `tokens` words."""

    LEARNS: ClassVar[bool] = True
    SEES: ClassVar[bool] = True

    tokens: int = 8  #: T: words of a caption, filled up
    channels: int = 64  #: D: width of the text tower, and so of its states
    layers: int = 2  #: of the text tower
    heads: int = 4  #: of the text tower
    image_channels: int = 48  #: width of the image tower's first block
    features: int = 64  #: numbers of the space in which images and texts are compared
    nimg: int  #: pairs seen in training
    batch: int = 128  #: pairs of a step, each of which is compared with all others
    lr: float = 1.0e-3  #: learning rate, which falls to 0 along a cosine
    seed: int = 0  #: of initial weights and batches
    #: captions with further words, or more of them: refused, or taken without (by `generate` never)
    unknown: Literal["refuse", "leave_out"] = later("refuse")

    def __post_init__(self) -> None:
        for key in ("tokens", "layers", "heads", "features"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")
        require(self.channels > 0 and self.channels % self.heads == 0, "channels", self.channels,
                f"a multiple of heads = {self.heads}")
        require(self.image_channels > 0 and self.image_channels % 8 == 0, "image_channels",
                self.image_channels, "a multiple of 8")
        require(self.batch > 1, "batch", self.batch, ">= 2: pairs are compared with each other")
        self.optimiser()

    def optimiser(self) -> OptimiserSpec:
        """How it is trained. The last twentieth of the training is averaged."""
        return OptimiserSpec(nimg=self.nimg, batch=self.batch, lr=self.lr, ramp_nimg=self.nimg // 20,
                             decay="cosine", clip=1.0, ema_halflife_nimg=self.nimg / 20, ema_ramp=0.05,
                             precision="bfloat16")

    def training(self) -> tuple[int, int]:
        return self.nimg, self.batch

    def multiply_adds(self) -> float:
        """Of a caption: the text tower's matrices."""
        return 12 * self.layers * self.tokens * self.channels**2

    def image_multiply_adds(self, resolution: int, channels: int) -> float:
        """Of the image tower's convolutions."""
        c, h = self.image_channels, resolution
        return 9 * (channels * c * h**2 + 2 * c**2 * (h // 2)**2 + 8 * c**2 * (h // 4)**2
                    + 16 * c**2 * (h // 8)**2)


def make(spec: Spec, record, *, data: Dataset, weights: Path | None, state: State) -> ImageTextModel:
    """Train on the images and their captions, but one in ten, on which what the manifest tells is measured.

    Raises `ValueError` for a dataset in which an image has no caption, or one of too many words.
    """
    from ambient.training.contrasting import trained, vocabulary_of

    about = {"channels": data.images.shape[1], "vocabulary": vocabulary_of(spec, data)}
    return trained(spec, record, build(spec, about), data, state)


def build(spec: Spec, about: Mapping) -> ImageTextModel:
    """The model of a stored description, with the weights that its seed draws."""
    from ambient.diffusion import randomness
    from ambient.training.contrasting import ImageTextModel

    return ImageTextModel(spec, about["channels"], about["vocabulary"],
                          randomness.torch_generator("cpu", "init", spec.seed))
