"""Figure `trade_off`: a table's rows by two distances, to all images and to the good ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ambient.specs import FigureSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`table` names the table, `against` a metric that stands beside its own, `curve` rows that a line joins.

    A row that brings samples nearer to the good images takes them away from the others. Which of the two is
    wanted is not for a figure to say, so it shows both.
    """

    STAGE: ClassVar[str] = "crops_figures"
    FOLLOWS: ClassVar[tuple[str, ...]] = ("runs",)
    CAPTION: ClassVar[str] = (
        "Each row of the table by its distance to all images and by its distance to the good ones; lower is "
        "better along both. The line joins rows whose sigma_min rises.")

    table: str  #: name in `tables`
    against: str  #: a metric of the studies' other detectors
    curve: tuple[str, ...] = ()  #: names of rows, in the order in which a line joins them
    runs: tuple[str, ...]  #: the table's rows

    def __post_init__(self) -> None:
        super().__post_init__()
        for run in self.curve:
            require(run in self.runs, "curve", run, f"rows of {self.table}: {', '.join(self.runs)}")

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The table's rows. Raises `SpecError` for a table or a metric that there is not."""
        found = settings.named_table(own.get("table"), where)
        require(own.get("against") in found.beside, f"{where}.against", own.get("against"),
                f"a metric that stands beside the table's own: {', '.join(found.beside) or 'there is none'}")
        return {"runs": [row.run for row in found.rows]}


def reads(files, name: str, entry) -> dict:
    """The table."""
    return {"table": files.path("tables", table=files.experiments.figure(name).table)}


def draw(spec: Spec, table: Path) -> Figure:
    """The rows as points, with bars of standard deviations: over training seeds and over sampling seeds."""
    import pandas as pd

    from ambient.report.captions import metric_axis, title_of, uncertainty
    from ambient.report.distance_panels import bar
    from ambient.report.drawing import heading, line_of, plain_numbers, plt

    rows = pd.read_csv(table)
    methods = rows["method"].tolist()
    figure, axis = plt.subplots(figsize=(7.2, 4.8), layout="constrained")
    places = [spec.runs.index(run) for run in spec.curve]
    axis.plot(rows["value"][places], rows[spec.against][places], color="0.6", lw=1, zorder=0)
    for place, row in rows.iterrows():
        look = line_of(methods[place], methods)
        at = row["value"], row[spec.against]
        axis.plot(*at, ls="none", marker=look["marker"], color=look["color"], label=label(row))
        for xerr, yerr, width in spreads(row, spec.against):
            axis.errorbar(*at, xerr=xerr, yerr=yerr, color=look["color"], **bar(width))
    axis.set(xscale="log", yscale="log", xlabel=metric_axis(rows["metric"][0], rows["num_samples"].unique()),
             ylabel=f"{spec.against} (lower is better)")
    plain_numbers(axis.xaxis)
    plain_numbers(axis.yaxis)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    seeds = uncertainty(int(rows["num_training_seeds"].max()), int(rows["num_seeds"].max()))
    heading(figure, title_of(spec), f"Lower is better along both axes. {seeds[0].upper()}{seeds[1:]}.")
    return figure


def spreads(row: pd.Series, against: str) -> list[tuple[float, float, float]]:
    """(deviation of the table's distance, of the other one, width of both bars), where the row has them."""
    from ambient.report.distance_panels import WIDTHS

    kinds = (("training_std", f"{against}_training_std"), ("value_std", f"{against}_std"))
    found = [(row.get(one), row.get(other), width) for (one, other), width in zip(kinds, WIDTHS, strict=True)]
    return [one for one in found if one[0] is not None and one[0] >= 0]  # NaN is not


def label(row: pd.Series) -> str:
    """A row's method, with its mean sigma_min where it has one."""
    level = row["sigma_min_mean"]
    return f"{row['method']} ({level:.2g})" if level >= 0 else row["method"]  # NaN is not
