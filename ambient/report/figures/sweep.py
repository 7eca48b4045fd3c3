"""Figure `sweep`: distances against the width of the average of weights, a line for each guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`sweep` names the sweep. Each of its runs has a row of panels, each metric a column of them."""

    STAGE: ClassVar[str] = "crops_figures"
    FOLLOWS: ClassVar[tuple[str, ...]] = ("beside",)
    CAPTION: ClassVar[str] = (
        "Distances (lower is better) of the samples of one training against the width of the average of its "
        "weights, a line for each guidance g. The ring is the least of a panel.")

    sweep: str  #: name in `sweeps`
    beside: tuple[str, ...]  #: metrics that stand beside its own

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The metrics. Raises `SpecError` for a sweep that there is not."""
        return {"beside": settings.named_sweep(own.get("sweep"), f"{where}.sweep").beside}


def reads(files, name: str, entry) -> dict:
    """The sweep."""
    return {"table": files.path("sweep", sweep=files.experiments.figure(name).sweep)}


def draw(spec: Spec, table: Path) -> Figure:
    """A panel for each run and metric."""
    import pandas as pd

    from ambient.report.captions import title_of, uncertainty
    from ambient.report.drawing import heading, plt

    points = pd.read_csv(table)
    metrics, runs = (points["metric"][0], *spec.beside), points["training_id"].unique()
    figure, axes = plt.subplots(len(runs), len(metrics), squeeze=False, sharex=True, layout="constrained",
                                figsize=(1.2 + 3.4 * len(metrics), 0.8 + 2.6 * len(runs)))
    for line, run in zip(axes, runs, strict=True):
        for axis, metric in zip(line, metrics, strict=True):
            panel(axis, points[points["training_id"] == run], metric)
    for axis in axes[-1]:
        axis.set_xlabel("width of the average of weights" if "ema_std" in points else "guidance g")
    if "ema_std" in points:
        axes[0][0].legend(frameon=False, fontsize=7)
    seeds = uncertainty(int(points["num_training_seeds"].max()), int(points["num_seeds"].max()), bars=False)
    heading(figure, title_of(spec), f"Lower is better. {seeds[0].upper()}{seeds[1:]}. The least of several "
            "noisy distances (ring) is lower than one that is chosen beforehand.")
    return figure


def panel(axis: Axes, points: pd.DataFrame, metric: str) -> None:
    """The distances of one training by one metric; against guidance where all points have one width."""
    from ambient.report.drawing import look_of
    from ambient.report.least import column_of, least

    column, against = column_of(points, metric), "ema_std" if "ema_std" in points else "guidance"
    groups = points.groupby("guidance") if against == "ema_std" else [(None, points)]
    for place, (guidance, group) in enumerate(groups):
        shade, dash, marker = look_of(place)
        ranked = group.sort_values(against)
        axis.errorbar(ranked[against], ranked[column], yerr=ranked[f"{column}_std"].fillna(0), capsize=2,
                      ms=4, color=shade, ls=dash, marker=marker,
                      label=None if guidance is None else f"g = {guidance:g}")
    chosen = least(points, metric)
    axis.plot(chosen[against], chosen[column], ls="none", marker="o", ms=11, mfc="none", mec="black")
    axis.set_title(points["method"].iloc[0], fontsize=8)
    axis.set_ylabel(metric)
