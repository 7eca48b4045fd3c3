"""Specifications of what turns images into latents, in which a denoiser works, and captions into states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ambient.specs.data import DatasetSpec
from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require, require_finite


@dataclass(frozen=True)
class EncoderSpec(OfKinds):
    """An encoder with its decoder: what is told of it, whatever its kind.

    A kind is a file of `ambient/training/encoders/`, with settings of its own. A study that names no encoder
    works on the pixels themselves.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.training.encoders")
    LEARNS: ClassVar[bool] = False  # from images of the workflow; else its weights come from outside
    PACKAGES: ClassVar[tuple[str, ...]] = ()  # that are imported for it, beyond those that are always there
    ADVICE: ClassVar[str | None] = None  # how its weights are had, where they come from outside
    LICENCE: ClassVar[str | None] = None  # of what it reads from outside: docs/licences.md

    kind: str  #: a file of `ambient/training/encoders/`
    #: what is taken off each channel of a latent, and what it is then divided by, before it is halved; empty:
    #: mean and standard deviation of the dataset's own latents, which the encoder's job measures
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()  #: see shift

    def __post_init__(self) -> None:
        require_finite(self)
        for key in ("shift", "scale"):
            require(len(getattr(self, key)) in (0, self.channels), key, getattr(self, key),
                    f"{self.channels} numbers, one for each channel of a latent, or none")
        require(bool(self.shift) == bool(self.scale), "scale", self.scale, "given where shift is given")
        require(all(value > 0 for value in self.scale), "scale", self.scale, "> 0")

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        raise NotImplementedError

    @property
    def factor(self) -> int:
        """How many times smaller the side of a latent is than an image's."""
        raise NotImplementedError

    def latent(self, resolution: int) -> tuple[int, int]:
        """(channels, side) of the latent of an image of so many pixels. Raises `SpecError`."""
        require(resolution % self.factor == 0, "kind", self.kind,
                f"one for images of {resolution} pixels; this one takes multiples of {self.factor}")
        return self.channels, resolution // self.factor

    def training(self) -> tuple[int, int]:
        """(images seen, images of a step) where it learns in the workflow, else (0, 0)."""
        return 0, 0

    def multiply_adds(self, resolution: int, channels: int) -> float:
        """About how many there are in encoding, or decoding, one image."""
        raise NotImplementedError


@dataclass(frozen=True)
class EncodingSpec:
    """How the images of a mixture become latents: by which kind of encoder, whose code the job is of.

    Where a mixture adds images that are there as latents, these are read, and the dataset's own images left
    to the latents of the whole dataset. All is set by itself.
    """

    kind: str  #: a file of `ambient/training/encoders/`
    precomputed: DatasetSpec | None = later(None)  #: of source `latents`: what is read
    #: its name, from which the ids of its images in the mixture follow; null: they have kept their own
    added: str | None = later(None)


@dataclass(frozen=True)
class TextEncoderSpec(OfKinds):
    """An encoder of captions to the states that a denoiser is told: what is told of it, whatever its kind.

    A kind is a file of `ambient/training/text_encoders/`, with settings of its own.
    """

    KINDS: ClassVar[Kinds] = Kinds("ambient.training.text_encoders")
    LEARNS: ClassVar[bool] = False  # from captioned images of the workflow; else its weights are from outside
    SEES: ClassVar[bool] = False  # images, too, so that it tells how near an image is to a caption
    PACKAGES: ClassVar[tuple[str, ...]] = ()  # that are imported for it, beyond those that are always there
    ADVICE: ClassVar[str | None] = None  # how its weights are had, where they come from outside
    LICENCE: ClassVar[str | None] = None  # of what it reads from outside: docs/licences.md

    kind: str  #: a file of `ambient/training/text_encoders/`

    @property
    def tokens(self) -> int:
        """T, states of a caption."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """D, numbers of a state."""
        raise NotImplementedError

    def training(self) -> tuple[int, int]:
        """(images seen, images of a step) where it learns in the workflow, else (0, 0)."""
        return 0, 0

    def multiply_adds(self) -> float:
        """About how many multiply-adds encoding one caption takes."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """About how many weights it has, of both towers where it sees images; 0: few."""
        return 0

    def image_multiply_adds(self, resolution: int, channels: int) -> float:
        """About how many multiply-adds the features of one image take, where it sees images."""
        return 0.0

    def training_multiply_adds(self, resolution: int, channels: int) -> float:
        """About how many multiply-adds a forward pass of one captioned image takes, where it learns."""
        return self.image_multiply_adds(resolution, channels) + self.multiply_adds()


@dataclass(frozen=True)
class TextsSpec:
    """How the captions of a dataset become states: by which kind of encoder, whose code the job is of.

    All is set by itself.
    """

    kind: str  #: a file of `ambient/training/text_encoders/`
    precomputed: DatasetSpec | None = later(None)  #: of source `latents`, whose states are read
