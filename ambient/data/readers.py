"""What a reader makes of raw data: labels, and the images one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]  # images (N, C, H, W), labels (N,)


@dataclass(frozen=True)
class Reading:
    """`images(rows)` yields those of rising rows one by one, uint8 (C, H, H).

    labels: int64 (N,), -1 for none; names: of classes that have one; side: pixels. converted and left_out
    count images or files by what was done, and are complete once the images were read. verified: the raw data
    are the published ones, by a checksum that the source knows. rows: those that may be taken, None: all;
    files: their names, scores their scores, and captions their captions, where they have any; captions_from:
    in words, what these were read from. A list of captions has no images.
    """

    labels: np.ndarray
    names: Mapping[int, str]
    labels_from: str
    side: int
    channels: int
    images: Callable[[np.ndarray], Iterator[np.ndarray]] | None
    converted: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)
    verified: bool = False
    rows: np.ndarray | None = None
    files: Sequence[str] = ()
    scores: np.ndarray | None = None
    captions: Sequence[str] | None = None
    captions_from: str | None = None


def in_memory(batches: Sequence[Arrays], names: Mapping[int, str], verified: bool = False) -> Reading:
    """A reading of a source that is small enough to be held as a whole."""
    every = [image for images, _ in batches for image in images]
    return Reading(np.concatenate([labels for _, labels in batches]), names, "the source", every[0].shape[-1],
                   len(every[0]), lambda rows: (every[row] for row in rows), verified=verified)
