"""Text encoder `openclip`: CLIP's text tower with public weights, by its states before any pooling.

Only tensors of the text tower are read of a checkpoint. The list of merges of its tokenizer lies in the same
folder, as checkpoints on Hugging Face have it, or where OpenAI's list was put.
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


@dataclass(frozen=True)
class Spec(TextEncoderSpec):
    """The tower of DFN5B's ViT-H/14, unless settings say otherwise; another architecture is refused."""

    ADVICE: ClassVar[str] = ADVICE

    width: int = 1024  #: channels of a state, a multiple of `heads`
    heads: int = 16  #: of attention
    layers: int = 24  #: blocks
    context: int = 77  #: tokens of a caption; a longer one is cut
    features: int = 1024  #: width of the space that texts share with images
    quick_gelu: bool = True  #: x sigmoid(1.702 x) in the place of the exact GELU: as the weights were trained
    precision: Literal["float32", "bfloat16"] = "bfloat16"  #: of the tower's arithmetic
    sha256: str | None = None  #: of the folder; any other content is refused

    def __post_init__(self) -> None:
        for key in ("width", "heads", "layers", "context", "features"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")
        require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads = {self.heads}")

    @property
    def tokens(self) -> int:
        return self.context

    @property
    def channels(self) -> int:
        return self.width

    def multiply_adds(self) -> float:
        """Of the linear layers, and of attention."""
        return self.layers * self.context * (12 * self.width**2 + 2 * self.context * self.width)


def build(spec: Spec, about: Mapping) -> ClipTexts:
    """The tower before it has weights; `about` says how long its list of merges is."""
    from ambient.training.clip_texts import ClipTexts

    return ClipTexts(spec.width, spec.heads, spec.layers, spec.context, spec.features, spec.quick_gelu,
                     spec.precision, about["merges"])


def first_of(folder: Path, names: tuple[str, ...]) -> Path:
    """The first of some files that is in a folder. Raises `ValueError` where none is."""
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise ValueError(f"{folder}: has none of {', '.join(names)}; {ADVICE}")
    return found


def make(spec: Spec, record, *, data, weights: Path | None, state) -> ClipTexts:
    """The tower with the weights of a folder. Raises `ValueError` for one that holds another tower's."""
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
