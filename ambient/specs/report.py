"""Specifications of tables, figures and the summary."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ambient.specs.data import MixtureSpec
from ambient.specs.kinds import Kinds, OfKinds
from ambient.specs.strict import later, require, require_distinct, require_finite, require_seeds
from ambient.specs.training import NoiseSpec

# Numbers (pixels, channels) of a row's training images, at most, that samples are held against in a picture:
# 21,845 of 512 x 512, evenly spaced, which are a 59th of ImageNet's. CIFAR-10's are all searched.
SEARCHED = 2**34
PICTURES = ("", "-grid", "-curves", "-classifiers")  # ends of the names of a table's pictures, in their order


@dataclass(frozen=True)
class DrawnSpec:
    """How the samples of a row are drawn."""

    ema_std: float | None  #: width of the average of weights; null: the first that the training kept
    guidance: float  #: g; 1: without a guide
    guide: str | None  #: the run that guides
    nfe: int  #: evaluations of networks for a sample: of the main one and of the guide


@dataclass(frozen=True)
class RowSpec:
    """A row of a table: its keys, the run behind it, and what the paper prints."""

    run: str  #: name of the run
    run_id: str  #: the run's folder below the scale's
    method: str  #: label of its annotation method
    corruption: str | None  #: operation of its mixture; None: there is none
    parameters: Mapping[str, Any]  #: of the corruption
    paper: Mapping[str, float]  #: published metric, and mean sigma_min where it is printed
    annotated: Literal["noise", "crops"] | None  #: by a noise classifier, by classifiers of crops
    id: str | None = None  #: of a number that the paper gives in running text
    dataset: str | None = None  #: of the target distribution, where a table holds several
    #: settings, by name, in which the rows' runs differ otherwise
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str | None = None  #: what the paper says of this number elsewhere
    reference: str | None = None  #: the dataset that distances are to
    protocol: str | None = None  #: how the classifier that annotated it was trained (`ClassifierSpec.words`)
    paper_protocol: str | None = None  #: how the paper's was
    noise: NoiseSpec | None = None  #: density of the training's noise levels
    buffer: float | None = None  #: of the training's admission rule
    corruption_label: str | None = None  #: the corruption in a reader's words; None: there is none
    target: str | None = None  #: the dataset that distances are to, in a reader's words
    paper_target: str | None = None  #: what the published value is measured on
    paper_samples: int | None = None  #: how many samples it is measured with
    tau: float | None = None  #: P(clean) from which a noise classifier's verdict admits an image
    margin: float = later(0.0)  #: of the training's admission rule
    trained: str | None = later(None)  #: the run whose training it is sampled from; null: its own
    drawn: DrawnSpec | None = later(None)  #: how it is sampled, where the table's rows differ in it
    parameters_1e6: float | None = later(None)  #: of its network, in millions; where the paper has it
    encoded: bool = later(False)  #: it learns from images, too, that are there as latents alone
    parts: int = later(1)  #: mixtures that its data are combined of

    @property
    def training_id(self) -> str:
        """The folder of the run whose training it is sampled from, below the scale's."""
        return f"runs/{self.trained}" if self.trained else self.run_id

    @property
    def told_apart_by(self) -> dict[str, Any]:
        """What tells the row from others of one method: of its corruption, training and sampling."""
        drawn = {"ema_std": self.drawn.ema_std, "guidance": self.drawn.guidance} if self.drawn else {}
        return {**self.parameters, **self.settings, **drawn}

    def __post_init__(self) -> None:
        require_finite(self)
        require(self.buffer is None or self.buffer > 1, "buffer", self.buffer, "> 1, or null")
        for key, value in self.paper.items():
            good = isinstance(value, (int, float)) and 0 <= value < math.inf
            require(good, f"paper.{key}", value, "a finite number >= 0")


