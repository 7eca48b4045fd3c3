"""What a study, a run, a table, a figure and a number of the text may say in the YAML files.

Other entries are the specification of a stage with a key or two beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ambient.specs.strict import require, require_distinct, require_seeds


@dataclass(frozen=True)
class Published:
    """What the published numbers of a study were measured on."""

    dataset: str | None = None  #: the data that the published numbers are of, in a reader's words
    num_samples: int | None = None  #: how many samples they are measured with


@dataclass(frozen=True)
class StudyEntry:
    """A study: its data, and the settings of each stage, which presets and runs are laid over."""

    dataset: str  #: name in `datasets`
    clean_fraction: float  #: of the images that stay clean, in (0, 1]
    mixture_seed: int  #: of the choice of clean images and of the corruption
    training_seeds: tuple[int, ...]  #: that every run of the study is trained with
    #: names in `detectors`; a table's `value` is by the first one, others stand beside it
    detector: tuple[str, ...]
    classifier: Mapping[str, Any]  #: what `ClassifierSpec` has
    annotation: Mapping[str, Any]  #: what `AnnotationSpec` has
    training: Mapping[str, Any]  #: what `TrainingSpec` has
    sampling: Mapping[str, Any]  #: what `SamplingSpec` has
    #: name in `encoders`: denoisers work on its latents; null: on the pixels
    encoder: str | None = None
    #: name in `text_encoders`: denoisers that are conditional are told its states of captions
    text_encoder: str | None = None
    locality: Mapping[str, Any] | None = None  #: what `LocalitySpec` has, and the run it is measured on
    paper: Published | None = None  #: what the study's published numbers are of

    def __post_init__(self) -> None:
        require(0 < self.clean_fraction <= 1, "clean_fraction", self.clean_fraction, "(0, 1]")
        require_seeds(self.training_seeds, "training_seeds")
        require(len(self.detector) > 0, "detector", self.detector, "a detector's name, or a list of several")
        require_distinct(self.detector, "detector")


@dataclass(frozen=True)
class PartEntry:
    """One corruption of a study's images, and how the corrupted ones are annotated."""

    corruption: str  #: name in `corruptions`, or `none`
    annotation: str  #: name in `annotations`


@dataclass(frozen=True)
class RunEntry:
    """A run, which is a row of each table that shows it."""

    study: str  #: name in `studies`
    corruption: str  #: name in `corruptions`, or `none`
    annotation: str  #: name in `annotations`
    also: tuple[PartEntry, ...] | None = None  #: further data of the same study
    training: Mapping[str, Any] | None = None  #: settings laid over the study's
    sampling: Mapping[str, Any] | None = None  #: settings laid over the study's
    #: name in `runs`: the run has that one's data and training, and is sampled otherwise
    samples_of: str | None = None
    paper: Mapping[str, float] | None = None  #: published numbers: the metric, mean sigma_min or sigma_max
    label: str | None = None  #: of the method; None: the annotation's
    note: str | None = None  #: what the paper says of this number elsewhere
    id: str | None = None  #: of a number that the paper gives in running text


@dataclass(frozen=True)
class TableEntry:
    """A table. Its rows are runs, by name."""

    rows: tuple[str, ...]  #: names of runs
    title: str | None = None  #: in a reader's words
    defaults: Mapping[str, Any] | None = None  #: of the rows that stand in this table
    scorers: tuple[str, ...] = ()  #: names in `scorers`, by which the rows' samples are scored
    #: whether a scorer may judge samples that has told which images are good to learn from, as in Table 5
    own_judge: bool = False
    #: names in `sweeps`: beside each row stand the least distances of its training in them
    sweeps: tuple[str, ...] = ()
    landmarks: bool = False  #: whether the page says what held-out and corrupted images themselves score


@dataclass(frozen=True)
class SweepEntry:
    """Runs that are sampled at every point of a grid of widths and guidance, and not trained again for it."""

    of: tuple[str, ...]  #: names in `runs`
    guidances: tuple[float, ...] = (1.0,)  #: g of the points; 1: without the guide
    #: widths of averages of weights of the points; empty: the width that each run is sampled with
    ema_stds: tuple[float, ...] = ()
    sampling: Mapping[str, Any] | None = None  #: settings of all points, laid over the study's
    title: str | None = None  #: in a reader's words

    def __post_init__(self) -> None:
        require(len(self.of) > 0, "of", self.of, "one run or more")
        for key in ("of", "guidances", "ema_stds"):
            require_distinct(getattr(self, key), key)
        require(len(self.guidances) * max(len(self.ema_stds), 1) > 1, "guidances", self.guidances,
                "a grid of two points or more, with ema_stds")

    def points(self, widths: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name of the run that it is, what the files would say of that run) of each point of each run.

        `widths`: `{ema_std: ...}` of each run that says it itself, for points without a width of their own.
        """
        for run, width, guidance in itertools.product(self.of, self.ema_stds or (None,), self.guidances):
            said, end = dict(self.sampling or {}), f"g-{shortest(guidance)}"
            if width is None:
                yield f"{run}-{end}", {"samples_of": run,
                                       "sampling": {**widths[run], **said, "guidance": guidance}}
            else:
                yield f"{run}-ema-{shortest(width)}-{end}", {
                    "samples_of": run, "sampling": {**said, "ema_std": width, "guidance": guidance}}


def shortest(value: float) -> str:
    """A number in as few digits as tell it from every other one: 1, 0.15, 0.1234561."""
    return str(value).removesuffix(".0")


@dataclass(frozen=True)
class OutsideEntry:
    """Images from outside, scored under a table's protocol: a file of `config/outside/`, with its name."""

    scale: str  #: of the table
    table: str  #: name in `tables`
    path: str  #: folder or zip of images, or file of arrays (.npy, .npz, .safetensors)
    sha256: str  #: of that; any other content is refused
    label: str  #: in tables and figures
    target: str | None = None  #: of a table with several targets: the dataset that the distance is to


@dataclass(frozen=True)
class FigureEntry:
    """A figure that belongs to no table: see `FigureSpec` for its kinds and what each needs."""

    kind: str  #: what it shows (`FigureSpec`)
    title: str | None = None  #: in a reader's words
    study: str | None = None  #: name in `studies`; None: the run's
    run: str | None = None  #: name in `runs`, for a donut and extremes
    corruptions: tuple[str, ...] = ()  #: names in `corruptions`
    annotation: str | None = None  #: name in `annotations`
    images: int = 8  #: pictures in a row
    names: tuple[str, ...] | None = None  #: of the corruptions; None: their labels
    shown: Literal["other", "target"] = "other"  #: whose images' patches


@dataclass(frozen=True)
class TextEntry:
    """A number of the paper's text that is no row: see `TextSpec` for what it may be `of`."""

    of: str  #: what is computed (`TextSpec`)
    paper: float  #: the published number
    runs: tuple[str, ...] | None = None  #: names in `runs`
    table: str | None = None  #: in the place of `runs`: all of the table's rows
    #: for gpu_days: 10^12 operations a second that a GPU sustains
    tflops: float | None = None
    note: str | None = None  #: what the paper says of the number elsewhere

    def __post_init__(self) -> None:
        counts = self.of == "gpu_days"
        good = self.tflops > 0 if counts and self.tflops is not None else (self.tflops is None) != counts
        require(good, "tflops", self.tflops, "> 0 for gpu_days, else null")
