"""Detector `contrastive`: the features of images of a model of images and texts, not of unit length.

The model is a text encoder of the workflow that sees images. A model whose states a denoiser was told of is
no independent judge of it: name a second one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DetectorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from ambient.jobs.state import State


@dataclass(frozen=True, kw_only=True)
class Spec(DetectorSpec):
    """`features` are those of the model. The metric: `fd-<name>`."""

    MODEL: ClassVar[bool] = True

    model: str  #: name in `text_encoders`, of one that sees images


def make(spec: Spec, record, *, data: Path, weights: None, state: State, out: Path, model: Path) -> None:
    """The whole file of the model. Raises `ValueError` where it has other features than the settings say."""
    import shutil

    from ambient.storage.files import atomic
    from ambient.training.text_encoding import read_spec

    found = read_spec(model)[0].features
    if found != spec.features:
        raise ValueError(f"{model}: has {found} features of an image, the configuration's features is "
                         f"{spec.features}")
    with atomic(out) as temporary:
        shutil.copyfile(model, temporary)


def features(spec: Spec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """The features of the image tower."""
    from ambient.training.hardware import device
    from ambient.training.text_encoding import TextEncoder

    return TextEncoder(path, device()).coder.image_features