@dataclass(frozen=True)
class TableSpec:
    """A table: its rows in the paper's order; every run is trained with each of `training_seeds`."""

    name: str  #: of its files
    scale: str  #: of its runs
    rows: tuple[RowSpec, ...]  #: in the paper's order
    training_seeds: tuple[int, ...]  #: that every row is trained with
    beside: tuple[str, ...] = ()  #: metrics by the studies' other detectors, a column each
    title: str | None = None  #: in a reader's words
    #: corruptions, in a reader's words, for which the page has landmarks of the score
    landmarks: tuple[str, ...] = later(())
    #: names of sweeps: beside each row stand the least distances of its training in them
    sweeps: tuple[str, ...] = later(())
    scorers: tuple[str, ...] = later(())  #: by which every row's samples are scored, several columns each
    #: what each scorer asks: `detector` and `model`, by their names; none where no scorer needs captions
    asked: tuple[Mapping[str, str], ...] = later(())
    #: what noise classifiers tell from good photographs, in a reader's words: the page says how well
    told_apart: tuple[str, ...] = later(())

    def asked_of(self, scorer: int) -> Mapping[str, str]:
        """What a scorer asks, by its place."""
        return self.asked[scorer] if self.asked else {}

    def __post_init__(self) -> None:
        require_seeds(self.training_seeds, "training_seeds")
        require(len(self.asked) in (0, len(self.scorers)), "asked", self.asked,
                "one for each of scorers, or none")


@dataclass(frozen=True)
class ComparisonSpec:
    """A table with rows from outside below its own: what they are is said by the files of their scores."""

    table: TableSpec  #: whose rows stand first


Shown = Literal["other", "target"]
OF_KINDS = ("images", "corruptions", "names", "annotation", "shown")  # what figures of some kinds alone read


