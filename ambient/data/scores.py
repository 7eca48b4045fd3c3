"""Scores: how good each image of a dataset is, and each of its patches, as a table on disk. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ambient.data.aligned import rows_of
from ambient.data.datasets import Dataset
from ambient.storage.arrays import Array, RowArray, open_arrays, selected
from ambient.storage.files import write_arrays

MEAN, EACH = "patch_mean/", "patches/"  # before a patch's side, in the names of the arrays


@dataclass(frozen=True)
class Scores:
    """One row an image, higher is better.

    ids: int64 (N,). score: float64 (N,), of the whole image. patch_means: side of a patch in pixels ->
    float64 (N,), the mean score of the image's non-overlapping patches. patches: side -> float32
    (N, rows, columns), the score of each of them, where the scorer knows it. Of many, some are read when they
    are asked for.
    """

    ids: np.ndarray
    score: np.ndarray
    patch_means: Mapping[int, np.ndarray] = field(default_factory=dict)
    patches: Mapping[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(np.unique(self.ids)) < len(self.ids):
            raise ValueError("scores: an id is in it twice: each image has one row")
        named = {"score": self.score} | {f"{MEAN}{side}": one for side, one in self.patch_means.items()}
        named |= {f"{EACH}{side}": one for side, one in self.patches.items()}
        for name, values in named.items():
            if len(values) != len(self.ids):
                raise ValueError(f"scores: {name} has {len(values)} rows for {len(self.ids)} images")
            if isinstance(values, RowArray):  # they were looked at when they were written
                continue
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            if not finite.all():
                raise ValueError(f"scores: {name} of image {self.ids[~finite][0]} is no finite number "
                                 f"({int((~finite).sum())} such images)")

    @classmethod
    def read(cls, path: Path) -> Scores:
        """Read a file of scores. Raises `ValueError` naming it if it is not one."""
        try:
            arrays = open_arrays(path)
            one_each = {name: array[:] if isinstance(array, RowArray) else array
                        for name, array in arrays.items() if not name.startswith(EACH)}
            return cls(one_each["ids"], one_each["score"], by_side(one_each, MEAN), by_side(arrays, EACH))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: not a file of scores ({error})") from None

    def write(self, path: Path) -> None:
        """Write the table, atomically."""
        write_arrays(path, {"ids": self.ids, "score": self.score}
                     | {f"{MEAN}{side}": values for side, values in self.patch_means.items()}
                     | {f"{EACH}{side}": values for side, values in self.patches.items()})

    def of(self, ids: np.ndarray) -> Scores:
        """The rows of the given images, in their order. Raises `ValueError` naming a missing one."""
        rows = rows_of(self.ids, ids, "score")
        return Scores(ids, self.score[rows], {side: one[rows] for side, one in self.patch_means.items()},
                      {side: selected(one, rows) for side, one in self.patches.items()})

    def text(self, data: Dataset) -> str:
        """The table as CSV, for people and for other programs: id, name and class, score, means of patches.

        A scorer of kind `table` reads it. Numbers are written so that they are read back exactly.
        """
        out = io.StringIO()
        names = {"name": data.file_names} if data.names is not None else {}
        columns = {"id": data.ids.tolist()} | names | {
            "label": data.labels.tolist(), "score": self.score.tolist()}
        columns |= {f"patches-{side}": values.tolist() for side, values in self.patch_means.items()}
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        return out.getvalue()


def by_side(arrays: Mapping[str, Array], prefix: str) -> dict[int, Array]:
    """Side of a patch -> array, of those whose names begin with a prefix; sides rise."""
    found = {int(name.removeprefix(prefix)): one for name, one in arrays.items() if name.startswith(prefix)}
    return dict(sorted(found.items()))


def means(patches: np.ndarray) -> np.ndarray:
    """The mean score (N,), float64, of the patches (N, rows, columns) of each image."""
    return patches.reshape(len(patches), -1).mean(axis=1, dtype=np.float64)


def cut(image: np.ndarray, side: int) -> np.ndarray:
    """The non-overlapping patches (rows, columns, C, side, side) of an image (C, H, W).

    Raises `ValueError` where patches of that side do not cover the image.
    """
    channels, height, width = image.shape
    if side < 1 or height % side or width % side:
        raise ValueError(f"patches of {side} pixels do not cover an image of {width}x{height} pixels")
    parts = image.reshape(channels, height // side, side, width // side, side)
    return parts.transpose(1, 3, 0, 2, 4)
