"""Operation `add`: all images of another dataset in the place of the images that are not clean."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ambient.specs import MixtureSpec, OperationSpec

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset


@dataclass(frozen=True)
class Spec(OperationSpec):
    """The images of `dataset` count as corrupted."""

    ADDS: ClassVar[str] = "dataset"

    dataset: str  #: name in `datasets`
    same_source: bool = False  #: both are parts of one folder: added images keep their ids and labels

    def words(self, dataset: str | None) -> str:
        return f"plus {dataset}"

    def columns(self) -> dict[str, Any]:
        return {"added": self.dataset}  # two datasets may be meant: the target, and this one


def first_id(name: str) -> int:
    """Where the ids of an added dataset begin: each dataset has a range of its own, 2^32 wide."""
    from ambient.diffusion import randomness

    return (1 + randomness.key("added", name) % 1_000_000) << 32


def checked(spec: MixtureSpec, data: Dataset, added: Dataset | None) -> Dataset:
    """The dataset to add. Raises `ValueError` where it can't be added."""
    if added is None:
        raise ValueError("op add needs --added, the dataset to add")
    if spec.images and (added.images is None or data.images is None):
        raise ValueError("some of the images are there as latents alone, and the mixture is to have images")
    if spec.images and added.images.shape[1:] != data.images.shape[1:]:
        raise ValueError(f"the added images are {added.images.shape[1:]}, the dataset's "
                         f"{data.images.shape[1:]}: prepare both alike")
    if added.corrupted is not None:
        raise ValueError("the added dataset is a mixture already")
    return added


def mix(spec: MixtureSpec, data: Dataset, beside: Dataset | None) -> Dataset:
    """The clean images of `data` and all of the added ones, `beside`.

    Images of another dataset have no labels, and ids of their own range. Where `same_source` is true both are
    parts of one folder: they keep ids and labels. Where `spec.images` is false the mixture has no images.
    Raises `ValueError` for images of another size, for a mixture, and for an image that is in both parts.
    """
    from ambient.data import texts
    from ambient.data.datasets import Dataset, joined
    from ambient.data.mixtures import clean_images
    from ambient.storage.arrays import concatenated, selected

    added = checked(spec, data, beside)
    ids, labels = added.ids + first_id(spec.operation.dataset), np.full(len(added.ids), -1)
    if spec.operation.same_source:
        ids, labels = added.ids, added.labels
        if len(both := np.intersect1d(ids, data.ids)):
            raise ValueError(f"image {both[0]} is in the dataset and among the added ones, {len(both)} in "
                             "all: leave same_source out unless both are parts of one folder, that share no "
                             "image")
    kept = data.taken(clean_images(spec, data.ids))
    named = kept.names is not None and added.names is not None
    order = np.argsort(np.concatenate([kept.ids, ids]))
    images = selected(concatenated([kept.images, added.images]), order) if spec.images else None
    mixed = Dataset(images, *(np.concatenate(pair)[order] for pair in (
        (kept.labels, labels), (kept.ids, ids),
        (np.zeros(len(kept.ids), np.uint8), np.ones(len(ids), np.uint8)))))
    files = np.array([*kept.file_names, *added.file_names], object)[order] if named else None
    captions = texts.joined([(part.captions, len(part.ids)) for part in (kept, added)])
    return dataclasses.replace(mixed, names=joined(files) if named else None,
                               captions=None if captions is None else captions.taken(order))