@dataclass(frozen=True)
class FigureSpec(OfKinds):
    """A figure that belongs to no table: what is told of it, whatever its kind."""

    KINDS: ClassVar[Kinds] = Kinds("ambient.report.figures")
    STAGE: ClassVar[str] = "galleries"  # that draws it
    CAPTION: ClassVar[str] = ""  # in a reader's words
    READS: ClassVar[tuple[str, ...]] = ()  # of `OF_KINDS`: what an entry may say; others are refused
    NEEDS: ClassVar[str | None] = None  # the key of an annotation that must be named for it
    NEEDS_RUN: ClassVar[bool] = False
    CORRUPTIONS: ClassVar[int | None] = None  # how many must be named; None: any number
    PATCH_MAPS: ClassVar[bool] = False  # the stage `patch_maps` works for it
    NOISE_FLOOR: ClassVar[bool] = False  # the stage `noise_floor` does
    NEIGHBOURS: ClassVar[bool] = False  # the stage `neighbours` does
    LOCALITY: ClassVar[bool] = False  # the stage `locality` does
    FOLLOWS: ClassVar[tuple[str, ...]] = ()  # settings that `follows` gives, and an entry can't

    #: a file of `ambient/report/figures/`: `gallery`, `batch`, `crossing`, `levels`, `patches`, `donut`, ...
    kind: str
    names: tuple[str, ...]  #: of the corruptions, in a reader's words
    corruptions: tuple[MixtureSpec, ...]  #: mixtures that it shows
    noise: NoiseSpec  #: density of training levels: of the batch, and of the donut's axis
    epsilon: float  #: tau = 0.5 - epsilon
    buffer: float | None  #: of the training's admission rule
    crop_sigma: float  #: level that the crops classifier is told
    images: int  #: pictures in a row
    seed: int  #: of the choice of images
    shown: Shown = "other"  #: whose images' patches
    target: str | None = None  #: the study's dataset, in a reader's words
    title: str | None = None  #: in a reader's words
    margin: float = later(0.0)  #: of the training's admission rule

    def __post_init__(self) -> None:
        require_finite(self)
        require(0 <= self.epsilon < 0.5, "epsilon", self.epsilon, "[0, 0.5)")
        require(self.buffer is None or self.buffer > 1, "buffer", self.buffer, "> 1, or null")
        require(self.crop_sigma > 0, "crop_sigma", self.crop_sigma, "> 0")
        require(self.images > 0, "images", self.images, ">= 1")
        require_distinct(self.names, "names")

    @classmethod
    def require_read(cls, written: Mapping[str, Any], where: str) -> None:
        """Raise `SpecError` naming `where` for a key of an entry that figures of this kind do not read."""
        for key in OF_KINDS:
            require(key in cls.READS or key not in written, f"{where}.{key}", written.get(key),
                    f"none: figures of the kind {written['kind']} do not read it")

    @classmethod
    def follows(cls, settings: Any, where: str, entry: Any, own: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a kind's own that follow from others of the scale, of `ambient.settings.experiments`.

        `own` are those of its own that the entry gives. Raises `SpecError` naming `where` for an entry of
        `figures` of which they don't follow.
        """
        return {}

    @staticmethod
    def listed(settings: Any, where: str, own: Mapping[str, Any], section: str) -> list[str]:
        """The names that an entry lists by the key `section`, each of which the scale has in that section.

        Raises `SpecError` naming `where` for anything else.
        """
        names = own.get(section)
        require(isinstance(names, list) and len(names) > 0, f"{where}.{section}", names,
                f"a list of names in {section}")
        for name in names:
            settings.entry(section, name, f"{where}.{section}")
        return names


TIMES = ("seconds_per_1000", "hours")
COUNTED = ("parameters_1e6", "images_1e6", "batch", "lr", "good_share", "gpu_days")  # from settings alone


@dataclass(frozen=True)
class TextSpec:
    """A number of the paper's running text that is no row of a table, from what rows of tables were made of.

    of: value, the distance of the run; gain, by how much that of the second run is less than the first's;
    crossing, the level at which the mean P(clean) of held-out corrupted images first exceeds tau (the run's
    classifier); seconds_per_1000 and hours: of trainings, images and a whole run, mean over `runs`. Those of
    `COUNTED` follow from the settings of the run: millions of parameters and of training images, batch,
    reference learning rate, the share of good images, days of one GPU.
    """

    id: str  #: name of the number
    #: what is computed (see above)
    of: Literal["value", "gain", "crossing", "seconds_per_1000", "hours", "parameters_1e6", "images_1e6",
                "batch", "lr", "good_share", "gpu_days"]
    runs: tuple[str, ...]  #: that it is computed from
    paper: float  #: the published number
    protocol: str | None  #: how the first run's classifier was trained; None for times
    paper_protocol: str | None  #: how the paper's was
    tau: float  #: for a crossing: P(clean) that is crossed
    note: str | None  #: what the paper says of the number elsewhere
    counted: float | None = later(None)  #: the number itself, where it follows from settings

    def __post_init__(self) -> None:
        wanted = {"gain": 2, "seconds_per_1000": max(len(self.runs), 1),
                  "hours": max(len(self.runs), 1)}.get(self.of, 1)
        require((self.counted is not None) == (self.of in COUNTED), "counted", self.counted,
                "a number for what follows from settings, else null")
        require(len(self.runs) == wanted, "runs", self.runs, f"{wanted} for {self.of}")


@dataclass(frozen=True)
class SummarySpec:
    """Every published number of a scale's tables, and of the running text, ours beside the paper's."""

    tables: tuple[TableSpec, ...]  #: whose numbers are listed
    texts: tuple[TextSpec, ...] = ()  #: numbers of the running text


@dataclass(frozen=True)
class ShownFigure:
    """A figure of the report that belongs to no table: its file's name, title and kind."""

    name: str  #: of its file
    title: str  #: in a reader's words
    kind: str  #: for the caption


@dataclass(frozen=True)
class ReportSpec:
    """A page with tables, each with its figures, and figures that belong to none."""

    scale: str  #: of the page
    tables: tuple[TableSpec, ...]  #: in the page's order
    figures: tuple[ShownFigure, ...]  #: that belong to no table
