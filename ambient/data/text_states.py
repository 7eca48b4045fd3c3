"""States of captions as a text encoder gives them, each distinct caption once. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ambient.data.texts import DIGEST, NONE, Texts
from ambient.storage.arrays import Array, concatenated, open_arrays, writing
from ambient.storage.files import naming


@dataclass(frozen=True)
class TextStates:
    """states: float16 (M, T, D); where they are many, some are read when they are asked for. digests: uint8
    (M, 16), of each caption (`Texts.digests`). Raises `ValueError` for other shapes.
    """

    states: Array
    digests: np.ndarray

    def __post_init__(self) -> None:
        if self.states.dtype != np.float16 or self.states.ndim != 3:
            raise ValueError(f"states are {self.states.dtype} {self.states.shape}, allowed: float16 of three "
                             "axes")
        if self.digests.dtype != np.uint8 or self.digests.shape != (len(self.states), DIGEST):
            raise ValueError(f"digests are {self.digests.dtype} {self.digests.shape} of {len(self.states)} "
                             "captions")


def read(path: Path) -> TextStates:
    """Read states. Raises `ValueError` naming the file."""
    arrays = open_arrays(path, "states")
    with naming(path):
        return TextStates(**arrays)


def write(path: Path, digests: np.ndarray, shape: Sequence[int], parts: Iterable[np.ndarray]) -> None:
    """Write the states (*shape) of captions, atomically, part by part as they come."""
    with writing(path, {"states": ((len(digests), *shape), np.float16),
                        "digests": (digests.shape, np.uint8)}) as file:
        file.put("digests", 0, digests)
        done = 0
        for part in parts:
            file.put("states", done, part)
            done += len(part)


class Told:
    """The states of the captions of images, float16 (B, T, D); zeros, the null caption, where one has none.

    `captions` are those of N images, `parts` the states of all of them. Raises `ValueError` naming a caption
    without states.
    """

    def __init__(self, captions: Texts, parts: Sequence[TextStates]) -> None:
        self.states = concatenated([part.states for part in parts])
        self.shape = tuple(self.states.shape[1:])
        known, rows = np.unique(keys(np.concatenate([part.digests for part in parts])), return_index=True)
        wanted = keys(captions.digests())
        place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        if len(missing := np.flatnonzero(known[place] != wanted)):
            raise ValueError(f"no states of the caption {captions.texts[missing[0]]!r:.60}, "
                             f"{len(missing)} in all: the states are those of other captions")
        self.rows, self.of_image = rows[place], captions.rows

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """The states of images (B,) by their places."""
        caption = self.of_image[index]
        found = np.zeros((len(index), *self.shape), np.float16)
        has = caption != NONE
        found[has] = self.states[self.rows[caption[has]]]
        return found


def told(captions: Texts, files: Sequence[Path]) -> Told:
    """The states of captions, of several files. Raises `ValueError` naming one of another encoder."""
    parts = [read(path) for path in files]
    for path, part in zip(files, parts, strict=True):
        if part.states.shape[1:] != parts[0].states.shape[1:]:
            raise ValueError(f"{path}: its states are {part.states.shape[1:]}, those of {files[0]} "
                             f"{parts[0].states.shape[1:]}: of another text encoder")
    with naming(files[0]):
        return Told(captions, parts)


def keys(digests: np.ndarray) -> np.ndarray:
    """Digests (M, 16) as texts of bytes (M,), which can be sorted. None of them is a prefix of another."""
    return np.ascontiguousarray(digests).view(f"S{DIGEST}")[:, 0]
