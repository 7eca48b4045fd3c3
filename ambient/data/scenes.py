"""Scenes of coloured shapes: what scene i shows, its caption, and its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ambient.data import prompt_forms
from ambient.data.prompt_forms import RELATIONS, Metadata
from ambient.data.shapes import COLOURS, GREY, NUMBERS, SHAPES, coverage, shaded
from ambient.diffusion import randomness

if TYPE_CHECKING:
    from ambient.data.sources.scenes import Spec

BATCH = 512  # shapes drawn together: position, not batch, decides an image
MOST = 4  # shapes of a scene
CHOICES = 4  # uniforms that choose what a scene shows, beside those of its shapes
OF_A_SHAPE = 3  # its place, its colour, and which of the drawings of its class it is


@dataclass(frozen=True)
class Shape:
    """One shape of a scene."""

    kind: int  # place in `SHAPES`
    colour: int  # place in `COLOURS`
    cell: int  # row after row
    drawing: np.ndarray  # (NUMBERS,) in [0, 1)


@dataclass(frozen=True)
class Scene:
    """What is asked for, and the shapes that show it."""

    asked: Metadata  # a line of GenEval's metadata
    shapes: tuple[Shape, ...]

    @property
    def caption(self) -> str:
        """The words of what is asked for."""
        return prompt_forms.words(self.asked)

    @property
    def label(self) -> int:
        """The class of its first shape: of a position, of the one that the other is held against."""
        return self.shapes[0].kind


def plan(spec: Spec, number: int) -> Scene:
    """Scene `number`: form, classes, colours and cells are drawn by (seed, number) alone.

    Each form is as likely, and in it each caption. The shapes of a position share a row or a column.
    """
    u = randomness.numpy_generator("scene", spec.seed, number).random(
        CHOICES + MOST * (OF_A_SHAPE + NUMBERS))
    of_shapes = u[CHOICES:].reshape(MOST, OF_A_SHAPE + NUMBERS)
    task = spec.forms[int(u[0] * len(spec.forms))]
    colours = [one_of(spec.colours, draw) for draw in of_shapes[:, 1]]
    if task == "color_attr":
        colours[1] = one_of([one for one in spec.colours if one != colours[0]], of_shapes[1, 1])
    asked = asked_for(task, colours, *u[1:CHOICES])
    cells = np.argsort(of_shapes[:spec.grid**2, 0]).tolist()
    if task == "position":
        cells = beside(asked["include"][1]["position"][0], cells[0])[::-1]
    names = [one["class"] for one in asked["include"] for _ in range(one["count"])]
    shapes = [Shape(kind, list(COLOURS).index(colour), cell, drawing(spec, kind, own[2], own[OF_A_SHAPE:]))
              for kind, colour, cell, own in zip(map(SHAPES.index, names), colours, cells, of_shapes,
                                                 strict=False)]
    return Scene(asked, tuple(shapes))


def one_of(values: Sequence[str], u: float) -> str:
    """The value at floor(u n) of n."""
    return values[int(u * len(values))]


def asked_for(task: str, colours: Sequence[str], u_class: float, u_other: float, u: float) -> Metadata:
    """What a scene of a form shows: of two classes, the first drawn by `u_class`, another by `u_other`."""
    a = one_of(SHAPES, u_class)
    b = one_of([name for name in SHAPES if name != a], u_other)
    if task == "two_object":
        return prompt_forms.two_object(a, b)
    if task == "counting":
        return prompt_forms.counting(a, 2 + int(u * (MOST - 1)))
    if task == "colors":
        return prompt_forms.colors(a, colours[0])
    if task == "position":
        return prompt_forms.position(a, one_of(RELATIONS, u), b)
    if task == "color_attr":
        return prompt_forms.color_attr(a, colours[0], b, colours[1])
    return prompt_forms.single_object(a)


def beside(relation: str, cell: int) -> list[int]:
    """The cells of two shapes on a grid of 2 x 2 in a relation, in the row or the column of a drawn cell."""
    row, column = divmod(cell, 2)
    aside = relation in ("left of", "right of")
    cells = [2 * row, 2 * row + 1] if aside else [column, column + 2]
    return cells if relation in ("left of", "above") else cells[::-1]


def drawing(spec: Spec, kind: int, choice: float, own: np.ndarray) -> np.ndarray:
    """The numbers of a shape's drawing: its own, or those of one of `variety` drawings of its class."""
    if spec.variety is None:
        return own
    one = int(choice * spec.variety)
    return randomness.numpy_generator("drawing", spec.seed, kind, one).random(NUMBERS)


def paint(spec: Spec, scenes: Sequence[Scene]) -> np.ndarray:
    """uint8 images (N, 3, H, H): shapes on grey."""
    side = spec.resolution // spec.grid
    images = np.full((len(scenes), 3, spec.resolution, spec.resolution), GREY, np.uint8)
    placed = [(row, shape) for row, scene in enumerate(scenes) for shape in scene.shapes]
    for first in range(0, len(placed), BATCH):
        part = placed[first:first + BATCH]
        kinds, colours = (np.array([getattr(shape, key) for _, shape in part]) for key in ("kind", "colour"))
        u = np.stack([shape.drawing for _, shape in part])
        covered = coverage(kinds, u, side, spec.smooth)[:, None]
        pixels = np.rint(covered * shaded(colours, u, side) + (1 - covered) * GREY).astype(np.uint8)
        for (row, shape), cell in zip(part, pixels, strict=True):
            y, x = (side * place for place in divmod(shape.cell, spec.grid))
            images[row, :, y:y + side, x:x + side] = cell
    return images
