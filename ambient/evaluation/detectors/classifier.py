"""Detector `classifier`: small class classifiers, trained in the workflow on the clean dataset.

For machines without Inception's weights, and for images (16x16 digits) of which they say little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DetectorSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from torch import Tensor

    from ambient.evaluation.scene_objects import SceneObjects
    from ambient.jobs.state import State
    from ambient.specs import ScorerSpec

CHECKED = 10  # one image in so many is kept out of training, to report the accuracy


@dataclass(frozen=True)
class Spec(DetectorSpec):
    """`members` networks side by side; `features` and `channels` are each one's. The metric: `fd-<name>`."""

    LEARNS: ClassVar[bool] = True
    NEEDS_CLASSES: ClassVar[bool] = True
    GIVES: ClassVar[tuple[str, ...]] = ("features", "classes", "objects")
    OBJECTS_BY: ClassVar[tuple[str, ...]] = ("window",)
    VIEWS: ClassVar[int] = 1  # of each image in a step of the training

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("channels", "nimg", "batch", "lr"):
            require(getattr(self, key) > 0, key, getattr(self, key), f"> 0 for kind {self.kind}")
        require(self.members > 0, "members", self.members, ">= 1")
        require(self.channels % 8 == 0, "channels", self.channels, "a multiple of 8")
        require(self.nimg % self.batch == 0, "nimg", self.nimg, f"a multiple of batch = {self.batch}")

    def seen(self, channels: int, resolution: int) -> tuple[int, int]:
        """(channels, side) of an image as the networks' first layer sees it."""
        return channels, resolution

    def multiply_adds(self, channels: int, resolution: int) -> int:
        """Of the features of an image by all members, as `ambient/evaluation/small_nets.py` builds them."""
        width, side = self.seen(channels, resolution)
        total = 0
        for out in (self.channels, 2 * self.channels, 4 * self.channels):
            total += 9 * (width + out) * out * side**2  # two convolutions, then the side is halved
            width, side = out, side // 2
        return self.members * (total + 4 * width * self.features)

    def flops(self, channels: int, resolution: int) -> float:
        return 2.0 * self.multiply_adds(channels, resolution)

    def training_flops(self, channels: int, resolution: int) -> float:
        """Three forward passes a view. The last layer, which gives no features, is too small to count."""
        return 6.0 * self.multiply_adds(channels, resolution) * self.VIEWS * self.nimg


def make(spec: Spec, record, *, data: Path, weights: None, state: State, out: Path) -> None:
    """Train class classifiers on `data`. Raises `ValueError` for images without classes."""
    from ambient.data.datasets import read
    from ambient.evaluation import small_nets
    from ambient.storage.arrays import selected

    dataset = read(data)
    labels = np.unique(dataset.labels)
    if labels[0] < 0 or len(labels) < 2:
        raise ValueError(f"{data}: a detector of kind classifier needs a dataset with classes, two or more, "
                         f"and a label for every image; its labels begin with {labels[:4].tolist()}")
    network = small_nets.build(spec, dataset.images.shape[1], dataset.num_classes)
    every = np.arange(len(dataset.images))
    train, check = every[every % CHECKED != 0], every[every % CHECKED == 0]
    batches = small_nets.ClassBatches(spec, network, selected(dataset.images, train), dataset.labels[train])
    small_nets.learn(spec, network, batches, state)
    record.facts |= {"images_seen": spec.nimg, "checked_images": len(check),
                     "accuracy": small_nets.accuracy(network, selected(dataset.images, check),
                                                     dataset.labels[check])}
    record.facts |= state.history()
    small_nets.save(out, network)


def features(spec: Spec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """Features of all members side by side; the networks take images as they are."""
    from ambient.evaluation import small_nets

    return small_nets.features(path)


def objects(asking: ScorerSpec, path: Path, model: None) -> SceneObjects:
    """What sees the shapes of scenes for a scorer."""
    from ambient.evaluation.scene_objects import SceneObjects

    return SceneObjects(path, asking.window)
