"""Figure `by_caption`: samples of several runs for the same captions and from the same latents (1, 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ambient.specs import FigureSpec
from ambient.specs.strict import require, require_distinct

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Spec(FigureSpec):
    """`runs` are shown below each other. With `together` each caption has a row of its samples; else a run
    has one row, with one sample for each caption."""

    STAGE: ClassVar[str] = "crops_figures"
    READS: ClassVar[tuple[str, ...]] = ("images",)
    FOLLOWS: ClassVar[tuple[str, ...]] = ("labels", "each")
    CAPTION: ClassVar[str] = (
        "Samples of several methods for the same captions, from the same noise, none left out. Samples that "
        "are alike though their noise is not are what the loss of diversity looks like.")

    runs: tuple[str, ...]  #: names in `runs`
    together: bool = False  #: a row for each caption
    captions: int = 2  #: how many captions have a row each, where they are together
    scorer: str | None = None  #: name in `scorers`: of kind vendi; its score stands above each caption's row
    labels: tuple[str, ...]  #: the methods of the runs
    each: int  #: samples of a caption, as they were drawn

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.runs) > 0, "runs", self.runs, "one run or more")
        require_distinct(self.runs, "runs")
        require(self.captions > 0, "captions", self.captions, ">= 1")
        require(self.scorer is None or self.together, "scorer", self.scorer, "null where together is false")

    @classmethod
    def follows(cls, settings, where: str, entry, own: Mapping[str, Any]) -> dict[str, Any]:
        """The methods, and how captions are drawn. Raises `SpecError` for runs with other captions."""
        runs = cls.listed(settings, where, own, "runs")
        for run in runs:
            settings.validate(run)
        drawn = [settings.sampling(run) for run in runs]
        told = {(one.captions, one.captions_each, one.num_samples, one.seeds) for one in drawn}
        require(len(told) == 1 and drawn[0].captions is not None, f"{where}.runs", runs,
                "runs that are sampled for the same captions and seeds")
        if (scorer := own.get("scorer")) is not None:
            settings.entry("scorers", scorer, f"{where}.scorer")
            require(settings.scorer(scorer).GROUPED, f"{where}.scorer", scorer, "one of kind vendi")
        return {"labels": [settings.row(run, where).method for run in runs], "each": drawn[0].captions_each}


def reads(files, name: str, entry) -> dict:
    """The samples of each run's first training seed, with their captions, and scores where they are shown."""
    spec = files.experiments.figure(name)
    seeds = {run: files.first_seed(run) for run in spec.runs}
    found = {"data": files.captions_of_run(spec.runs[0]),
             "samples": [files.path("sample", run=run, seed=seed) for run, seed in seeds.items()]}
    if spec.scorer:
        found["scored"] = [files.path("sample_scores", run=run, seed=seed, scorer=spec.scorer)
                           for run, seed in seeds.items()]
    return found


def draw(spec: Spec, data: Path, samples: Sequence[Path], scored: Sequence[Path] = ()) -> Figure:
    """The samples of the first sampling seed at the last snapshot."""
    from ambient.data.datasets import read
    from ambient.data.texts import of_samples
    from ambient.report.captions import title_of
    from ambient.report.drawing import strips
    from ambient.storage.arrays import latest, part
    from ambient.storage.files import read_arrays

    drawn = [part(latest(path), 0) for path in samples]
    prompts = of_samples(read(data).captions, spec.each, len(drawn[0]))
    if not spec.together:
        chosen = np.arange(0, len(prompts), spec.each)[:spec.images]
        lines = [(label, images[chosen]) for label, images in zip(spec.labels, drawn, strict=True)]
        said = "; ".join(prompts[row] for row in chosen)
        return strips(lines, spec.images, title_of(spec), f"From left to right: {said}.")
    diversity = [read_arrays(path)["score"][0] for path in scored] or [None] * len(drawn)
    lines = []
    for number in range(min(spec.captions, len(prompts) // spec.each)):
        first = number * spec.each
        for label, images, score in zip(spec.labels, drawn, diversity, strict=True):
            amount = "" if score is None else f": Vendi score {score[number]:.2f} of {spec.each}"
            own = images[first:first + spec.each][:spec.images]
            lines.append((f"{prompts[first]}, {label}{amount}", own))
    return strips(lines, spec.images, title_of(spec), "The first samples of each caption, from the same "
                  "latents for all methods.")
