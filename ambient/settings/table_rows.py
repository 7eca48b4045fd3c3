"""What tables and figures say of runs: rows, how they are made comparable, and settings of figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from functools import cached_property

from ambient.data.prompt_forms import TASKS
from ambient.settings.counted import counted
from ambient.settings.entry_types import FigureEntry
from ambient.settings.layers import lines
from ambient.settings.resolve import Run
from ambient.settings.scores import Scores
from ambient.specs import DrawnSpec, RowSpec
from ambient.specs.strict import SpecError, plain, refuse_unknown, require, require_distinct

SIZE = "parameters_1e6"  # a column, where the paper prints it
OF_ANY_ROW = ("fid", "sigma_min", "sigma_max", SIZE, "nfe")  # published numbers that any row may have
OF_SCORES = ("mean", "median", "std", "real", "win_rate")  # ends of the names of a scorer's columns
OF_VERDICTS = ("overall", *TASKS)  # of one that judges prompts of several tasks


class TableRows(Scores):
    """The stages of a scale, and the rows of its tables."""

    def rows(self, runs: Collection[str], where: str, always_drawn: bool = False) -> list[RowSpec]:
        """The rows of some runs, in order. How they are drawn is said where they differ in it or the paper
        says it, or always.

        Raises `SpecError` for none, or for one that is there twice.
        """
        rows = [self.row(run, where) for run in runs]
        require_distinct([(row.id, row.run) for row in rows], where)
        if not rows:
            raise SpecError(f"{where}: got none, allowed: one run or more")
        if len({row.dataset for row in rows}) == 1:
            rows = [dataclasses.replace(row, dataset=None) for row in rows]
        differing = list(dict.fromkeys(key for row in rows for key in row.settings))
        rows = [dataclasses.replace(row, settings=self.settings(row.run, differing)) for row in rows]
        printed = {key for row in rows for key in row.paper}
        if SIZE in printed:
            sizes = [counted(self, row.run, SIZE, None) for row in rows]
            rows = [dataclasses.replace(row, parameters_1e6=size)
                    for row, size in zip(rows, sizes, strict=True)]
        drawn = [self.drawn(row.run) for row in rows]
        if always_drawn or "nfe" in printed or len(set(drawn)) > 1:
            rows = [dataclasses.replace(row, drawn=one) for row, one in zip(rows, drawn, strict=True)]
        return rows

    def seeds_of(self, rows: Sequence[RowSpec], where: str) -> tuple[int, ...]:
        """The seeds that every row is trained with. Raises `SpecError` where they differ."""
        studies = {self.run(row.run).study: None for row in rows}
        seeds, *others = (self.study(study).training_seeds for study in studies)
        require(all(found == seeds for found in others), where, ", ".join(studies),
                "runs of studies with the same training_seeds: every row is trained with each")
        return seeds

    def metrics_beside(self, rows: Sequence[RowSpec], where: str) -> tuple[str, ...]:
        """The metrics by the studies' other detectors. Raises `SpecError` where the rows differ in them."""
        found = {tuple(self.detectors(self.run(row.run).study)[1:]) for row in rows}
        require(len(found) == 1, where, sorted(found),
                "runs of studies with the same detectors after their first one")
        return tuple(map(self.metric, found.pop()))

    def row(self, run: str, asked_by: str) -> RowSpec:
        """The table row of a run."""
        entry, found = self.run_entry(run, asked_by), self.run(run)
        annotation = self.entry("annotations", found.annotation, f"runs.{run}.annotation")
        mixture = self.mixture(found.study, found.corruption, self.fraction(found.study))
        paper = dict(entry.paper or {})
        refuse_unknown(paper, self.printable, f"runs.{run}.paper")
        settings = {name: value for name, value in lines(entry.training or {}) if name}
        label = entry.label or annotation.get("label", found.annotation)
        parameters = mixture.operation.columns() if mixture.operation else mixture.params
        crops = self.crop_classifiers(found.annotation)
        annotated = "noise" if self.classifier_of(found.annotation) else "crops" if crops else None
        training, dataset = self.first_training(run), self.study(found.study).dataset
        ours, theirs = self.protocols(found.study, found.annotation)
        return RowSpec(run, f"runs/{run}", label, mixture.op, parameters, paper, annotated, entry.id,
                       dataset, settings, entry.note, dataset, ours, theirs if paper else None,
                       training.noise, training.loss.buffer, margin=training.loss.margin,
                       trained=None if found.trained == run else found.trained,
                       encoded=any(self.encoded_dataset(corruption) for corruption, _ in found.parts),
                       parts=len(found.parts), **self.words_of(found, annotated))

    @cached_property
    def printable(self) -> list[str]:
        """What a published number of a row may be called: those of any row, each metric without and with
        guidance, and the columns of each scorer."""
        metrics = ["fid", *map(self.metric, self.present("detectors"))]
        ends = [(name, OF_VERDICTS if self.scorer(name).ASKED_FOR == "objects" else OF_SCORES)
                for name in self.present("scorers")]
        return [*OF_ANY_ROW, *(f"{metric}{end}" for metric in metrics for end in ("", "_guided")),
                *(f"{name}_{end}" for name, own in ends for end in own)]

    def words_of(self, run: Run, annotated: str | None) -> dict:
        """What figures and the report say of a row: the fields of `RowSpec` that are for readers."""
        published, data = self.published(run.study), run.corruption
        tau = 0.5 - self.annotation(run.study, run.annotation).epsilon if annotated == "noise" else None
        return {"corruption_label": None if data == "none" else self.label("corruptions", data),
                "target": self.target(run.study), "paper_target": published.dataset,
                "paper_samples": published.num_samples, "tau": tau}

    def target(self, study: str) -> str:
        """What a study's distances are to, in a reader's words: its dataset and the size of its images."""
        dataset = self.study(study).dataset
        side = self.dataset(dataset).resolution
        return f"{self.label('datasets', dataset)}, {side}x{side}"

    def drawn(self, run: str) -> DrawnSpec:
        """How a run is sampled, for the columns of a table."""
        spec = self.sampling(run)
        return DrawnSpec(spec.ema_std, spec.guidance, self.guiding(run), spec.nfe + spec.guide_nfe)

    def protocols(self, study: str, annotation: str) -> tuple[str | None, str | None]:
        """How the classifiers of an annotation are trained, and the paper's; None where there is none.

        The latter is that of the preset that `published` names in `classifiers`; without, it is the same.
        """
        one = self.classifier_of(annotation)
        for name in [one] if one else self.crop_classifiers(annotation)[:1]:
            theirs = self.entry("classifiers", name, "annotations").get("published", name)
            return self.classifier(study, name).words(), self.classifier(study, theirs).words()
        return None, None

    def settings_of_figure(self, entry: FigureEntry, asked_by: str) -> tuple[dict, dict]:
        """(annotation, training): a figure's settings are those of the preset and of the run that it names.

        They are the study's where it names none. Raises `SpecError` naming `asked_by` for a preset that is
        not there.
        """
        preset = self.entry("annotations", entry.annotation, asked_by) if entry.annotation else {}
        overrides = self.run(entry.run).overrides["training"] if entry.run else {}
        return (self.section(entry.study, "annotation", preset),
                self.section(entry.study, "training", overrides))

    def settings(self, run: str, keys: list[str]) -> dict:
        """The run's resolved settings of the loss under dotted `keys`, for the columns of a table."""
        loss = self.first_training(run).loss
        names = [key.removeprefix("loss.") for key in keys if key.startswith("loss.")]
        return {name: plain(getattr(loss, name)) for name in names}
