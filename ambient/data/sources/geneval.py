"""Source `geneval`: the prompts of GenEval, drawn and not read, without images.

The published list was drawn by a generator of numpy from the seed 43. The same draws give the same 553
prompts in the same order. Source: Ghosh et al. 2023 (arXiv:2310.11513), whose list has the MIT licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.coco import NAMES
from ambient.data.prompt_forms import (
    BEFORE,
    COLOURS,
    NUMBERS,
    RELATIONS,
    Metadata,
    color_attr,
    colors,
    counting,
    position,
    single_object,
    two_object,
    words,
)
from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset

PEOPLE = ("person",)  # of whom no prompt asks a colour
COLOURED = tuple(name for name in NAMES if name not in PEOPLE)


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`resolution` and `channels` are those of the images that are drawn for the prompts. `num_images` is how
    many prompts there are, 553 of the published seed and number."""

    HAD: ClassVar[str] = "drawn"
    HAD_IN_WORDS: ClassVar[str] = "prompts, drawn by its job"
    HAS_CLASSES: ClassVar[bool] = False
    HAS_IMAGES: ClassVar[bool] = False
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("padding", "max_images", "classes")

    seed: int = 43  #: of the draws; 43: the published prompts
    each: int = 100  #: prompts of each task before those that are there twice are left out; 100: as published

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seed >= 0, "seed", self.seed, ">= 0")
        require(self.each > 0, "each", self.each, ">= 1")


def drawn(spec: Spec) -> Iterator[Metadata]:
    """What each prompt asks for, in the order of the draws: each class alone, then the other five tasks."""
    rng = np.random.default_rng(spec.seed)

    def two(names: tuple[str, ...]) -> list[str]:
        return [names[k] for k in rng.choice(len(names), size=2, replace=False)]

    for k in rng.choice(len(NAMES), size=len(NAMES), replace=False):
        yield single_object(NAMES[k])
    for _ in range(spec.each):
        yield two_object(*two(NAMES))
    for _ in range(spec.each):
        name = NAMES[rng.choice(len(NAMES))]
        yield counting(name, int(rng.integers(2, max(NUMBERS.values()), endpoint=True)))
    for _ in range(spec.each):
        name = COLOURED[rng.choice(len(COLOURED))]
        yield colors(name, COLOURS[rng.choice(len(COLOURS))])
    for _ in range(spec.each):
        name, other = two(NAMES)
        yield position(name, RELATIONS[rng.choice(len(RELATIONS))], other)
    for _ in range(spec.each):
        (name, other), (colour, others) = two(COLOURED), two(COLOURS)
        yield color_attr(name, colour, other, others)


def draw(spec: Spec) -> Dataset:
    """All prompts, each once. Raises `ValueError` for another number than the configuration's."""
    from ambient.data.datasets import Dataset
    from ambient.data.texts import Texts

    captions = list(dict.fromkeys(BEFORE + words(asked) for asked in drawn(spec)))
    if spec.num_images not in (None, len(captions)):
        raise ValueError(f"num_images: got {spec.num_images}, allowed: {len(captions)}, the prompts of seed "
                         f"{spec.seed}, or null")
    return Dataset(None, np.full(len(captions), -1), np.arange(len(captions)), captions=Texts.of(captions))
