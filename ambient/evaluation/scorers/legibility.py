"""Scorer `legibility`: how surely small networks that have not seen an image tell its class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DatasetSpec, DetectorSpec, ScorerSpec
from ambient.specs.scores import require_cover, require_sides
from ambient.specs.strict import later, require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset
    from ambient.jobs.state import State


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """A network for each of `folds` parts of the images, which learns from all others."""

    PER_IMAGE: ClassVar[bool] = False

    folds: int = 4  #: parts of the images; each is scored by a network that has not seen it
    features: int = 64  #: width of each network's last layer but one
    channels: int = 16  #: width of its first block
    nimg: int  #: images seen in training
    batch: int  #: images of a step
    lr: float  #: learning rate
    seed: int = 0  #: of the parts, of initial weights and of batches
    #: sides of non-overlapping patches that are scored one by one, pixels: all other pixels are black
    patches: tuple[int, ...] = later((), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sides(self.patches)
        require(self.folds > 1, "folds", self.folds, ">= 2")
        self.networks()

    def networks(self) -> DetectorSpec:
        """The networks, as small class classifiers are told elsewhere."""
        return DetectorSpec("classifier", features=self.features, channels=self.channels, nimg=self.nimg,
                            batch=self.batch, lr=self.lr, seed=self.seed, members=self.folds)

    def check(self, dataset: DatasetSpec) -> None:
        classes = dataset.HAS_CLASSES and len(dataset.classes or (0, 1)) > 1
        require(classes, "kind", self.kind, "one for images without classes: legibility needs two or more")
        require_cover(self.patches, dataset)

    def patch_sides(self) -> tuple[int, ...]:
        return self.patches

    def flops(self, images: int, channels: int, resolution: int) -> float:
        networks, seen = self.networks(), 1 + sum((resolution // side) ** 2 for side in self.patches)
        return (networks.training_flops(channels, resolution)
                + images * seen * networks.flops(channels, resolution))


def folds_of(spec: Spec, ids: np.ndarray) -> np.ndarray:
    """The part floor(folds u(seed, id)) of each image, int64 (N,): a function of its id alone."""
    from ambient.diffusion import randomness

    return (spec.folds * randomness.uniform("fold", spec.seed, ids)).astype(np.int64)


def score(spec: Spec, data: Dataset, given: Path | None, state: State) -> dict[str, np.ndarray] | None:
    """ln p(label) - max over other classes of ln p, by the network that has not seen the image.

    Above 0 where the class is told right; larger where it is told more surely. A patch has that of its image
    with all other pixels black. Raises `ValueError` for images without two classes, or with one image of them
    that has none.
    """
    from ambient.data.scores import EACH
    from ambient.evaluation import small_nets
    from ambient.evaluation.scoring import in_shards
    from ambient.jobs.stopping import say

    labels = np.unique(data.labels)
    if labels[0] < 0 or len(labels) < 2:
        raise ValueError("legibility needs a dataset with classes, two or more, and a label for every image; "
                         f"its labels begin with {labels[:4].tolist()}")
    folds, networks = folds_of(spec, data.ids), spec.networks()
    network = small_nets.build(networks, data.images.shape[1], data.num_classes)
    small_nets.learn(networks, network, small_nets.FoldBatches(networks, network, data.images, data.labels,
                                                               folds), state)

    def unseen(images: np.ndarray, part: slice) -> np.ndarray:
        every = small_nets.log_probabilities(network, images)
        return margins(every[folds[part], np.arange(every.shape[1])], data.labels[part])

    def of(part: slice) -> dict[str, np.ndarray]:
        images = np.asarray(data.images[part])
        found = {"score": unseen(images, part)}
        for side in spec.patches:
            count = images.shape[-1] // side
            each = [unseen(alone(images, side, place), part) for place in np.ndindex(count, count)]
            found[f"{EACH}{side}"] = np.stack(each, axis=1).reshape(len(images), count, count)
        return found

    found = in_shards(spec, "scores", len(data.ids), of, state)
    if found is not None:
        say(f"scores: the networks tell {(found['score'] > 0).mean():.1%} of the images right, each of those "
            "that it has not seen")
    return found


def alone(images: np.ndarray, side: int, place: tuple[int, int]) -> np.ndarray:
    """Images (N, C, H, H) of which all is black but one patch, the one in this row and column of them."""
    rows, columns = (slice(side * at, side * (at + 1)) for at in place)
    shown = np.zeros_like(images)
    shown[..., rows, columns] = images[..., rows, columns]
    return shown


def margins(log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """ln p(label) - max over other classes of ln p, (N,), of log_p (N, classes)."""
    rows = np.arange(len(labels))
    others = log_p.copy()
    others[rows, labels] = -np.inf
    return log_p[rows, labels] - others.max(axis=1)
