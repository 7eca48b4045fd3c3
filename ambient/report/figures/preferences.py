"""Figure `preferences`: how often a judge prefers a run's samples to another's (figure 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ambient.specs import FigureSpec
from ambient.specs.strict import build, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, kw_only=True)
class PairSpec:
    """Two runs whose samples are of the same captions and latents."""

    run: str  #: name in `runs`, which is judged
    than: str  #: name in `runs`, which it is held against


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`run` names the run that is judged, `than` the one that it is held against, `judge` who judges."""

    STAGE: ClassVar[str] = "crops_figures"
    NEEDS_RUN: ClassVar[bool] = True
    FOLLOWS: ClassVar[tuple[str, ...]] = ("labels", "judged_by", "lists")
    CAPTION: ClassVar[str] = (
        "How often a judge prefers the samples of one method to those of another, of the same caption and "
        "noise. Each pair was asked about in both orders; answers that contradict each other are ties, and a "
        "tie counts half for either. How often the judge is right on real images says what that is worth. A "
        "diamond is what the paper's figure shows.")

    judge: str  #: name in `judges`
    than: str  #: name in `runs`
    #: further pairs of runs of the same two methods, on other lists of captions
    also: tuple[PairSpec, ...] = ()
    #: category of captions -> how often the paper's judge preferred the first method, in percent
    paper: Mapping[str, float] = field(default_factory=dict)
    labels: tuple[str, ...]  #: the methods of both
    judged_by: str  #: the kind of the judge
    lists: tuple[str, ...]  #: each pair's list of captions, in a reader's words; none where there is one pair

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, share in self.paper.items():
            require(0 <= share <= 100, f"paper.{name}", share, "[0, 100], in percent")

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The methods, and what the judge is. Raises `SpecError` for runs whose samples are no pairs."""
        also = build(Also, {"also": own.get("also", [])}, where).also
        lists, methods = [], []
        for pair, at in [(PairSpec(run=entry.run, than=own.get("than")), where),
                         *((pair, f"{where}.also") for pair in also)]:
            methods.append(methods_of(settings, at, pair))
            kind = settings.judge(own.get("judge"), pair.run, pair.than).kind
            lists.append(settings.label("datasets", settings.sampling(pair.run).captions))
            require(methods[-1] == methods[0], f"{at}.run", pair.run,
                    f"runs of the methods {' and '.join(methods[0])}, as the first pair's are")
        return {"labels": methods[0], "judged_by": kind, "lists": lists if also else []}


@dataclass(frozen=True)
class Also:
    """The further pairs of an entry."""

    also: tuple[PairSpec, ...]


def methods_of(settings, where: str, pair: PairSpec) -> list[str]:
    """The methods of two runs. Raises `SpecError` for runs of other training seeds, and for one run."""
    for key, run in (("run", pair.run), ("than", pair.than)):
        settings.entry("runs", run, f"{where}.{key}")
        settings.validate(run)
    require(pair.than != pair.run, f"{where}.than", pair.than, "another run than the one that is judged")
    seeds = [settings.study(settings.run(run).study).training_seeds for run in (pair.run, pair.than)]
    require(seeds[0] == seeds[1], f"{where}.than", pair.than,
            f"a run with the training seeds {list(seeds[0])}")
    return [settings.row(run, where).method for run in (pair.run, pair.than)]


def reads(files, name: str, entry) -> dict:
    """The answers about each pair of samples: of each pair of runs, of each training seed."""
    spec = files.experiments.figure(name)
    pairs = [PairSpec(run=entry.run, than=spec.than), *spec.also]
    return {"judged": [files.path("judge", judge=spec.judge, run=pair.run, than=pair.than, seed=seed)
                       for pair in pairs
                       for seed in files.experiments.study(entry.study).training_seeds]}


def draw(spec: Spec, judged: Sequence[Path]) -> Figure:
    """A pair of bars for each category of captions, in percent, rounded down as the paper's are."""
    import numpy as np

    from ambient.report.captions import title_of
    from ambient.report.drawing import BLACK, heading, line_of, plt
    from ambient.storage.files import read_json

    found = [read_json(path) for path in judged]
    table = bars_of(spec, found)
    figure, axis = plt.subplots(figsize=(7.6, 0.55 * len(table) + 1.7), layout="constrained")
    places = np.arange(len(table))
    share, ours, theirs = table["share"], line_of(spec.labels[0]), line_of(spec.labels[1], spec.labels)
    axis.barh(places, 100 * share, color=ours["color"], alpha=0.8, label=spec.labels[0])
    axis.barh(places, 100 * (1 - share), left=100 * share, color=theirs["color"], alpha=0.5,
              label=spec.labels[1])
    axis.errorbar(100 * share, places, xerr=100 * np.stack([share - table["low"], table["high"] - share]),
                  ls="none", color=BLACK, capsize=3, elinewidth=1)
    printed = table["prompts"].map(spec.paper)
    if printed.notna().any():
        axis.scatter(printed, places, marker="D", s=22, color="white", edgecolor=BLACK, zorder=3,
                     label="the paper's")
    axis.axvline(50, color=BLACK, lw=0.8, ls=":")
    for place, row in table.iterrows():
        left, right = percent(row)
        axis.text(1, place, f"{left}", va="center", color="white", fontsize=8)
        axis.text(99, place, f"{right}", va="center", ha="right", fontsize=8)
    axis.set_yticks(places, [words_of(row) for _, row in table.iterrows()], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="preferred, % (bar: 95 %, of pairs that are independent)")
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    heading(figure, title_of(spec), note(spec, found))
    return figure


def percent(row: Mapping[str, int]) -> tuple[int, int]:
    """The two shares of a bar, (wins + ties / 2) / pairs and (losses + ties / 2) / pairs, in percent rounded
    down."""
    wins, losses = (100 * (2 * row[side] + row["ties"]) // (2 * row["pairs"]) for side in ("wins", "losses"))
    return wins, losses


def bars_of(spec: Spec, found: Sequence[dict]) -> DataFrame:
    """The bars of each list of captions, one list after the other; `list` says which it is."""
    import pandas as pd

    from ambient.report.judgements import bars

    lists = spec.lists or ("",)
    seeds = len(found) // len(lists)
    parts = [found[k * seeds:(k + 1) * seeds] for k in range(len(lists))]
    return pd.concat([bars([record for one in part for record in one["pairs"]]).assign(list=name)
                      for name, part in zip(lists, parts, strict=True)], ignore_index=True)


def words_of(row: Mapping[str, Any]) -> str:
    """What a bar is of."""
    from ambient.report.judgements import ALL

    name = row["prompts"].replace("_", " ")
    if row["prompts"] == ALL and row["list"]:
        name = f"{row['list']}, {name}"
    unclear = f", {row['unclear']} unclear" if row["unclear"] else ""
    return f"{name}\n{row['pairs']} pairs, {row['ties']} ties{unclear}"


def note(spec: Spec, found: Sequence[dict]) -> str:
    """Who judged, and how well it does where it is known what is right."""
    who = f"Judge: {spec.judge}, of kind {spec.judged_by}."
    known = [one["agreement"] for one in found if one["agreement"] is not None]
    if not known:
        return f"{who} It was not checked on pairs of which it is known which is right."
    checks = len(found[0]["checks"])
    right = sum(known) / len(known)
    return f"{who} Of {checks} pairs of real images it prefers the right one in {right:.1%}."
