"""Figure `quality`: scores of a folder's images, with those on both sides of the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ambient.specs import FigureSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RULE = ("by", "measure", "column", "at_least")  # of a selection: what must be the same for both parts


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """The study's dataset has the good images; the one of `corruptions`, of op `add`, puts in the others.

    Both are selected by the same rule, whose threshold the figure shows. `images` are shown in each row.
    """

    STAGE: ClassVar[str] = "crops_figures"
    READS: ClassVar[tuple[str, ...]] = ("corruptions", "images")
    CORRUPTIONS: ClassVar[int] = 1
    FOLLOWS: ClassVar[tuple[str, ...]] = ("score", "at_least")
    CAPTION: ClassVar[str] = (
        "How the images score, the threshold from which they are good, and examples. The threshold is the "
        "owner's to move: at_least of both datasets.")

    score: str  #: the measure of quality or the title of the scores' column
    at_least: float  #: the score from which an image is good

    @classmethod
    def follows(cls, settings, where: str, entry, own) -> dict:
        """The rule by which the two datasets are told from each other."""
        name, corruption = settings.study(entry.study).dataset, entry.corruptions[0]
        good, added = settings.dataset(name).select, settings.added_dataset(corruption)
        require(good is not None and good.good and good.at_least is not None, f"{where}.study", entry.study,
                "one whose dataset has images that are good by quality or scores")
        other = settings.dataset(added).select if added else None
        require(other is not None and not other.good
                and all(getattr(good, key) == getattr(other, key) for key in RULE), f"{where}.corruptions",
                corruption, f"one that adds the images that are not good by the rule of {name}")
        return {"score": good.measure or good.column, "at_least": good.at_least}


def reads(files, name: str, entry) -> dict:
    """Both datasets, prepared, with their scores."""
    added = files.experiments.added_dataset(entry.corruptions[0])
    return {"data": files.images(entry.study), "added": files.path("prepare", dataset=added)}


def draw(spec: Spec, data: Path, added: Path) -> Figure:
    """The histogram of all scores, and rows of images: the worst, just below, just above, the best."""
    from ambient.data.datasets import read
    from ambient.report.captions import title_of
    from ambient.report.quality_panels import quality

    return quality(read(data), read(added), spec.score, spec.at_least, spec.images, title_of(spec))
