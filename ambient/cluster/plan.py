"""Every job behind a scale's tables, figures and theory, or behind one of them, with its work.

Standard library only. The jobs are those of the workflow's DAG, worked out from the configuration alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ambient.cluster.cost import Costs, Work, unet
from ambient.settings import Experiments
from ambient.specs.strict import SpecError, nearest

Job = tuple[str, tuple, object]  # stage, arguments of its cost, what tells it from others of the same
# Stages that make what is read.
OF_A_TABLE = ("table", "figures", "audit_page")
OF_THEORY = ("theory", "theory_figure")
OF_THE_SCALE = ("summary", *OF_THEORY, "report")
# Files that a job writes, besides a manifest for each and a log; one where nothing is said.
FILES = {"classify": 2, "annotate": 2, "combine": 3, "train": 2, "evaluate": 2, "locality": 2, "figures": 8,
         "figure": 2, "theory": 3, "theory_figure": 2}
UNRECORDED = {"audit_page"}  # what they write has no manifest
PARTS = ("", "-curves", "-classifiers", "-grid", "-audit")  # of a table's files
THEORY = ("theory", "theory-crossings", "theory-contraction")
SUFFIXES = (".csv", ".png", ".pdf", ".html")


class Plan:
    """The jobs of a scale, each as often as something needs it."""

    def __init__(self, found: Experiments) -> None:
        self.found = found

    def mixture(self, study: str, corruption: str, classifier: str | None = None) -> Iterator[Job]:
        """A mixture, that of a classifier where one is named, and the datasets in it."""
        yield "prepare", (self.found.study(study).dataset,), None
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
        yield from self.training(run, self.found.study(self.found.run(run).study).training_seeds[0])
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
                        ("reference", (self.found.study(study).dataset, detector), None),
                        ("evaluate", (run,), (seed, detector)))

    def figure(self, name: str) -> Iterator[Job]:
        """A figure that belongs to no table."""
        entry = self.found.figure_entry(name)
        study, kind, annotation = entry.study, entry.kind, entry.annotation
        if kind == "donut":
            yield from self.data(entry.run)
        elif kind == "locality":
            yield from self.locality(study)
        else:
            yield "prepare", (self.found.study(study).dataset,), None
        for corruption in entry.corruptions if annotation else ():
            if kind == "levels":
                yield from self.annotation(study, corruption, annotation)
            else:
                yield from self.classifiers(study, corruption, annotation)
            if kind == "patches":
                yield from self.mixture(study, corruption)
        yield "figure", (), name

    def table(self, name: str, stages: tuple[str, ...] = OF_A_TABLE) -> Iterator[Job]:
        """A table and what is made of it: its file, its figures, its audit page."""
        table = self.found.tables[name]
        yield from ((stage, (), name) for stage in stages)
        for row in table.rows:
            for seed in table.training_seeds:
                yield from self.score(row.run, seed)

    def summary(self) -> Iterator[Job]:
        """Every number of the scale's tables."""
        for name in self.found.tables:
            yield from self.table(name, ("table",))
        yield "summary", (), None

    def bare(self) -> Iterator[Job]:
        """What a bare run makes: the main tables, and the page with them."""
        for name in self.found.main:
            yield from self.table(name)
        yield "report", (), None

    def every(self) -> Iterator[Job]:
        """All of a scale."""
        for name in self.found.tables:
            yield from self.table(name)
        for name in self.found.figures:
            yield from self.figure(name)
        yield from ((stage, (), None) for stage in OF_THE_SCALE)

    def target(self, name: str) -> Iterator[Job]:
        """What a target needs: a file as `snakemake` is asked for it, its name alone, `all`, `<scale>_all`.

        Raises `SpecError` for what is none of the scale's, with the nearest that is.
        """
        stem, suffix = inside(self.found.scale, name)
        of_table = {f"{table}{part}": table for table in self.found.tables for part in PARTS}
        if stem in of_table:
            made = {".csv": ("table",), ".html": ("table", "audit_page"), "": OF_A_TABLE}
            return self.table(of_table[stem], made.get(suffix, ("table", "figures")))
        if stem in self.found.figures:
            return self.figure(stem)
        if stem in THEORY:
            return iter([(stage, (), None) for stage in OF_THEORY[:1 if suffix == ".csv" else 2]])
        whole = {"summary": self.summary, "all": self.bare, "report": self.bare, "report-all": self.every,
                 f"{self.found.scale}_all": self.every}
        if stem in whole:
            return whole[stem]()
        known = [*self.found.tables, *self.found.figures, "theory", *whole]
        raise SpecError(f"target: got {name!r}, which the scale {self.found.scale} does not have"
                        f"{nearest(stem, known)}")


def inside(scale: str, name: str) -> tuple[str, str]:
    """(name, suffix) of a target in a scale's folder. Raises `SpecError` for a path in another one."""
    path, folder = PurePosixPath(name), PurePosixPath("results") / ("" if scale == "paper" else scale)
    if len(path.parts) > 1 and path.parent != folder:
        raise SpecError(f"target: got {name!r}, allowed for the scale {scale}: a file in {folder}")
    return (path.stem, path.suffix) if path.suffix in SUFFIXES else (path.name, "")


def wanted(found: Experiments, target: str | None = None) -> list[Job]:
    """The jobs behind a target, or all of a scale's, each once."""
    plan = Plan(found)
    return list(dict.fromkeys(plan.every() if target is None else plan.target(target)))


def jobs(found: Experiments, target: str | None = None) -> Iterator[tuple[str, Work]]:
    """(stage, work) of every job, each once. What draws or tabulates costs as a table does."""
    costs = Costs(found)
    for stage, given, _ in wanted(found, target):
        yield stage, getattr(costs, stage, costs.table)(*given)


def files(found: Experiments, target: str | None = None) -> int:
    """How many files the jobs leave: what they write, a manifest for each of these, and a log a job."""
    counts = [(FILES.get(stage, 1), stage in UNRECORDED) for stage, *_ in wanted(found, target)]
    return sum(count * (1 if bare else 2) + 1 for count, bare in counts)


def disk_bytes(found: Experiments, target: str | None = None) -> int:
    """Bytes that arrays and weights take, with the checkpoints of all trainings at work at once."""
    costs, total = Costs(found), 0
    for stage, given, _ in wanted(found, target):
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
