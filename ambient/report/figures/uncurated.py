"""Figure `uncurated`: the first samples of runs, from the same latents and none left out (1, 13, 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ambient.specs import FigureSpec
from ambient.specs.strict import require, require_distinct

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`runs` are shown below each other, of each the first `images` times `rows` samples."""

    STAGE: ClassVar[str] = "crops_figures"
    READS: ClassVar[tuple[str, ...]] = ("images",)
    FOLLOWS: ClassVar[tuple[str, ...]] = ("labels",)
    CAPTION: ClassVar[str] = (
        "The first samples of each method, none left out. What stands in the same place was drawn from the "
        "same latent, and of the same class where the networks are told one.")

    runs: tuple[str, ...]  #: names in `runs`
    rows: int = 1  #: rows of samples for each run
    labels: tuple[str, ...]  #: the methods of the runs

    def __post_init__(self) -> None:
        super().__post_init__()
        require_distinct(self.runs, "runs")
        require(self.rows > 0, "rows", self.rows, ">= 1")

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The methods. Raises `SpecError` for runs whose samples start from other latents."""
        runs = cls.listed(settings, where, own, "runs")
        for run in runs:
            settings.validate(run)
        drawn = [settings.sampling(run) for run in runs]
        require(len({(one.seeds[0], one.sampler.draws) for one in drawn}) == 1, f"{where}.runs", runs,
                "runs that are sampled with the same seeds")
        return {"labels": [settings.row(run, where).method for run in runs]}


def reads(files, name: str, entry) -> dict:
    """The samples of each run's first training seed."""
    spec = files.experiments.figure(name)
    return {"samples": [files.path("sample", run=run, seed=files.first_seed(run)) for run in spec.runs]}


def draw(spec: Spec, samples: Sequence[Path]) -> Figure:
    """The samples of the first sampling seed at the last snapshot."""
    from ambient.report.captions import title_of
    from ambient.report.drawing import strips
    from ambient.storage.arrays import latest, part

    lines = []
    for label, path in zip(spec.labels, samples, strict=True):
        lines.append((label, part(latest(path), 0)[:spec.images * spec.rows]))
    return strips(lines, spec.images, title_of(spec), "The first samples, none left out: last snapshot, "
                  "first training seed, first sampling seed.")
