"""Text encoder `openclip`: CLIP's text tower with public weights, by its states before any pooling.

With `image` the checkpoint's image tower is read, too. The model then sees images: it gives CLIP scores and
features of images. The list of merges of its tokenizer lies in the same folder, as checkpoints on Hugging
Face have it, or where OpenAI's list was put.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.specs import TextEncoderSpec
from ambient.specs.strict import require
from ambient.storage.files import naming

if TYPE_CHECKING:
    from ambient.training.clip_texts import ClipTexts

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors",
           "open_clip_pytorch_model.bin", "open_clip_model.pt")
MERGES = ("merges.txt", "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
ADVICE = (f"give a local folder with the checkpoint ({WEIGHTS[0]} or {WEIGHTS[3]}) and the list of merges "
          f"({MERGES[0]} or {MERGES[1]}) as text_encoders.<name>.weights in config/local.yaml")


@dataclass(frozen=True, kw_only=True)
class ImageTowerSpec:
    """The transformer of images of a checkpoint; another architecture is refused."""

    side: int  #: pixels of the images that it sees: others are resized
    patch: int  #: pixels of a patch's side
    width: int  #: channels of a token, a multiple of `heads`
    heads: int  #: of attention
    layers: int  #: blocks

    def __post_init__(self) -> None:
        for key in ("patch", "width", "heads", "layers"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")
        require(self.side >= self.patch, "side", self.side, f">= patch = {self.patch} pixels")
        require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads = {self.heads}")

    @property
    def patches(self) -> int:
        """How many an image has."""
        return (self.side // self.patch) ** 2

    @property
    def parameters(self) -> int:
        """Of patches and their positions, and of the blocks."""
        return (3 * self.patch**2 + self.patches + 12 * self.layers * self.width) * self.width

    def multiply_adds(self) -> float:
        """Of the features of an image: the linear layers, and attention."""
        tokens = self.patches + 1
        blocks = self.layers * tokens * (12 * self.width**2 + 2 * tokens * self.width)
        return self.patches * 3 * self.patch**2 * self.width + blocks


@dataclass(frozen=True)
class Spec(TextEncoderSpec):
    """The text tower of DFN5B's ViT-H/14, unless settings say otherwise; another architecture is refused."""

    ADVICE: ClassVar[str] = ADVICE
    LICENCE: ClassVar[str] = "MIT (OpenAI's CLIP), Apple's sample code licence (DFN5B's)"

    width: int = 1024  #: channels of a state, a multiple of `heads`
    heads: int = 16  #: of attention
    layers: int = 24  #: blocks
    context: int = 77  #: tokens of a caption; a longer one is cut
    features: int = 1024  #: width of the space that texts share with images
    quick_gelu: bool = True  #: x sigmoid(1.702 x) in the place of the exact GELU: as the weights were trained
    precision: Literal["float32", "bfloat16"] = "bfloat16"  #: of the states; features are of float32
    sha256: str | None = None  #: of the folder; any other content is refused
    #: the image tower, so that it judges images, too; null: it is not read
    image: ImageTowerSpec | None = None

    def __post_init__(self) -> None:
        for key in ("width", "heads", "layers", "context", "features"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")
        require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads = {self.heads}")

    @property
    def SEES(self) -> bool:
        return self.image is not None

    @property
    def tokens(self) -> int:
        return self.context

    @property
    def channels(self) -> int:
        return self.width

    @property
    def parameters(self) -> int:
        """Of words and their positions, the blocks, and both projections."""
        from ambient.data.bpe import VOCABULARY  # loads ftfy, which reading settings does without

        text = (VOCABULARY + self.context + 12 * self.layers * self.width + self.features) * self.width
        return text + (self.image.parameters + self.image.width * self.features if self.image else 0)

    def multiply_adds(self) -> float:
        """Of the linear layers, and of attention."""
        return self.layers * self.context * (12 * self.width**2 + 2 * self.context * self.width)

    def image_multiply_adds(self, resolution: int, channels: int) -> float:
        return self.image.multiply_adds() if self.image else 0.0


def build(spec: Spec, about: Mapping) -> ClipTexts:
    """The towers before they have weights; `about` says how long the list of merges is."""
    from ambient.diffusion.networks.image_tower import ImageTower
    from ambient.training.clip_models import ClipModel
    from ambient.training.clip_texts import ClipTexts

    text = (spec.width, spec.heads, spec.layers, spec.context, spec.features, spec.quick_gelu,
            spec.precision, about["merges"])
    if spec.image is None:
        return ClipTexts(*text)
    one = spec.image
    return ClipModel(ImageTower(one.side, one.patch, one.width, one.heads, one.layers, spec.features,
                                spec.quick_gelu), *text)


def first_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of some files that is in a folder. Raises `ValueError` where none is."""
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"{folder}: has none of {', '.join(names)}; {ADVICE}")
    return found


def make(spec: Spec, record, *, data, weights: Path | None, state) -> ClipTexts:
    """The towers with the weights of a folder. Raises `ValueError` for one that holds other towers'."""
    from ambient.data.bpe import read_merges
    from ambient.training.hardware import device

    if weights is None or not weights.is_dir():
        raise ValueError(f"text_encoders.<name>.weights: got {weights}, allowed: a folder; {ADVICE}")
    checkpoint, merges = first_of(weights, WEIGHTS), read_merges(first_of(weights, MERGES)).encode()
    digest = record.external("text encoder", weights, "a text tower, from outside")
    if digest != (spec.sha256 or digest):
        raise ValueError(f"{weights}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}")
    coder = build(spec, {"merges": len(merges)})
    with naming(checkpoint):
        coder.fill(checkpoint, merges)
    return coder.to(device()).eval()
