"""All experiments of one scale: tables, figures and theory, each checked down to the runs behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from ambient.settings.compatible import check_judge, check_locality, check_run, check_scored
from ambient.settings.entry_types import FigureEntry, TableEntry, TextEntry
from ambient.settings.layers import lines
from ambient.settings.outside import Outside
from ambient.settings.resolve import Run, evaluating
from ambient.settings.scores import Scores
from ambient.specs import (
    FigureSpec,
    PatchMapsSpec,
    ReportSpec,
    RowSpec,
    ShownFigure,
    SummarySpec,
    TableSpec,
    TextSpec,
    TheorySpec,
)
from ambient.specs.report import TIMES
from ambient.specs.strict import (
    SpecError,
    build,
    convert,
    nearest,
    plain,
    refuse_unknown,
    require,
    require_distinct,
)


class Experiments(Scores):
    """All specifications of one scale. Everything is validated when this is made."""

    def __init__(self, folder: Path | str, scale: str) -> None:
        super().__init__(folder, scale)
        tree = self.tree
        try:
            self.tables = {name: self.table(name) for name in tree["tables"]}
            for name in self.needed():
                self.validate(name)
            for name in tree["theory"]:
                self.theory(name)
            self.figures = {name: self.figure(name) for name in self.present("figures")}
            self.main = self.main_names("tables", self.tables, list(self.tables))
            self.main_figures = self.main_names("figures", self.figures, ())
            self.summary()
        except SpecError as error:
            raise SpecError(self.entries.located(str(error))) from None
        self.outside = Outside(self)

    def table_entry(self, name: str) -> TableEntry:
        """What the files say of a table."""
        return self.typed(TableEntry, "tables", name, "tables")

    def table(self, name: str) -> TableSpec:
        """A table and its rows, in file order."""
        entry = self.table_entry(name)
        rows = [self.row(run, f"tables.{name}.rows") for run in entry.rows]
        require_distinct([(row.id, row.run) for row in rows], f"tables.{name}.rows")
        if len({row.dataset for row in rows}) == 1:
            rows = [dataclasses.replace(row, dataset=None) for row in rows]
        differing = list(dict.fromkeys(key for row in rows for key in row.settings))
        rows = [dataclasses.replace(row, settings=self.settings(row.run, differing)) for row in rows]
        if not rows:
            raise SpecError(f"tables.{name}.rows: got none, allowed: one run or more")
        studies = {self.run(row.run).study: None for row in rows}
        seeds, *others = (self.study(study).training_seeds for study in studies)
        require(all(found == seeds for found in others), f"tables.{name}.rows", ", ".join(studies),
                "runs of studies with the same training_seeds: every row is trained with each")
        return build(TableSpec, {"name": name, "scale": self.scale, "rows": plain(rows),
                                 "training_seeds": seeds, "beside": self.metrics_beside(name, rows),
                                 "title": entry.title, "landmarks": self.landmarks_of(entry),
                                 "scorers": self.scorers_of(name, entry),
                                 "told_apart": self.told_apart(entry)},
                     f"tables.{name}")

    def metrics_beside(self, table: str, rows: Sequence[RowSpec]) -> tuple[str, ...]:
        """The metrics by the studies' other detectors. Raises `SpecError` where the rows differ in them."""
        found = {tuple(self.detectors(self.run(row.run).study)[1:]) for row in rows}
        require(len(found) == 1, f"tables.{table}.rows", sorted(found),
                "runs of studies with the same detectors after their first one")
        return tuple(map(self.metric, found.pop()))

    def mixtures_of(self, table: TableEntry) -> list[tuple[str, str]]:
        """(study, corruption) of each mixture that a table has landmarks for: once, in the rows' order."""
        runs = [self.run(name) for name in table.rows if table.landmarks]
        parts = [(run.study, corruption) for run in runs for corruption, _ in run.parts]
        return list(dict.fromkeys(part for part in parts if part[1] != "none"))

    def landmarks_of(self, table: TableEntry) -> list[str]:
        """These corruptions in a reader's words."""
        return [self.label("corruptions", corruption) for _, corruption in self.mixtures_of(table)]

    def scorers_of(self, table: str, entry: TableEntry) -> tuple[str, ...]:
        """The scorers of a table's samples. Raises `SpecError` for one that can't judge them fairly."""
        where = f"tables.{table}.scorers"
        require_distinct(entry.scorers, where)
        for name in entry.scorers:
            self.entry("scorers", name, where)
            for run in map(self.run, entry.rows):
                check_judge(self, run, name, where, entry.own_judge)
        return entry.scorers

    def classifiers_of(self, table: TableEntry) -> list[tuple[str, str, str]]:
        """(study, corruption, classifier) of each noise classifier of photographs that a table rests on."""
        runs = [run for run in map(self.run, table.rows)
                if self.dataset(self.study(run.study).dataset).CONVERTS]
        asked = [(run.study, corruption, self.classifier_of(annotation)) for run in runs
                 for corruption, annotation in run.parts]
        return list(dict.fromkeys(one for one in asked if one[2]))

    def told_apart(self, table: TableEntry) -> list[str]:
        """What these classifiers tell from good images, in a reader's words."""
        corruptions = [corruption for _, corruption, _ in self.classifiers_of(table)]
        added = [self.added_dataset(corruption) for corruption in corruptions]
        return [self.label("datasets", dataset) if dataset else self.label("corruptions", corruption)
                for corruption, dataset in zip(corruptions, added, strict=True)]

    def row(self, run: str, asked_by: str) -> RowSpec:
        """The table row of a run."""
        entry, found = self.run_entry(run, asked_by), self.run(run)
        annotation = self.entry("annotations", found.annotation, f"runs.{run}.annotation")
        mixture = self.mixture(found.study, found.corruption, self.fraction(found.study))
        paper = dict(entry.paper or {})
        settings = {name: value for name, value in lines(entry.training or {}) if name}
        label = entry.label or annotation.get("label", found.annotation)
        parameters = mixture.operation.columns() if mixture.operation else mixture.params
        crops = self.crop_classifiers(found.annotation)
        annotated = "noise" if self.classifier_of(found.annotation) else "crops" if crops else None
        training, dataset = self.training(run, 0), self.study(found.study).dataset
        ours, theirs = self.protocols(found.study, found.annotation)
        return RowSpec(run, f"runs/{run}", label, mixture.op, parameters, paper, annotated, entry.id,
                       dataset, settings, entry.note, dataset, ours, theirs if paper else None,
                       training.noise, training.loss.buffer, margin=training.loss.margin,
                       **self.words_of(found, annotated))

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

    def protocols(self, study: str, annotation: str) -> tuple[str | None, str | None]:
        """How the classifiers of an annotation are trained, and the paper's; None where there is none.

        The latter is that of the preset that `published` names in `classifiers`; without, it is the same.
        """
        one = self.classifier_of(annotation)
        for name in [one] if one else self.crop_classifiers(annotation)[:1]:
            theirs = self.entry("classifiers", name, "annotations").get("published", name)
            return self.classifier(study, name).words(), self.classifier(study, theirs).words()
        return None, None

    def settings(self, run: str, keys: list[str]) -> dict:
        """The run's resolved settings of the loss under dotted `keys`, for the columns of a table."""
        resolved = dict(lines(plain(self.training(run, 0))))
        return {key.rpartition(".")[2]: resolved[key] for key in keys if key.startswith("loss.")}

    def main_names(self, section: str, known: Collection[str], otherwise: Sequence[str]) -> list[str]:
        """The tables, or figures, that a bare run of the scale makes: those in `main`, or others."""
        refuse_unknown(self.tree["main"], ("tables", "figures"), "main")
        where = f"main.{section}"
        names = list(convert(tuple[str, ...], self.tree["main"].get(section, otherwise), where))
        for name in names:
            if name not in known:
                raise SpecError(f"{where}: no such {section[:-1]}: {name!r}{nearest(name, known)}")
        require_distinct(names, where)
        return names

    def theory(self, name: str) -> TheorySpec:
        """The specification of the `theory` stage."""
        return build(TheorySpec, self.entry("theory", name, "theory"), f"theory.{name}")

    def summary(self) -> SummarySpec:
        """The specification of the `summary` stage."""
        return SummarySpec(tuple(self.tables.values()), self.texts())

    def texts(self) -> tuple[TextSpec, ...]:
        """The numbers of the running text whose runs are all rows of this scale's tables."""
        rows = {row.run: row for table in self.tables.values() for row in table.rows}
        found = []
        for name in self.present("in_text"):
            where, entry = f"in_text.{name}", self.typed(TextEntry, "in_text", name, "in_text")
            runs = entry.runs or [row.run for row in self.named_table(entry.table, where).rows]
            for run in runs:
                self.entry("runs", run, f"{where}.runs")
            if not set(runs) <= rows.keys():
                continue
            first = rows[runs[0]]
            timed = entry.of in TIMES
            epsilon = self.annotation(self.run(runs[0]).study, self.run(runs[0]).annotation).epsilon
            found.append(build(TextSpec, {
                "id": name, "of": entry.of, "runs": runs, "paper": entry.paper, "tau": 0.5 - epsilon,
                "note": entry.note, "protocol": None if timed else first.protocol,
                "paper_protocol": None if timed else first.paper_protocol}, where))
        return tuple(found)

    def present(self, section: str) -> list[str]:
        """The names of a section, but for those that a scale leaves out (`NAME: null`)."""
        return [name for name, entry in self.tree[section].items() if entry is not None]

    def named_table(self, name: str | None, asked_by: str) -> TableSpec:
        """A table by name. Raises `SpecError` for one that is not there."""
        self.entry("tables", name, f"{asked_by}.table")
        return self.tables[name]

    def report(self, everything: bool) -> ReportSpec:
        """The specification of the `report` stage: of the main tables, or of all that the scale has."""
        names = self.figures if everything else self.main_figures
        shown = [ShownFigure(name, one.title or name, one.kind)
                 for name, one in self.figures.items() if name in names]
        theory = [ShownFigure(n, "Section 4 in one dimension", "theory") for n in self.tree["theory"]]
        tables = tuple(self.tables[name] for name in (self.tables if everything else self.main))
        return ReportSpec(self.scale, tables, tuple(shown + theory * everything))

    def figure_entry(self, name: str) -> FigureEntry:
        """What the files say of a figure, its study filled in, with the names that it refers to checked."""
        where, (entry, kind, _) = f"figures.{name}", self.written_figure(name)
        if entry.run is not None:
            self.validate(entry.run)
            entry = dataclasses.replace(entry, study=self.run(entry.run).study)
        self.study(entry.study)
        for corruption in entry.corruptions:
            self.entry("corruptions", corruption, f"{where}.corruptions")
        if kind.NEEDS:
            preset = self.entry("annotations", entry.annotation, f"{where}.annotation")
            require(kind.NEEDS in preset, f"{where}.annotation", entry.annotation, f"one with {kind.NEEDS}")
        require(kind.CORRUPTIONS in (None, len(entry.corruptions)), f"{where}.corruptions",
                list(entry.corruptions), f"{kind.CORRUPTIONS} of them")
        if kind.NEEDS_RUN and entry.run is None:
            raise SpecError(f"{where}: missing key 'run'")
        if kind.LOCALITY:
            check_locality(self, entry.study)
        return entry

    def written_figure(self, name: str) -> tuple[FigureEntry, type[FigureSpec], dict]:
        """The entry of a figure, its kind's specification, and the settings that this kind alone has."""
        if ("figures", name) in self.made:
            return self.made["figures", name]
        where, written = f"figures.{name}", self.entry("figures", name, "figures")
        kind = FigureSpec.member(written, where)
        own = {field.name for field in dataclasses.fields(kind)} - {
            field.name for field in dataclasses.fields(FigureSpec)} - set(kind.FOLLOWS)
        entry = build(FigureEntry, {key: value for key, value in written.items() if key not in own}, where)
        self.made["figures", name] = made = entry, kind, {k: v for k, v in written.items() if k in own}
        return made

    def figure(self, name: str) -> FigureSpec:
        """The specification of a figure that belongs to no table."""
        where, entry, (_, kind, own) = f"figures.{name}", self.figure_entry(name), self.written_figure(name)
        study = entry.study
        names = entry.names or [self.label("corruptions", one) for one in entry.corruptions]
        mixtures = [self.mixture(study, corruption, self.fraction(study)) for corruption in entry.corruptions]
        annotation, training = self.section(study, "annotation"), self.section(study, "training")
        return build(FigureSpec, plain({
            "kind": entry.kind, "names": names, "corruptions": mixtures, "noise": training["noise"],
            "epsilon": annotation["epsilon"], "buffer": training["loss"]["buffer"],
            "margin": training["loss"].get("margin", 0.0),
            "crop_sigma": annotation.get("crop_sigma", 0.001), "images": entry.images,
            "seed": 0, "shown": entry.shown, "target": self.target(study),
            "title": entry.title} | own | kind.follows(self, where, entry, own)), where)

    def patch_maps(self, name: str) -> PatchMapsSpec:
        """What the patch maps of a figure are told: the part of its specification that they depend on."""
        figure, entry = self.figure(name), self.figure_entry(name)
        spec = PatchMapsSpec(figure.shown, figure.images, figure.crop_sigma, figure.seed)
        return evaluating(spec, f"figures.{name}", self.classifiers_networks(entry.study, entry.annotation))

    def needed(self) -> list[str]:
        """The runs that this scale's tables ask for, each once, in order."""
        return list(dict.fromkeys(row.run for table in self.tables.values() for row in table.rows))

    def encoded_first(self, study: str) -> str:
        """The first study of the tables' runs with a study's dataset and encoder, so with its latents."""
        own = self.study(study)
        for name in dict.fromkeys(self.run(run).study for run in self.needed()):
            if (self.study(name).dataset, self.study(name).encoder) == (own.dataset, own.encoder):
                return name
        return study

    def validate(self, name: str) -> None:
        """Build every specification behind a run, and refuse protocols that contradict themselves."""
        run = self.run(name)
        self.dataset(self.study(run.study).dataset)
        for corruption, annotation in run.parts:
            self.validate_part(name, run.study, corruption, annotation)
        for seed in self.study(run.study).training_seeds:
            self.training(name, seed)
        for detector in self.detectors(run.study):
            self.detector_dataset(run.study, detector)
            self.evaluation(name, detector)
        check_run(self, name)

    def validate_part(self, run: str, study: str, corruption: str, annotation: str) -> None:
        """The same of one corruption of a run and its annotation."""
        spec, classifier = self.annotation(study, annotation), self.classifier_of(annotation)
        self.mixture(study, corruption, self.fraction(study, classifier))
        added = self.added_dataset(corruption)
        if added:
            self.dataset(added)
        if spec.ASKS and corruption == "none":
            raise SpecError(f"runs.{run}: annotation {annotation!r} needs corrupted images, but "
                            "corruption is 'none'")
        if spec.reads_locality():
            check_locality(self, study)
        if spec.SCORED:
            check_scored(self, study, corruption, annotation)
        fractions = {self.classifier(study, name).crop and self.fraction(study, name)
                     for name in self.crop_classifiers(annotation)}
        if None in fractions:
            raise SpecError(f"annotations.{annotation}.classifiers: every one needs its crop in classifiers")
