"""Source `scenes`: coloured shapes on a grid with captions in GenEval's six forms, drawn and not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.prompt_forms import TASKS
from ambient.specs import DatasetSpec
from ambient.specs.strict import require, require_distinct

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset

SMALLEST = 8  # pixels of a cell's side
COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
ALONE = ("single_object", "colors")  # what a single cell can show


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`num_images` says how many are drawn. An image's class is that of its first shape."""

    HAD: ClassVar[str] = "drawn"
    HAD_IN_WORDS: ClassVar[str] = "drawn by its job"
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("padding", "max_images", "classes")

    grid: int = 2  #: cells of a side; each holds one shape or none
    forms: tuple[str, ...] = TASKS  #: of captions, as GenEval calls them, each as often
    colours: tuple[str, ...] = COLOURS  #: of shapes and captions
    variety: int | None = None  #: different drawings of a shape; null: each is another one
    #: standard deviation of the Gaussian that rounds outlines, as a share of a cell's side; 0: none does
    smooth: float = 0.0
    seed: int = 0  #: image i is a function of (seed, i)

    def __post_init__(self) -> None:
        super().__post_init__()
        require((self.num_images or 0) > 0, "num_images", self.num_images,
                "> 0 for scenes: how many are made")
        require(self.channels == 3, "channels", self.channels, "3 for scenes: captions name colours")
        require(self.grid in (1, 2), "grid", self.grid, "1 or 2")
        require(self.resolution % self.grid == 0 and self.resolution // self.grid >= SMALLEST, "resolution",
                self.resolution, f"a multiple of grid = {self.grid}, of {SMALLEST} pixels a cell or more")
        forms = TASKS if self.grid == 2 else ALONE
        require(len(self.forms) > 0 and set(self.forms) <= set(forms), "forms", self.forms,
                f"one or more of {', '.join(forms)}")
        require_distinct(self.forms, "forms")
        require(len(self.colours) > 1 and set(self.colours) <= set(COLOURS), "colours", self.colours,
                f"two or more of {', '.join(COLOURS)}")
        require_distinct(self.colours, "colours")
        require(self.variety is None or self.variety > 0, "variety", self.variety, "> 0, or null")
        require(0 <= self.smooth <= 0.5, "smooth", self.smooth, "[0, 0.5]")
        require(self.seed >= 0, "seed", self.seed, ">= 0")


def draw(spec: Spec) -> Dataset:
    """All scenes; scene i, with its caption, is a function of (seed, i)."""
    from ambient.data import scenes
    from ambient.data.datasets import Dataset
    from ambient.data.texts import Texts

    ids = np.arange(spec.num_images)
    planned = [scenes.plan(spec, i) for i in ids.tolist()]
    return Dataset(scenes.paint(spec, planned), np.array([one.label for one in planned]), ids,
                   captions=Texts.of([one.caption for one in planned]))
