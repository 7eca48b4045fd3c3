"""Source `latents`: images that are there as latents of an encoder, with captions and maybe their states.

They were made elsewhere, as MicroDiffusion makes them, and lie in a folder of MDS shards. A dataset of this
source is added to another one that has images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`path` is the folder that holds `index.json`; `resolution` and `channels` are those of the images.

    `num_images` says about how many there are, for the estimate of costs alone.
    """

    HAD_IN_WORDS: ClassVar[str] = "a folder of uncompressed MDS shards"
    HAS_CLASSES: ClassVar[bool] = False
    HAS_IMAGES: ClassVar[bool] = False
    ENCODED: ClassVar[bool] = True
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("labels",)

    encoder: str  #: name in `encoders`: the one that made the latents
    #: name in `text_encoders`: the one that made the states; null: captions are encoded in the workflow
    text_encoder: str | None = None
    #: name of the column of latents z: one sample of each posterior, or its mean
    latents: str = "latents_512"
    #: name of the column of the posterior's standard deviations; null: `latents` has one sample of each
    std: str | None = None
    states: str = "caption_latents"  #: name of the column of the captions' states
    caption: str = "caption"  #: name of the column of captions
    dtype: Literal["float16", "float32"] = "float16"  #: of the numbers in these columns, little-endian
    multiplied: float = 1.0  #: what z was multiplied by before it was stored, such as SDXL's 0.13025

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.multiplied > 0, "multiplied", self.multiplied, "> 0")
        require(self.padding == 0, "padding", self.padding, "0: the images are encoded already")
        require(self.classes is None, "classes", self.classes, "null: the images have no classes")

    def portable(self) -> Spec:
        """Without local paths and `num_images`, which say nothing of the numbers."""
        return dataclasses.replace(super().portable(), num_images=None)

    @property
    def columns(self) -> list[str]:
        """The columns of numbers that are read."""
        states = self.states if self.text_encoder else None
        return [name for name in (self.latents, self.std, states) if name]


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The captions of all samples. The sizes of their latents and states are looked at, not the numbers.

    Raises `ValueError` naming a column that is not there, and a sample of another size than the first one.
    """
    from ambient.data.precomputed import Precomputed

    return Precomputed(spec, raw).reading()
