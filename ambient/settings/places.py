"""Which files of a scale its tables, its other figures and its page are made from."""

from __future__ import annotations

from ambient.settings.run_files import RunFiles, folder
from ambient.specs import FigureSpec, TableSpec
from ambient.specs.report import PICTURES, TIMES

__all__ = ["Files", "folder"]


class Files(RunFiles):
    """The files of one scale by what they hold."""

    # --- tables and their figures ---------------------------------------------------------------------

    def table(self, name: str) -> TableSpec:
        """A table, or that of a sweep. Raises `SpecError` for one that the scale does not have."""
        found = self.experiments
        if name in found.tables or name not in found.entries.rows.swept:
            return found.tables.get(name) or found.table(name)
        return found.named_sweep(name, "sweeps")

    def sweeps_of_table(self, table: str) -> list[str]:
        """The sweeps whose least distances stand beside a table's rows."""
        return [self.path("sweep", sweep=name) for name in self.table(table).sweeps]

    def of_table(self, table: str, stage: str, **more: str) -> list[str]:
        """The output of a stage for each run and training seed of a table, in row order."""
        spec = self.table(table)
        return [self.path(stage, run=row.run, seed=seed, **more)
                for row in spec.rows for seed in spec.training_seeds]

    def samples_of_rows(self, table: str) -> list[str]:
        """The samples of the first training seed of each row."""
        spec = self.table(table)
        return [self.path("sample", run=row.run, seed=spec.training_seeds[0]) for row in spec.rows]

    def losses_of_rows(self, table: str) -> list[str]:
        """The losses of the first training seed of each row."""
        spec = self.table(table)
        return [self.path("train", "log", run=self.experiments.run(row.run).trained,
                          seed=spec.training_seeds[0]) for row in spec.rows]

    def scores_beside(self, table: str) -> list[str]:
        """The scores of a table's rows by the study's other detectors, detector by detector."""
        study = self.experiments.run(self.table(table).rows[0].run).study
        return [path for other in self.experiments.detectors(study)[1:]
                for path in self.of_table(table, "evaluate", detector=other)]

    def scores_of_samples(self, table: str) -> list[str]:
        """The scores of each row's samples by each of a table's scorers, scorer by scorer."""
        return [path for scorer in self.table(table).scorers
                for path in self.of_table(table, "sample_scores", scorer=scorer)]

    def annotations_of_rows(self, table: str, role: str = "out") -> list[str]:
        """The annotations of each row, or (`summary`) their statistics."""
        return [self.annotations(row.run, role) for row in self.table(table).rows]

    def data_of_rows(self, table: str) -> list[str]:
        """What the run of each row is trained on."""
        return [self.training_data(row.run) for row in self.table(table).rows]

    def images_of_rows(self, table: str) -> list[str]:
        """What has the images of rows whose data have none, in row order."""
        return [path for row in self.table(table).rows for path in self.images_beside(row.run)]

    def reports_of_rows(self, table: str) -> list[str]:
        """What the classifiers of annotated rows say, of the first part of each one's data: the held-out
        report of a noise classifier, the statistics of an annotation by crops."""
        runs = [self.experiments.run(row.run) for row in self.table(table).rows if row.annotated]
        return [self.classifier(run.study, run.corruption, run.annotation, "calibration")
                or self.annotations_of_parts(run.name, "summary")[0] for run in runs]

    def summaries_of_rows(self, table: str) -> list[str]:
        """The statistics of the annotations of the first part of each row's data."""
        return [self.annotations_of_parts(row.run, "summary")[0] for row in self.table(table).rows]

    def first_parts_of_rows(self, table: str) -> list[str]:
        """The annotations of the first part of annotated rows whose data have several."""
        return [self.annotations_of_parts(row.run)[0] for row in self.table(table).rows
                if row.annotated and row.parts > 1]

    # --- other figures --------------------------------------------------------------------------------

    def of_figure(self, figure: str) -> dict[str, str | list[str]]:
        """What a figure is drawn from, by role: its kind says it."""
        entry = self.experiments.figure_entry(figure)
        return FigureSpec.KINDS[entry.kind].reads(self, figure, entry)

    def of_patch_maps(self, figure: str) -> dict[str, str | list[str]]:
        """What the patch maps of a figure are made from, by role."""
        entry = self.experiments.figure_entry(figure)
        corruption = entry.corruptions[0]
        data = self.mixture(entry.study, corruption)
        crops = self.crops(entry.study, corruption, entry.annotation)
        if entry.shown == "target":  # images of the target that are not in the mixture
            return {"data": self.images(entry.study), "seen": data, "crops": crops}
        return {"data": data, "crops": crops}

    def of_noise_floor(self, figure: str) -> dict[str, str | list[str]]:
        """What the noise floor of a figure is measured from, by role: its runs have the same data."""
        runs = self.experiments.noise_floor(figure).runs
        denoisers = [self.path("train", run=self.experiments.run(run).trained, seed=self.first_seed(run))
                     for run in runs]
        return {"data": self.training_data(runs[0]), "latents": self.latents_of_run(runs[0]),
                "annotations": self.annotations(runs[0]), "denoisers": denoisers}

    def of_neighbours(self, figure: str) -> dict[str, str | list[str]]:
        """What the samples of a figure's runs are compared with, by role, and the samples."""
        spec, study = self.experiments.figure(figure), self.experiments.figure_entry(figure).study
        datasets = {"data": self.experiments.study(study).dataset, "unseen": spec.unseen}
        files = {role: self.path("prepare", dataset=name) for role, name in datasets.items()}
        files["samples"] = [self.path("sample", run=run, seed=self.first_seed(run)) for run in spec.runs]
        if spec.best:
            files |= {role: self.scores(datasets[of], spec.best.scorer)
                      for role, of in (("scores", "data"), ("unseen_scores", "unseen"))}
        if spec.detector:
            files["detector"] = self.weights_of_study(study, spec.detector)
        return files

    # --- the summary and the page ---------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Every table of the scale."""
        return [self.path("tables", table=name) for name in self.experiments.tables]

    def logs_of_texts(self) -> list[str]:
        """The losses of the trainings whose times the running text gives, text by text."""
        names = [name for text in self.experiments.texts() if text.of in TIMES for name in text.runs]
        runs = [self.experiments.run(name) for name in names]
        return [self.path("train", "log", run=run.trained, seed=seed)
                for run in runs for seed in self.experiments.study(run.study).training_seeds]

    def reports_of_texts(self) -> list[str]:
        """The report of the classifier of each crossing that the running text gives."""
        runs = [self.experiments.run(text.runs[0]) for text in self.experiments.texts()
                if text.of == "crossing"]
        return [self.classifier(run.study, run.corruption, run.annotation, "calibration") for run in runs]

    def tables_of_page(self, page: str) -> list[str]:
        """The tables of the report, in its order."""
        spec = self.experiments.report(page == "report-all")
        return [self.path("tables", table=table.name) for table in spec.tables]

    def pictures_of_page(self, page: str) -> list[str]:
        """The figures of each of these tables, then those that belong to none."""
        spec = self.experiments.report(page == "report-all")
        names = [f"{table.name}{part}" for table in spec.tables for part in PICTURES]
        return [f"{folder(self.scale)}/{name}.png" for name in [*names, *(one.name for one in spec.figures)]]

    def compared_of_page(self, page: str) -> list[str]:
        """The figures with rows from outside, of the report's tables that have such."""
        spec = self.experiments.report(page == "report-all")
        return [self.path("comparison", table=table.name) for table in spec.tables
                if self.experiments.outside.of_table(table.name)]

    def photos_of_page(self, page: str) -> list[str]:
        """The prepared datasets of photographs behind the tables: what was read of the owner's images."""
        spec, found = self.experiments.report(page == "report-all"), []
        for run in (row.run for table in spec.tables for row in table.rows):
            entry = self.experiments.run(run)
            found += [self.experiments.study(entry.study).dataset,
                      *(self.experiments.added_dataset(corruption) for corruption, _ in entry.parts)]
        return [self.path("prepare", dataset=name) for name in dict.fromkeys(filter(None, found))
                if self.experiments.dataset(name).CONVERTS]

    def classifiers_of_page(self, page: str) -> list[str]:
        """The held-out reports of the noise classifiers of photographs, table by table."""
        spec = self.experiments.report(page == "report-all")
        entries = [self.experiments.table_entry(table.name) for table in spec.tables]
        return [self.path("classifier", "calibration", study=study, corruption=corruption, classifier=name)
                for entry in entries for study, corruption, name in self.experiments.classifiers_of(entry)]

    def landmarks_of_page(self, page: str) -> list[str]:
        """What known images score, table by table, by the first detector of each mixture's study."""
        spec = self.experiments.report(page == "report-all")
        entries = [self.experiments.table_entry(table.name) for table in spec.tables]
        return [self.path("landmarks", study=study, corruption=corruption,
                          detector=self.experiments.detectors(study)[0])
                for entry in entries for study, corruption in self.experiments.mixtures_of(entry)]
