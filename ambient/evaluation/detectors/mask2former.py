"""Detector `mask2former`: the objects of COCO's classes in an image (Cheng et al. 2022), for GenEval.

The network is transformers' `Mask2FormerForUniversalSegmentation`, with weights from a local safetensors
file. It is the architecture of GenEval's detector, with other weights: scores by it are not comparable with
published ones. It gives objects, and no features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import DetectorSpec
from ambient.specs.strict import require
from ambient.storage.files import naming

if TYPE_CHECKING:
    from torch import nn

    from ambient.evaluation.coco_objects import CocoObjects
    from ambient.specs import ScorerSpec

ADVICE = ("fetch model.safetensors of facebook/mask2former-swin-small-coco-instance and give its local path "
          "as detectors.<name>.weights in config/local.yaml")
# Parts of names of tensors that say nothing of what the network computes: of its loss, and tables of places.
IDLE = ("criterion.", "relative_position_index")


@dataclass(frozen=True, kw_only=True)
class Spec(DetectorSpec):
    """The sizes are those of the Swin-S network, unless settings say otherwise; another one is refused."""

    GIVES: ClassVar[tuple[str, ...]] = ("objects",)
    OBJECTS_BY: ClassVar[tuple[str, ...]] = ("model",)
    FLOPS: ClassVar[float] = 4e11  # of an image at 800 x 800 pixels
    PACKAGES: ClassVar[tuple[str, ...]] = ("transformers",)
    ADVICE: ClassVar[str] = ADVICE
    LICENCE: ClassVar[str] = "see its model card"

    side: int = 800  #: pixels of the shorter side of what the network sees
    width: int = 96  #: channels of the backbone's first stage
    depths: tuple[int, ...] = (2, 2, 18, 2)  #: blocks of each of the backbone's stages
    heads: tuple[int, ...] = (3, 6, 12, 24)  #: of attention in each of them
    window: int = 7  #: side of the windows of their attention, patches
    hidden: int = 256  #: channels behind the backbone
    queries: int = 100  #: objects of an image at the most

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("side", "width", "window", "hidden", "queries"):
            require(getattr(self, key) > 0, key, getattr(self, key), ">= 1")
        require(self.hidden % 32 == 0, "hidden", self.hidden, "a multiple of 32")
        require(len(self.depths) == len(self.heads) == 4, "depths", self.depths,
                "four numbers, of the stages, as heads has")


def make(spec: Spec, record, *, data: Path, weights: Path | None, state, out: Path) -> None:
    """Put the weights at `out`. Raises `ValueError` where they are missing, or of another network."""
    from ambient.evaluation.pretrained import put

    put(spec, record, weights, out, "weights of Mask2Former, from outside",
        lambda path, called: read_network(spec, path, called))


def settings_of(spec: Spec) -> Mapping:
    """The arguments of `Mask2FormerConfig`. Those that are not named are the published network's."""
    from ambient.data.coco import NAMES

    backbone = {"model_type": "swin", "embed_dim": spec.width, "depths": list(spec.depths),
                "num_heads": list(spec.heads), "window_size": spec.window,
                "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    return {"backbone_config": backbone, "num_labels": len(NAMES), "num_queries": spec.queries,
            "hidden_dim": spec.hidden, "feature_size": spec.hidden, "mask_feature_size": spec.hidden}


def read_network(spec: Spec, path: Path, called: Path | None = None) -> nn.Module:
    """The network in evaluation mode, float32. Raises `ValueError` naming the file for any other weights."""
    from safetensors.torch import load_file

    from ambient.evaluation.pretrained import library, network

    found = library(spec.kind)
    with naming(called or path):
        return network(found.Mask2FormerForUniversalSegmentation,
                       found.Mask2FormerConfig(**settings_of(spec)), load_file(path), ADVICE, IDLE)


def objects(asking: ScorerSpec, path: Path, model: Path) -> CocoObjects:
    """What sees objects for a scorer; `model` is the file of the CLIP that tells their colours."""
    from ambient.evaluation.coco_objects import CocoObjects
    from ambient.training.hardware import device
    from ambient.training.text_encoding import TextEncoder

    spec, processor = asking.asked, device()
    return CocoObjects(read_network(spec, path).to(processor), spec.side,
                       TextEncoder(model, processor).coder)
