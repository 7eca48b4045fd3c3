"""Figure `preferences`: how often a judge prefers a run's samples to another's (figure 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ambient.specs import FigureSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`run` names the run that is judged, `than` the one that it is held against, `judge` who judges."""

    STAGE: ClassVar[str] = "crops_figures"
    NEEDS_RUN: ClassVar[bool] = True
    FOLLOWS: ClassVar[tuple[str, ...]] = ("labels", "judged_by")
    CAPTION: ClassVar[str] = (
        "How often a judge prefers the samples of one method to those of another, of the same caption and "
        "noise. Each pair was asked about in both orders; answers that contradict each other are ties, and a "
        "tie counts half for either. How often the judge is right on real images says what that is worth.")

    judge: str  #: name in `judges`
    than: str  #: name in `runs`
    labels: tuple[str, ...]  #: the methods of both
    judged_by: str  #: the kind of the judge

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The methods, and what the judge is. Raises `SpecError` for runs whose samples are no pairs."""
        than = own.get("than")
        settings.entry("runs", than, f"{where}.than")
        settings.validate(than)
        require(than != entry.run, f"{where}.than", than, "another run than the one that is judged")
        spec = settings.judge(own.get("judge"), entry.run, than)
        seeds = [settings.study(settings.run(run).study).training_seeds for run in (entry.run, than)]
        require(seeds[0] == seeds[1], f"{where}.than", than,
                f"a run with the training seeds {list(seeds[0])}")
        return {"labels": [settings.row(run, where).method for run in (entry.run, than)],
                "judged_by": spec.kind}


def reads(files, name: str, entry) -> dict:
    """The answers about each pair, of each training seed."""
    spec = files.experiments.figure(name)
    return {"judged": [files.path("judge", judge=spec.judge, run=entry.run, than=spec.than, seed=seed)
                       for seed in files.experiments.study(entry.study).training_seeds]}


def draw(spec: Spec, judged: Sequence[Path]) -> Figure:
    """A pair of bars for each form of a prompt, in percent, rounded down as the paper's are."""
    import numpy as np

    from ambient.report.captions import title_of
    from ambient.report.drawing import BLACK, heading, line_of, plt
    from ambient.report.judgements import bars
    from ambient.storage.files import read_json

    found = [read_json(path) for path in judged]
    table = bars([record for one in found for record in one["pairs"]])
    figure, axis = plt.subplots(figsize=(7.6, 0.55 * len(table) + 1.7), layout="constrained")
    places = np.arange(len(table))
    share, ours, theirs = table["share"], line_of(spec.labels[0]), line_of(spec.labels[1], spec.labels)
    axis.barh(places, 100 * share, color=ours["color"], alpha=0.8, label=spec.labels[0])
    axis.barh(places, 100 * (1 - share), left=100 * share, color=theirs["color"], alpha=0.5,
              label=spec.labels[1])
    axis.errorbar(100 * share, places, xerr=100 * np.stack([share - table["low"], table["high"] - share]),
                  ls="none", color=BLACK, capsize=3, elinewidth=1)
    axis.axvline(50, color=BLACK, lw=0.8, ls=":")
    for place, row in table.iterrows():
        axis.text(1, place, f"{int(100 * row['share'])}", va="center", color="white", fontsize=8)
        axis.text(99, place, f"{int(100 * (1 - row['share']))}", va="center", ha="right", fontsize=8)
    names = [f"{row['prompts'].replace('_', ' ')}\n{row['pairs']} pairs, {row['ties']} ties"
             for _, row in table.iterrows()]
    axis.set_yticks(places, names, fontsize=8)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="preferred, % (bar: 95 %, of pairs that are independent)")
    axis.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    heading(figure, title_of(spec), note(spec, found))
    return figure


def note(spec: Spec, found: Sequence[dict]) -> str:
    """Who judged, and how well it does where it is known what is right."""
    who = f"Judge: {spec.judge}, of kind {spec.judged_by}."
    known = [one["agreement"] for one in found if one["agreement"] is not None]
    if not known:
        return f"{who} It was not checked on pairs of which it is known which is right."
    checks = len(found[0]["checks"])
    right = sum(known) / len(known)
    return f"{who} Of {checks} pairs of real images it prefers the right one in {right:.1%}."
