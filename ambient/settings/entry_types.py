"""What a study, a run, a table, a figure and a number of the text may say in the YAML files.

Other entries are the specification of a stage with a key or two beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ambient.specs.strict import require, require_distinct, require_seeds


@dataclass(frozen=True)
class Published:
    """What the published numbers of a study were measured on."""

    dataset: str | None = None
    num_samples: int | None = None


@dataclass(frozen=True)
class StudyEntry:
    """A study: its data, and the settings of each stage, which presets and runs are laid over."""

    dataset: str
    clean_fraction: float
    mixture_seed: int
    training_seeds: tuple[int, ...]
    detector: tuple[str, ...]  # a table's `value` is by the first one, others stand beside it
    classifier: Mapping[str, Any]
    annotation: Mapping[str, Any]
    training: Mapping[str, Any]
    sampling: Mapping[str, Any]
    locality: Mapping[str, Any] | None = None
    paper: Published | None = None

    def __post_init__(self) -> None:
        require_seeds(self.training_seeds, "training_seeds")
        require(len(self.detector) > 0, "detector", self.detector, "a detector's name, or a list of several")
        require_distinct(self.detector, "detector")


@dataclass(frozen=True)
class PartEntry:
    """One corruption of a study's images, and how the corrupted ones are annotated."""

    corruption: str  # a corruption, or `none`
    annotation: str


@dataclass(frozen=True)
class RunEntry:
    """A run, which is a row of each table that shows it."""

    study: str
    corruption: str  # a corruption, or `none`
    annotation: str
    also: tuple[PartEntry, ...] | None = None  # further data of the same study
    training: Mapping[str, Any] | None = None  # laid over the study's
    paper: Mapping[str, float] | None = None  # published: the metric, mean sigma_min or sigma_max
    label: str | None = None  # of the method; None: the annotation's
    note: str | None = None  # what the paper says of this number elsewhere
    id: str | None = None  # of a number that the paper gives in running text


@dataclass(frozen=True)
class TableEntry:
    """A table. Its rows are runs, by name."""

    rows: tuple[str, ...]
    title: str | None = None
    defaults: Mapping[str, Any] | None = None  # of the rows that stand in this table


@dataclass(frozen=True)
class FigureEntry:
    """A figure that belongs to no table: see `FigureSpec` for its kinds and what each needs."""

    kind: str
    title: str | None = None
    study: str | None = None  # None: the run's
    run: str | None = None
    corruptions: tuple[str, ...] = ()
    annotation: str | None = None
    images: int = 8  # pictures in a row
    names: tuple[str, ...] | None = None  # of the corruptions; None: their labels
    shown: Literal["other", "target"] = "other"


@dataclass(frozen=True)
class TextEntry:
    """A number of the paper's text that is no row: see `TextSpec` for what it may be `of`."""

    of: str
    paper: float
    runs: tuple[str, ...] | None = None
    table: str | None = None  # in the place of `runs`: all of its rows
    note: str | None = None
