"""Scorer `table`: scores from elsewhere, a column of a CSV table, matched by ids or by names of files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import ScorerSpec
from ambient.specs.scores import require_sides
from ambient.specs.strict import require
from ambient.storage.files import sha256

if TYPE_CHECKING:
    from ambient.data.datasets import Dataset
    from ambient.jobs.state import State


@dataclass(frozen=True, kw_only=True)
class Spec(ScorerSpec):
    """`path` is the table. It may have rows of other images too; each image of the dataset needs one."""

    PER_IMAGE: ClassVar[bool] = False
    GIVEN: ClassVar[str] = "a table of scores"
    RATE: ClassVar[float] = 20_000

    column: str  #: title of the column with the scores
    patches: tuple[int, ...] = ()  #: sides of patches, pixels, whose mean scores are columns, too
    patch_column: str | None = None  #: title of such a column, with {px} for the side: `CLIP-IQA-{px}`

    def __post_init__(self) -> None:
        super().__post_init__()
        require_sides(self.patches)
        require((self.patch_column is not None) == bool(self.patches), "patch_column", self.patch_column,
                "a title with {px} in it where patches has sides, else null")
        require(self.patch_column is None or "{px}" in self.patch_column, "patch_column", self.patch_column,
                "a title with {px} in it, which stands for the side")

    def mean_sides(self) -> tuple[int, ...]:
        return self.patches

    def portable(self) -> Spec:
        """The table goes by its digest."""
        known = self.path is not None and Path(self.path).is_file()
        pin = self.sha256 or (sha256(self.path) if known else None)
        return dataclasses.replace(self, path=None, sha256=pin)

    def columns(self) -> dict[int | None, str]:
        """Side of a patch (None: the whole image) -> title of its column."""
        return {None: self.column} | {side: self.patch_column.replace("{px}", str(side))
                                      for side in self.patches}


def score(spec: Spec, data: Dataset, given: Path | None, state: State) -> dict[str, np.ndarray]:
    """The columns' values for each image. Raises `ValueError` naming an image without a score."""
    from ambient.data.score_tables import read_columns
    from ambient.data.scores import MEAN

    titles = spec.columns()
    found = read_columns(given, list(titles.values()), data)
    return {"score" if side is None else f"{MEAN}{side}": found[title] for side, title in titles.items()}
