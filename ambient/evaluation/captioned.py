"""What a scorer of images with captions is: it is asked for both, and says what real images score.

Also what sees objects in images, for a scorer that judges by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ambient.data.datasets import Dataset, read
from ambient.evaluation.geneval import Detection, Prompt

REAL = "real_"  # before the name of an array that is of real images
TOGETHER = 1000  # real images that are in memory at a time


class CaptionScorer(Protocol):
    """A function of images and captions."""

    real: dict[str, np.ndarray]  # arrays of real images under the names of those of samples; may be empty

    def __call__(self, images: np.ndarray, captions: Sequence[str]) -> dict[str, np.ndarray]:
        """Arrays of uint8 images (N, C, H, H) with a caption each: `score`, and further ones."""

    def remarks(self, found: dict[str, np.ndarray]) -> list[str]:
        """What a reader should know of all the arrays, a sentence each."""

Seen = Mapping[str, list[Detection]]  # the detections of an image by class


class Objects(Protocol):
    """What sees the objects in images."""

    names: Sequence[str]  # of the classes of objects

    def __call__(self, images: np.ndarray, asked: Sequence[Prompt]) -> list[Seen]:
        """What uint8 images (N, C, H, H) show. Prompts say what is asked of each, so what need be told."""


def captioned(path: Path) -> tuple[Dataset, list[str]]:
    """A dataset, and the caption of each of its images. Raises `ValueError` where one has none."""
    data = read(path)
    captions = [None] * len(data.ids) if data.captions is None else data.captions.of_images()
    if data.images is None or None in captions:
        raise ValueError(f"{path}: {'has no images' if data.images is None else 'an image has no caption'}; "
                         "images with captions are needed here")
    return data, captions


def in_parts(path: Path) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Images and their captions, `TOGETHER` of them at a time. Raises what `captioned` does."""
    data, captions = captioned(path)
    for first in range(0, len(captions), TOGETHER):
        part = slice(first, first + TOGETHER)
        yield data.images[part], captions[part]
