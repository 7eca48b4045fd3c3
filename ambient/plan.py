"""Every job behind a scale's tables, figures and theory, with its work: what `<scale>_all` would run.

Standard library only. The jobs are those of the workflow's DAG, worked out from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from ambient.config import Experiments
from ambient.cost import Costs, Work, unet

Job = tuple[str, tuple, object]  # stage, arguments of its cost, what tells it from others of the same
# Stages that make what is read.
OF_A_TABLE, OF_THE_SCALE = ("table", "figures", "audit_page"), ("summary", "theory", "theory_figure")


class Plan:
    """The jobs of a scale, each as often as something needs it."""

    def __init__(self, found: Experiments) -> None:
        self.found = found

    def mixture(self, study: str, corruption: str, classifier: str | None = None) -> Iterator[Job]:
        """A mixture, that of a classifier where one is named, and the datasets in it."""
        yield "prepare", (self.found.study(study)["dataset"],), None
        if added := self.found.added_dataset(corruption):
            yield "prepare", (added,), None
        yield "corrupt", (study,), (corruption, self.found.fraction(study, classifier))

    def classifiers(self, study: str, corruption: str, annotation: str) -> Iterator[Job]:
        """The classifiers that an annotation asks."""
        one = self.found.classifier_of(annotation)
        for name in self.found.crop_classifiers(annotation) or ([one] if one else []):
            yield from self.mixture(study, corruption, name)
            yield "classify", (study, name), corruption

    def annotation(self, study: str, corruption: str, annotation: str) -> Iterator[Job]:
        """An annotated mixture: its classifiers, and the measured map where it asks for that."""
        yield from self.mixture(study, corruption)
        yield from self.classifiers(study, corruption, annotation)
        yield "annotate", (study, annotation), corruption
        spec = self.found.annotation(study, annotation)
        if spec.method == "crops" and spec.crop_map == "measured":
            yield from self.locality(study)

    def data(self, run: str) -> Iterator[Job]:
        """What a run is trained on."""
        made = self.found.run(run)
        for corruption, annotation in made.parts:
            yield from self.annotation(made.study, corruption, annotation)
        if made.also:
            yield "combine", (run,), None

    def training(self, run: str, seed: int) -> Iterator[Job]:
        """A denoiser."""
        yield from self.data(run)
        yield "train", (run,), seed

    def locality(self, study: str) -> Iterator[Job]:
        """crop(sigma) of a study, with the denoiser that it is measured on."""
        run = self.found.locality_run(study)
        yield from self.training(run, self.found.study(self.found.run(run).study)["training_seeds"][0])
        yield "locality", (study,), None

    def score(self, run: str, seed: int) -> Iterator[Job]:
        """A table's cell: a training, its samples, their distance."""
        study = self.found.run(run).study
        yield from self.training(run, seed)
        yield "sample", (run,), seed
        for detector in self.found.detectors(study):
            trained_on = self.found.detector_dataset(study, detector)
            weights = self.found.weights_of(detector)
            yield from (("prepare", (trained_on,), None), ("detector", (trained_on, weights), None),
                        ("reference", (self.found.study(study)["dataset"], detector), None),
                        ("evaluate", (run,), (seed, detector)))

    def figure(self, name: str) -> Iterator[Job]:
        """A figure that belongs to no table."""
        entry = self.found.figure_entry(name)
        study, kind, annotation = entry["study"], entry["kind"], entry["annotation"]
        if kind == "donut":
            yield from self.data(entry["run"])
        elif kind == "locality":
            yield from self.locality(study)
        else:
            yield "prepare", (self.found.study(study)["dataset"],), None
        for corruption in entry["corruptions"] if annotation else ():
            if kind == "levels":
                yield from self.annotation(study, corruption, annotation)
            else:
                yield from self.classifiers(study, corruption, annotation)
            if kind == "patches":
                yield from self.mixture(study, corruption)
        yield "figure", (), name

    def every(self) -> Iterator[Job]:
        """All of a scale."""
        for name, table in self.found.tables.items():
            yield from ((stage, (), name) for stage in OF_A_TABLE)
            for row in table.rows:
                for seed in table.training_seeds:
                    yield from self.score(row.run, seed)
        for name in self.found.figures:
            yield from self.figure(name)
        yield from ((stage, (), None) for stage in OF_THE_SCALE)


def jobs(found: Experiments) -> Iterator[tuple[str, Work]]:
    """(stage, work) of every job of a scale, each once. What draws or tabulates costs as a table does."""
    costs = Costs(found)
    for stage, given, _ in dict.fromkeys(Plan(found).every()):
        yield stage, getattr(costs, stage, costs.table)(*given)


def disk_bytes(found: Experiments) -> int:
    """Bytes that a scale's arrays and weights take, with the checkpoints of all trainings at work at once."""
    costs, total = Costs(found), 0
    for stage, given, _ in dict.fromkeys(Plan(found).every()):
        if stage == "prepare":
            images, channels, side = costs.dataset(*given)
            total += images * channels * side**2
        elif stage == "corrupt":
            images, channels, side = costs.data(*given)
            total += images * channels * side**2
        elif stage in ("train", "sample"):
            spec, sampling = found.training(given[0], 0), found.sampling(given[0])
            _, channels, side = costs.data(found.run(given[0]).study)
            weights = 4 * unet(spec.network, side, channels).parameters
            samples = sampling.images(len(spec.snapshots)) * channels * side**2
            total += (2 * len(spec.snapshots) + 10) * weights if stage == "train" else 2 * samples
    return total
