"""What shapes a scene shows: connected parts that differ from the background, and a classifier of each.

A part's box is exact, so positions and numbers are; what is told of it is its class and its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from ambient.data.shapes import COLOURS, GREY, SHAPES
from ambient.evaluation import small_nets
from ambient.evaluation.captioned import Seen
from ambient.evaluation.geneval import Detection, Prompt

APART = 40  # of 255, in some channel: a pixel that differs so much from grey belongs to a shape
SMALLEST = 0.012  # of an image's pixels: smaller parts are specks
SHADE = 0.9  # of the palette, about as dark as shapes are drawn at the mean
EVERYWHERE = np.ones((3, 3), int)  # pixels that touch at a corner belong together


class Part(NamedTuple):
    """A connected part of an image that is no background."""

    box: tuple[int, int, int, int]  # (x0, y0, x1, y1), pixels; the last ones belong to it
    mask: np.ndarray  # (H, H), true where it is


def parts(image: np.ndarray) -> list[Part]:
    """The parts of a uint8 image (3, H, H), but for specks, row after row."""
    differs = np.abs(image.astype(np.int16) - GREY).max(axis=0) > APART
    labels, _ = ndimage.label(differs, EVERYWHERE)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        mask = labels == number
        if mask.sum() >= SMALLEST * mask.size:
            found.append(Part((columns.start, rows.start, columns.stop - 1, rows.stop - 1), mask))
    return found


def window(image: np.ndarray, part: Part, side: int) -> np.ndarray:
    """The part alone on the background, uint8 (3, side, side): in the middle, and reduced if it is larger."""
    x0, y0, x1, y1 = part.box
    alone = np.where(part.mask, image, np.uint8(GREY))[:, y0:y1 + 1, x0:x1 + 1]
    whole = max(side, *alone.shape[1:])
    square = np.full((3, whole, whole), GREY, np.uint8)
    top, left = ((whole - size) // 2 for size in alone.shape[1:])
    square[:, top:top + alone.shape[1], left:left + alone.shape[2]] = alone
    if whole == side:
        return square
    small = Image.fromarray(square.transpose(1, 2, 0)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


def colour_of(image: np.ndarray, part: Part) -> str:
    """The palette's colour that is nearest to the median of the part's pixels, in each channel."""
    median = np.median(image[:, part.mask], axis=1)
    palette = SHADE * np.array(list(COLOURS.values()))
    return list(COLOURS)[int(((palette - median)**2).sum(axis=1).argmin())]


class SceneObjects:
    """What is seen in scenes by the class classifiers of a detector that has learnt shapes alone."""

    names = SHAPES

    def __init__(self, weights: Path, side: int) -> None:
        """Raises `ValueError` for a detector of other classes."""
        self.network, self.side = small_nets.load(weights), side
        if self.network.shape[-1] != len(SHAPES):
            raise ValueError(f"{weights}: tells {self.network.shape[-1]} classes, allowed: the {len(SHAPES)} "
                             "shapes of scenes")

    def __call__(self, images: np.ndarray, asked: Sequence[Prompt] = ()) -> list[Seen]:
        """The likeliest class of each part of an image, with its probability, whatever is asked."""
        shown = [(row, part) for row, image in enumerate(images) for part in parts(image)]
        seen: list[dict[str, list[Detection]]] = [{} for _ in images]
        if not shown:
            return seen
        cut = np.stack([window(images[row], part, self.side) for row, part in shown])
        likely = np.exp(small_nets.log_probabilities(self.network, cut)).mean(axis=0)
        for (row, part), p in zip(shown, likely, strict=True):
            one = Detection(tuple(map(float, part.box)), float(p.max()), colour_of(images[row], part))
            seen[row].setdefault(SHAPES[int(p.argmax())], []).append(one)
        return seen
