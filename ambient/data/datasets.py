"""The one prepared format: uint8 images, labels, captions and stable ids in a safetensors file. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.data.aligned import rows_of
from ambient.data.texts import Texts
from ambient.storage.arrays import Array, concatenated, open_arrays, selected, write_by_rows

MAX_CLASSES = 100_000  # networks are told a class by a vector of so many numbers


@dataclass(frozen=True)
class Dataset:
    """Images with stable ids; a mixture says of each whether it is corrupted.

    images: uint8 (N, C, H, W), H = W; where they are many, some are read when they are asked for. A mixture
    of a dataset's own images may have None, if what learns from it reads latents. labels: int64 (N,), -1
    where there is none. ids: int64 (N,), rising. corrupted: uint8 (N,), 1 or 0, or None for a dataset that is
    no mixture. Photographs have the names of their files too, one a line (uint8, UTF-8), and scores, float64
    (N,), where a rule that gives scores chose them. captions: of images that have some. Captions without any
    images are a list of prompts, whose names begin with their category, as with a folder.
    """

    images: Array | None
    labels: np.ndarray
    ids: np.ndarray
    corrupted: np.ndarray | None = None
    names: np.ndarray | None = None
    scores: np.ndarray | None = None
    captions: Texts | None = None

    def __post_init__(self) -> None:
        shape = self.ids.shape if self.images is None else self.images.shape
        if self.images is not None and (self.images.dtype != np.uint8 or len(shape) != 4
                                        or shape[1] not in (1, 3) or shape[2] != shape[3]):
            raise ValueError(f"images are {self.images.dtype} {shape}, allowed: uint8 (N, 1 or 3, H, H)")
        if not shape[0] or self.images is self.corrupted is self.captions is None:
            raise ValueError("the dataset has no images")
        for name in ("labels", "ids", "corrupted", "scores"):
            values = getattr(self, name)
            if values is not None and values.shape != shape[:1]:
                raise ValueError(f"{name} has the shape {values.shape} for {shape[0]} images")
        for name in ("labels", "ids"):
            if getattr(self, name).dtype.kind not in "iu":
                raise ValueError(f"{name} are {getattr(self, name).dtype}, allowed: whole numbers")
        if (self.labels >= MAX_CLASSES).any():
            raise ValueError(f"a label is {self.labels.max()}, allowed: below {MAX_CLASSES}")
        if (self.labels < -1).any():
            raise ValueError(f"a label is {self.labels.min()}, allowed: >= 0, or -1 for none")
        if (np.diff(self.ids) <= 0).any():
            raise ValueError("ids are not rising: each image needs an id of its own")
        if self.corrupted is not None and not np.isin(self.corrupted, (0, 1)).all():
            raise ValueError("corrupted holds values other than 0 and 1")
        if self.names is not None and len(self.file_names) != len(self.ids):
            raise ValueError(f"{len(self.file_names)} names for {len(self.ids)} images")
        if self.captions is not None and len(self.captions.rows) != len(self.ids):
            raise ValueError(f"{len(self.captions.rows)} captions for {len(self.ids)} images")

    @property
    def file_names(self) -> list[str]:
        """The names of the images' files; none where they have none."""
        return [] if self.names is None else self.names.tobytes().decode().split("\n")

    def shown(self, datasets: Iterable[Dataset]) -> Dataset:
        """This one with its images, which other datasets have; as it is where it has them.

        No more of them are asked than have all images. Raises `ValueError` naming an image that none has.
        """
        if self.images is not None:
            return self
        ids, images = np.empty(0, np.int64), []
        for dataset in datasets:
            ids, images = np.concatenate([ids, dataset.ids]), [*images, dataset.images]
            if np.isin(self.ids, ids).all():
                break
        every, first = np.unique(ids, return_index=True)
        rows = first[rows_of(every, self.ids, "image")]
        return dataclasses.replace(self, images=selected(concatenated(images), rows))

    def taken(self, rows: np.ndarray) -> Dataset:
        """Some of its images: `rows` are their places, or says of each whether it is taken."""
        names = None if self.names is None else joined(np.array(self.file_names, object)[rows])
        captions = None if self.captions is None else self.captions.taken(rows)
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Dataset(**{key: one if one is None else selected(one, rows) for key, one in arrays.items()
                          if key not in ("names", "captions")}, names=names, captions=captions)

    @property
    def num_classes(self) -> int:
        """One more than the largest label; 0 where there are no labels."""
        return int(self.labels.max()) + 1


def read(path: Path) -> Dataset:
    """Read a prepared dataset or mixture. Raises `ValueError` naming the file."""
    try:
        arrays = {"images": None} | open_arrays(path, "images")
        return Dataset(captions=Texts.taken_from(arrays), **arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a prepared dataset ({error})") from None


def write(path: Path, data: Dataset, check: Callable[[], None] = lambda: None) -> None:
    """Write a dataset, atomically. `check` is called when all is written: what it raises leaves no file."""
    write_by_rows(path, arrays_of(data), check)


def arrays_of(data: Dataset) -> dict[str, Array]:
    """The arrays of a dataset's file, by name."""
    arrays = {} if data.images is None else {"images": data.images}
    arrays |= {"labels": data.labels.astype(np.int64), "ids": data.ids.astype(np.int64)}
    if data.corrupted is not None:
        arrays["corrupted"] = data.corrupted.astype(np.uint8)
    if data.names is not None:
        arrays["names"] = data.names
    if data.scores is not None:
        arrays["scores"] = data.scores.astype(np.float64)
    return arrays if data.captions is None else arrays | data.captions.arrays()


def joined(names: Sequence[str]) -> np.ndarray:
    """File names as `Dataset.names` holds them."""
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [-1, 1]: x / 127.5 - 1."""
    return images.astype(np.float32) / np.float32(127.5) - 1


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] -> uint8, the inverse of `to_float`: (x + 1) 127.5, rounded and clipped.

    Rounding makes the round trip exact and an identity corruption harmless. (EDM's samples are
    x 127.5 + 128 truncated, the same but for values within rounding of a half.)
    """
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
