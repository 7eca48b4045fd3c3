"""The experiments as data: strict YAML, one overlay per scale, and the specification of every job.

Resolution, one order for everything: the study's section, then the preset (classifier or annotation),
then the run's own overrides; the scale's file is laid over all of these first.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ambient.spec import (
    AnnotationSpec,
    ClassifierSpec,
    DatasetSpec,
    DetectorSpec,
    EvaluationSpec,
    MixtureSpec,
    RowSpec,
    SamplingSpec,
    TableSpec,
    TheorySpec,
    TrainingSpec,
)
from ambient.strict import SpecError, build, nearest, number, plain, require

T = TypeVar("T")
FILES = ("data.yaml", "models.yaml", "experiments.yaml", "theory.yaml")
SECTIONS = ("datasets", "corruptions", "detectors", "classifiers", "annotations", "studies", "runs",
            "tables", "theory")
NAME = r"[a-z0-9][a-z0-9.-]*"


class StrictLoader(yaml.SafeLoader):
    """YAML without surprises: a key given twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                mark = key_node.start_mark
                raise SpecError(f"{mark.name}, line {mark.line + 1}: key {key!r} is given twice; "
                                "keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict:
    """Read one YAML file of keys and values. Raises `SpecError` naming file and line."""
    try:
        with open(path) as file:
            loaded = yaml.load(file, StrictLoader)  # noqa: S506, a subclass of SafeLoader
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"{path}{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(loaded or {}, dict):
        raise SpecError(f"{path}: got {type(loaded).__name__}, allowed: keys and values")
    return loaded or {}


def overlay(base: Any, over: Any, where: str, sources: dict, file: str) -> Any:
    """`over` laid over `base`: maps merge key by key, anything else replaces. Notes who set what."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        sources[where] = file
        return over
    merged = dict(base)
    for key, value in over.items():
        path = f"{where}.{key}" if where else str(key)
        if key in base:
            merged[key] = overlay(base[key], value, path, sources, file)
        else:
            merged[key] = value
            sources[path] = file
    return merged


@dataclass(frozen=True)
class Run:
    """One diffusion model of a scale, by the names of what it is made of."""

    name: str
    study: str
    corruption: str  # a corruption, or `none`
    annotation: str
    overrides: Mapping[str, Any]


class Experiments:
    """All specifications of one scale. Everything is validated when this is made."""

    def __init__(self, folder: Path | str, scale: str) -> None:
        self.folder, self.scale = Path(folder), scale
        self.sources: dict[str, str] = {}
        tree: dict = {}
        for name in FILES:
            loaded = load(self.folder / name)
            for key in loaded:
                if key not in SECTIONS:
                    raise SpecError(f"{self.folder / name}: unknown key {key!r}{nearest(key, SECTIONS)}")
            tree = overlay(tree, loaded, "", self.sources, name)
        for path in self.overlays(scale):
            over = load(path)
            over.pop("extends", None)
            self.check_overlay(tree, over, path)
            tree = overlay(tree, over, "", self.sources, str(path.relative_to(self.folder)))
        self.tree = tree
        try:
            self.tables = {name: self.table(name) for name in tree.get("tables", {})}
            for name in self.needed():
                self.validate(name)
            for name in tree.get("theory", {}):
                self.theory(name)
        except SpecError as error:
            raise SpecError(self.located(str(error))) from None

    def located(self, message: str) -> str:
        """A message that begins with a dotted key, with the file that set that key put in front."""
        key = message.split(":")[0]
        while key and key not in self.sources:
            key = key.rpartition(".")[0]
        return f"{self.folder / self.sources[key] if key else self.folder}: {message}"

    def overlays(self, scale: str) -> list[Path]:
        """The files laid over the experiments: the scale's, after those that it `extends`; local.yaml."""
        paths: list[Path] = []
        name: Any = scale
        while name is not None:
            path = self.folder / "scales" / f"{name}.yaml"
            if path in paths:
                raise SpecError(f"{path}: extends: {name!r} extends itself")
            paths.insert(0, path)
            name = load(path).get("extends")
        local = self.folder / "local.yaml"
        return paths + ([local] if local.exists() else [])

    def check_overlay(self, tree: dict, over: dict, path: Path) -> None:
        """An overlay may change what exists; a new name in it is most likely a slip."""
        for section, entries in over.items():
            if section not in SECTIONS:
                raise SpecError(f"{path}: unknown key {section!r}{nearest(section, SECTIONS)}")
            for name in entries or {}:
                fresh = section in ("datasets", "corruptions", "detectors", "runs")
                if name not in tree.get(section, {}) and not fresh:
                    raise SpecError(f"{path}: {section}: unknown name {name!r}"
                                    f"{nearest(name, tree.get(section, {}))}")

    def entry(self, section: str, name: str, asked_by: str) -> dict:
        """A named entry. Raises `SpecError` for a dangling reference, with the nearest valid name."""
        entries = self.tree.get(section, {})
        if name not in entries:
            raise SpecError(f"{asked_by}: no such name in {section}: {name!r}{nearest(name, entries)}")
        return entries[name] or {}

    # --- runs and what they are made of -----------------------------------------------------------

    def run(self, name: str) -> Run:
        """A run by name. Raises `SpecError` for unknown keys or references."""
        where = f"runs.{name}"
        values = dict(self.entry("runs", name, where))
        known = ("study", "corruption", "annotation", "paper", "training")
        for key in values:
            if key not in known:
                raise SpecError(f"{where}: unknown key {key!r}{nearest(key, known)}")
        for key in ("study", "corruption", "annotation"):
            if key not in values:
                raise SpecError(f"{where}: missing key {key!r}")
        self.entry("studies", values["study"], f"{where}.study")
        self.entry("annotations", values["annotation"], f"{where}.annotation")
        if values["corruption"] != "none":
            self.entry("corruptions", values["corruption"], f"{where}.corruption")
        return Run(name, values["study"], values["corruption"], values["annotation"],
                   {"training": values.get("training", {})})

    def study(self, name: str) -> dict:
        """A study's settings: dataset, clean fraction, and one section a stage."""
        values = self.entry("studies", name, "studies")
        known = ("dataset", "clean_fraction", "mixture_seed", "training_seeds", "detector",
                 "classifier", "annotation", "training", "sampling")
        for key in known:
            if key not in values:
                raise SpecError(f"studies.{name}: missing key {key!r}")
        for key in values:
            if key not in known:
                raise SpecError(f"studies.{name}: unknown key {key!r}{nearest(key, known)}")
        return values

    def section(self, study: str, section: str, *over: Mapping) -> dict:
        """A stage's settings of a study, with presets and overrides laid over, in their order."""
        merged: Any = self.study(study)[section]
        for layer in over:
            merged = overlay(merged, layer, "", {}, "")
        return merged

    def dataset(self, name: str) -> DatasetSpec:
        """The specification of the `prepare` stage."""
        return build(DatasetSpec, self.entry("datasets", name, "datasets"), f"datasets.{name}")

    def portable_dataset(self, name: str) -> DatasetSpec:
        """The same without the local path, which says nothing about the result."""
        return dataclasses.replace(self.dataset(name), path=None)

    def portable_detector(self, name: str) -> DetectorSpec:
        """A detector without the local path of its weights."""
        return dataclasses.replace(self.detector(name), weights=None)

    def mixture(self, study: str, corruption: str, clean_fraction: float) -> MixtureSpec:
        """The specification of the `corrupt` stage; corruption `none` leaves corrupted images out."""
        entry = {"op": None}
        if corruption != "none":
            entry = dict(self.entry("corruptions", corruption, "corruptions"))
            if "op" not in entry:
                raise SpecError(f"corruptions.{corruption}: missing key 'op'")
        op = entry.pop("op")
        return build(MixtureSpec, {
            "clean_fraction": clean_fraction, "seed": self.study(study)["mixture_seed"], "op": op,
            "params": entry}, f"corruptions.{corruption}")

    def fraction(self, study: str, classifier: str | None = None) -> float:
        """The clean fraction of a study's mixtures, or of the one that a leaky classifier reads."""
        where = f"studies.{study}.clean_fraction"
        own = number(self.study(study)["clean_fraction"], where)
        return own if classifier is None else self.classifier(study, classifier).clean_fraction or own

    def classifier(self, study: str, name: str) -> ClassifierSpec:
        """The specification of the `classifier` stage."""
        preset = self.entry("classifiers", name, "annotations")
        return self.preset(ClassifierSpec, study, "classifier", preset, f"classifiers.{name}")

    def preset(self, cls: type[T], study: str, section: str, preset: Mapping, where: str) -> T:
        """A study's section with a preset laid over; an error names the one that set the key."""
        study_key = f"studies.{study}.{section}"
        try:
            return build(cls, self.section(study, section, preset), study_key)
        except SpecError as error:
            rest = str(error).removeprefix(study_key).lstrip(".")
            blamed = any(rest.startswith((f"{key}.", f"{key}:")) for key in preset)
            raise SpecError(f"{where}.{rest}" if blamed else str(error)) from None

    def classifier_of(self, annotation: str) -> str | None:
        """The classifier that an annotation preset asks, or None."""
        return self.entry("annotations", annotation, "annotations").get("classifier")

    def annotation(self, study: str, name: str) -> AnnotationSpec:
        """The specification of the `annotate` stage."""
        preset = dict(self.entry("annotations", name, "annotations"))
        classifier = preset.pop("classifier", None)
        preset.pop("label", None)
        spec = self.preset(AnnotationSpec, study, "annotation", preset, f"annotations.{name}")
        needs = spec.method in ("population", "per_sample")
        if needs != (classifier is not None):
            raise SpecError(f"annotations.{name}.classifier: got {classifier!r}, allowed: "
                            + ("a name in classifiers" if needs else "none for this method"))
        return spec

    def training(self, run: str, seed: int) -> TrainingSpec:
        """The specification of the `train` stage."""
        found = self.run(run)
        values = self.section(found.study, "training", found.overrides["training"], {"seed": seed})
        return build(TrainingSpec, values, f"studies.{found.study}.training")

    def sampling(self, run: str) -> SamplingSpec:
        """The specification of the `sample` stage."""
        study = self.run(run).study
        return build(SamplingSpec, self.section(study, "sampling"), f"studies.{study}.sampling")

    def detector(self, name: str) -> DetectorSpec:
        """The specification of the `detector` and `reference` stages."""
        return build(DetectorSpec, self.entry("detectors", name, "studies"), f"detectors.{name}")

    def evaluation(self, run: str) -> EvaluationSpec:
        """The specification of the `evaluate` stage."""
        name = self.study(self.run(run).study)["detector"]
        detector = self.detector(name)
        metric = "fid" if detector.kind == "inception" else f"fd-{name}"
        return EvaluationSpec(metric, dataclasses.replace(detector, weights=None),
                              self.sampling(run).seeds)

    # --- tables -----------------------------------------------------------------------------------

    def table(self, name: str) -> TableSpec:
        """A table and its rows, in file order."""
        entry = self.entry("tables", name, "tables")
        for key in entry:
            if key != "rows":
                raise SpecError(f"tables.{name}: unknown key {key!r} (known: rows)")
        rows = [self.row(run, f"tables.{name}") for run in entry.get("rows", ())]
        if not rows:
            raise SpecError(f"tables.{name}.rows: got none, allowed: one run or more")
        seeds = self.study(self.run(rows[0].run).study)["training_seeds"]
        return build(TableSpec, {"name": name, "scale": self.scale, "rows": plain(rows),
                                     "training_seeds": seeds}, f"tables.{name}")

    def row(self, run: str, asked_by: str) -> RowSpec:
        """The table row of a run."""
        self.entry("runs", run, asked_by)
        found, entry = self.run(run), self.tree["runs"][run]
        annotation = self.entry("annotations", found.annotation, f"runs.{run}.annotation")
        mixture = self.mixture(found.study, found.corruption, self.fraction(found.study))
        paper = {k: number(v, f"runs.{run}.paper.{k}") for k, v in (entry.get("paper") or {}).items()}
        return RowSpec(run, f"runs/{run}", annotation.get("label", found.annotation), mixture.op,
                       mixture.params, paper, "classifier" in annotation)

    def theory(self, name: str) -> TheorySpec:
        """The specification of the `theory` stage."""
        return build(TheorySpec, self.entry("theory", name, "theory"), f"theory.{name}")

    def needed(self) -> list[str]:
        """The runs that this scale's tables ask for, each once, in order."""
        return list(dict.fromkeys(row.run for table in self.tables.values() for row in table.rows))

    def validate(self, name: str) -> None:
        """Build every specification behind a run, and refuse protocols that contradict themselves."""
        run = self.run(name)
        self.dataset(self.study(run.study)["dataset"])
        self.annotation(run.study, run.annotation)
        classifier = self.classifier_of(run.annotation)
        self.mixture(run.study, run.corruption, self.fraction(run.study, classifier))
        if classifier and run.corruption == "none":
            raise SpecError(f"runs.{name}: annotation {run.annotation!r} needs corrupted images, but "
                            "corruption is 'none'")
        for seed in self.study(run.study)["training_seeds"]:
            self.training(name, seed)
        self.evaluation(name)


def check_main(config: Mapping) -> None:
    """Check the workflow's own settings (config/config.yaml, or --config on the command line)."""
    known = ("scale", "threads")
    for key in config:
        if key not in known:
            raise SpecError(f"config/config.yaml: unknown key {key!r}{nearest(key, known)}")
    require(config.get("scale") in scales("config"), "config/config.yaml: scale", config.get("scale"),
            ", ".join(scales("config")))
    threads = config.get("threads")
    require(isinstance(threads, int) and threads > 0, "config/config.yaml: threads", threads, ">= 1")


def scales(folder: Path | str) -> list[str]:
    """The scales that exist: one file each."""
    return sorted(path.stem for path in (Path(folder) / "scales").glob("*.yaml"))


def lines(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from lines(inner, f"{where}.{key}" if where else key)
    else:
        yield where, value


def main(arguments: list[str]) -> int:
    """`python -m ambient spec RUN [SCALE]`: print every resolved setting of a run, and its file."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m ambient spec", description=main.__doc__)
    parser.add_argument("run")
    parser.add_argument("scale", nargs="?", default="demo")
    parser.add_argument("--config", default="config", help="folder of the YAML files")
    given = parser.parse_args(arguments)
    try:
        found = Experiments(given.config, given.scale)
        run = found.run(given.run)
        found.validate(given.run)
    except SpecError as error:
        print(f"ambient spec: error: {error}", file=sys.stderr)
        return 2
    study, classifier = found.study(run.study), found.classifier_of(run.annotation)
    stages = {"dataset": found.dataset(study["dataset"]),
              "mixture": found.mixture(run.study, run.corruption, found.fraction(run.study))}
    if classifier:
        stages["classifier"] = found.classifier(run.study, classifier)
    stages |= {"annotation": found.annotation(run.study, run.annotation),
               "training": found.training(run.name, study["training_seeds"][0]),
               "sampling": found.sampling(run.name), "evaluation": found.evaluation(run.name)}
    for stage, spec in stages.items():
        for key, value in lines(plain(spec), stage):
            source = found.sources.get(f"studies.{run.study}.{key}", "")
            print(f"{key} = {value}" + (f"    # {source}" if source else ""))
    return 0
