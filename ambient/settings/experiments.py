"""All experiments of one scale: tables, figures and theory, each checked down to the runs behind it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from ambient.settings.captioned import check_judge
from ambient.settings.compatible import (
    check_locality,
    check_measured,
    check_pictures,
    check_run,
    check_training,
)
from ambient.settings.compatible_data import check_scored
from ambient.settings.counted import counted
from ambient.settings.entry_types import FigureEntry, SweepEntry, TableEntry, TextEntry
from ambient.settings.outside import Outside
from ambient.settings.resolve import evaluating
from ambient.settings.table_rows import TableRows
from ambient.specs import (
    FigureSpec,
    NeighboursSpec,
    NoiseFloorSpec,
    PatchMapsSpec,
    ReportSpec,
    RowSpec,
    ShownFigure,
    SummarySpec,
    TableSpec,
    TextSpec,
    TheorySpec,
)
from ambient.specs.report import COUNTED, TIMES
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


class Experiments(TableRows):
    """All specifications of one scale. Everything is validated when this is made."""

    def __init__(self, folder: Path | str, scale: str) -> None:
        super().__init__(folder, scale)
        tree = self.tree
        self.sweeps: dict[str, TableSpec] = {}  # those that tables and figures name
        self.trainings: set[str] = set()  # runs whose training is sound
        try:
            self.tables = {name: self.table(name) for name in tree["tables"]}
            for name in self.needed():
                self.validate(name)
                check_measured(self, name)
            for name in tree["theory"]:
                self.theory(name)
            check_pictures(self.tables, self.present("figures"))
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
        rows = self.rows(entry.rows, f"tables.{name}.rows")
        self.check_sweeps(name, entry, rows)
        return build(TableSpec, {"name": name, "scale": self.scale, "rows": plain(rows),
                                 "training_seeds": self.seeds_of(rows, f"tables.{name}.rows"),
                                 "beside": self.metrics_beside(rows, f"tables.{name}.rows"),
                                 "title": entry.title, "landmarks": self.landmarks_of(entry),
                                 "scorers": self.scorers_of(name, entry), "sweeps": entry.sweeps,
                                 "asked": self.asked_by(entry.scorers),
                                 "told_apart": self.told_apart(entry)},
                     f"tables.{name}")

    def sweep(self, name: str) -> TableSpec:
        """The table of a sweep: a row for each point of its grid of each of its runs."""
        where, entry = f"sweeps.{name}", self.typed(SweepEntry, "sweeps", name, "sweeps")
        for run in entry.of:
            self.entry("runs", run, f"{where}.of")
        rows = self.rows(self.entries.rows.swept[name], where, always_drawn=True)
        return build(TableSpec, {"name": name, "scale": self.scale, "rows": plain(rows), "title": entry.title,
                                 "training_seeds": self.seeds_of(rows, f"{where}.of"),
                                 "beside": self.metrics_beside(rows, f"{where}.of")}, where)

    def check_sweeps(self, table: str, entry: TableEntry, rows: Sequence[RowSpec]) -> None:
        """Refuse sweeps that are of no row of a table, or measured by other detectors than its rows are."""
        where = f"tables.{table}.sweeps"
        require_distinct(entry.sweeps, where)
        detectors = self.detectors(self.run(rows[0].run).study)
        for name in entry.sweeps:
            self.named_sweep(name, where)
            swept = self.typed(SweepEntry, "sweeps", name, where).of
            require(bool({self.run(row.run).trained for row in rows} & set(swept)), where, name,
                    f"a sweep of runs whose training a row has; it is of {', '.join(swept)}")
            for run in swept:
                other = self.detectors(self.run(run).study)
                require(other == detectors, where, name, f"one with the detectors {', '.join(detectors)}, as "
                        f"the table's rows; {run} has {', '.join(other)}")

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

    def asked_by(self, scorers: Sequence[str]) -> list[dict[str, str]]:
        """The detector and the model of texts that each scorer asks; none where no scorer needs captions."""
        specs = [self.scorer(name) for name in scorers]
        told = [{key: getattr(spec, key) for key, asks in (("detector", spec.ASKS), ("model", spec.MODEL))
                 if asks and spec.CAPTIONED} for spec in specs]
        return told if any(told) else []

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
            told = entry.of not in (*TIMES, *COUNTED)
            known = counted(self, runs[0], entry.of, entry.tflops) if entry.of in COUNTED else None
            if entry.of in COUNTED and known is None:
                continue
            epsilon = self.annotation(self.run(runs[0]).study, self.run(runs[0]).annotation).epsilon
            found.append(build(TextSpec, {
                "id": name, "of": entry.of, "runs": runs, "paper": entry.paper, "tau": 0.5 - epsilon,
                "note": entry.note, "protocol": first.protocol if told else None, "counted": known,
                "paper_protocol": first.paper_protocol if told else None}, where))
        return tuple(found)

    def named_sweep(self, name: str | None, asked_by: str) -> TableSpec:
        """A sweep by name. Raises `SpecError` for one that is not there."""
        if name not in self.sweeps:
            self.entry("sweeps", name, asked_by)
            self.sweeps[name] = found = self.sweep(name)
            for row in found.rows:
                self.validate(row.run)
                check_measured(self, row.run)
        return self.sweeps[name]

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
            require(entry.study is None, f"{where}.study", entry.study, "none beside run, whose study it is")
            self.validate(entry.run)
            entry = dataclasses.replace(entry, study=self.run(entry.run).study)
        self.entry("studies", entry.study, f"{where}.study")
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
        kind.require_read(written, where)
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
        annotation, training = self.settings_of_figure(entry, f"{where}.annotation")
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

    def noise_floor(self, name: str) -> NoiseFloorSpec:
        """What is told of the noise floor of a figure."""
        figure = self.figure(name)
        spec = NoiseFloorSpec(figure.runs, figure.sigma_min, figure.sigma_low, figure.sigma_high,
                              figure.num_sigmas, figure.num_images, figure.seed)
        kinds = [self.first_training(run).network.kind for run in spec.runs]
        return evaluating(spec, f"figures.{name}", kinds)

    def neighbours(self, name: str) -> NeighboursSpec:
        """What is told of the nearest images to the samples of a figure."""
        figure = self.figure(name)
        detector = figure.detector and self.portable_detector(figure.detector)
        return NeighboursSpec(figure.runs, figure.num_samples, figure.best, detector, figure.seed)

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
        self.validate_training(name)
        if guide := self.guiding(name):
            self.validate_training(guide)
        study = self.run(name).study
        for detector in self.detectors(study):
            self.detector_dataset(study, detector)
            self.evaluation(name, detector)
        check_run(self, name)

    def validate_training(self, name: str) -> None:
        """Check what a run is trained by and on: once for all runs that share it."""
        run = self.run(name)
        if run.trained in self.trainings:
            return
        self.trainings.add(run.trained)
        self.dataset(self.study(run.study).dataset)
        for corruption, annotation in run.parts:
            self.validate_part(name, run.study, corruption, annotation)
        for seed in self.study(run.study).training_seeds:
            self.training(name, seed)
        check_training(self, name)

    def validate_part(self, run: str, study: str, corruption: str, annotation: str) -> None:
        """Check one corruption of a run and its annotation."""
        spec = self.annotation(study, annotation, corruption)
        classifier = self.classifier_of(annotation)
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
