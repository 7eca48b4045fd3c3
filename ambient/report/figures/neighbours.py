"""Figure `neighbours`: whether samples are nearer to training images than to as many unseen ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ambient.specs import BestSpec, FigureSpec
from ambient.specs.strict import build, later, require

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`runs` are of the study's images, and `unseen` is a dataset that nothing has learnt from.

    With `best` samples are compared with the best images of both, too, which Ambient-o uses at every level.
    """

    STAGE: ClassVar[str] = "crops_figures"
    NEIGHBOURS: ClassVar[bool] = True
    FOLLOWS: ClassVar[tuple[str, ...]] = ("methods",)
    CAPTION: ClassVar[str] = (
        "How far samples are from their nearest training image, and from the nearest of as many images that "
        "nothing has learnt from. Where the first is less, training images are memorised.")

    runs: tuple[str, ...]  #: names in `runs`
    unseen: str  #: name in `datasets`
    num_samples: int = 1000  #: of each run, at the most
    detector: str | None = None  #: name in `detectors`: distances are in its features; null: in pixels
    best: BestSpec | None = later(None, kw_only=True)  #: the good images are compared with, too
    methods: tuple[str, ...]  #: of the runs, in a reader's words

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """What the runs are called. Raises `SpecError` for what can't be compared."""
        runs, unseen = own.get("runs") or [], own.get("unseen")
        require(isinstance(runs, list) and len(runs) > 0, f"{where}.runs", runs, "names in runs")
        rows = [settings.row(run, f"{where}.runs") for run in runs]
        data = settings.study(entry.study).dataset
        settings.entry("datasets", unseen, f"{where}.unseen")
        ours, its = settings.dataset(data), settings.dataset(unseen)
        require((ours.channels, ours.resolution) == (its.channels, its.resolution) and unseen != data,
                f"{where}.unseen", unseen, f"another dataset of the size of {data}")
        for run, row in zip(runs, rows, strict=True):
            settings.validate(run)
            require(row.reference == data, f"{where}.runs", run, f"a run whose study has the dataset {data}")
        if own.get("detector") is not None:
            settings.detector_dataset(entry.study, own["detector"])
        if own.get("best") is not None:
            best = build(BestSpec, own["best"], f"{where}.best")
            for dataset in (data, unseen):
                settings.check_scorer(dataset, best.scorer, f"{where}.best.scorer", best.within)
        return {"methods": [row.method for row in rows]}


def reads(files, name: str, entry) -> dict:
    """What the stage `neighbours` measures for it."""
    return {"table": files.path("neighbours", near=name)}


def draw(spec: Spec, table: Path) -> Figure:
    """A panel for all images and one for the good ones; a line for each run."""
    import pandas as pd

    from ambient.report.captions import title_of
    from ambient.report.drawing import heading, plt

    rows = pd.read_csv(table)
    panels = list(rows.groupby("images", sort=False))
    figure, axes = plt.subplots(1, len(panels), squeeze=False, sharey=True, layout="constrained",
                                figsize=(2.4 + 3.6 * len(panels), 1.4 + 0.42 * len(spec.runs)))
    for axis, (name, found) in zip(axes[0], panels, strict=True):
        panel(axis, found.set_index("run").loc[list(spec.runs)], name)
    axes[0][0].set_yticks(range(len(spec.runs)), spec.methods)
    axes[0][0].set_ylim(len(spec.runs) - 0.5, -0.5)
    axes[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    space = f"features of {spec.detector}" if spec.detector else "pixels in [-1, 1]"
    heading(figure, title_of(spec), f"Mean distance of a sample to the nearest image, in {space}; bars: "
            "standard error over samples.")
    return figure


def panel(axis: Axes, rows: pd.DataFrame, name: str) -> None:
    """Distances to training images and to unseen ones of one group of images."""
    from ambient.report.drawing import BLUE, ORANGE

    places = range(len(rows))
    axis.hlines(places, rows["train"], rows["test"], color="0.7", lw=1, zorder=0)
    for key, words, shade, marker in (("train", "training images", ORANGE, "s"),
                                      ("test", "unseen images", BLUE, "o")):
        axis.errorbar(rows[key], places, xerr=rows[f"{key}_stderr"], ls="none", marker=marker, ms=5,
                      color=shade, capsize=2, label=f"to {words}")
    axis.set(xlabel="distance to the nearest", title=f"of {rows['of'].iloc[0]:,} {name} images"
             if name != "all" else f"of {rows['of'].iloc[0]:,} images")
