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
    CombineSpec,
    DatasetSpec,
    DetectorSpec,
    EvaluationSpec,
    FigureSpec,
    LocalitySpec,
    MixtureSpec,
    RowSpec,
    SamplingSpec,
    SummarySpec,
    TableSpec,
    TheorySpec,
    TrainingSpec,
)
from ambient.strict import SpecError, build, nearest, number, plain, require

T = TypeVar("T")
FILES = ("data.yaml", "models.yaml", "experiments.yaml", "theory.yaml")
SECTIONS = ("datasets", "corruptions", "detectors", "classifiers", "annotations", "studies", "runs",
            "tables", "theory", "figures", "main")
NAME = r"[a-z0-9][a-z0-9.-]*"


class StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without surprises: a key given twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`; what follows it may replace it
                continue
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
    also: tuple[tuple[str, str], ...] = ()  # further (corruption, annotation) of the same study

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Every (corruption, annotation) that the run's data are made of."""
        return ((self.corruption, self.annotation), *self.also)


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
            self.figures = {name: self.figure(name) for name in tree.get("figures", {})}
            self.main = self.main_tables()
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
                fresh = section in ("datasets", "corruptions", "detectors", "runs", "classifiers")
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
        known = ("study", "corruption", "annotation", "also", "paper", "training", "label", "note")
        for key in values:
            if key not in known:
                raise SpecError(f"{where}: unknown key {key!r}{nearest(key, known)}")
        for key in ("study", "corruption", "annotation"):
            if key not in values:
                raise SpecError(f"{where}: missing key {key!r}")
        self.entry("studies", values["study"], f"{where}.study")
        parts = [values, *values.get("also", ())]
        for part in parts:
            self.entry("annotations", part.get("annotation"), f"{where}.annotation")
            if part.get("corruption") != "none":
                self.entry("corruptions", part.get("corruption"), f"{where}.corruption")
        for part in parts[1:]:
            if set(part) != {"corruption", "annotation"}:
                raise SpecError(f"{where}.also: got {part!r}, allowed: the keys corruption and annotation")
        return Run(name, values["study"], values["corruption"], values["annotation"],
                   {"training": values.get("training", {})},
                   tuple((part["corruption"], part["annotation"]) for part in parts[1:]))

    def study(self, name: str) -> dict:
        """A study's settings: dataset, clean fraction, and one section a stage."""
        values = self.entry("studies", name, "studies")
        known = ("dataset", "clean_fraction", "mixture_seed", "training_seeds", "detector",
                 "classifier", "annotation", "training", "sampling")
        known += ("locality",)
        for key in known[:-1]:
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
        entry = dict(self.entry("datasets", name, "datasets"))
        other = entry.pop("path_of", None)  # made of the same raw data as another one
        if other is not None and entry.get("path") is None:
            entry["path"] = self.entry("datasets", other, f"datasets.{name}.path_of").get("path")
        return build(DatasetSpec, entry, f"datasets.{name}")

    def added_dataset(self, corruption: str) -> str | None:
        """The dataset that a corruption of op `add` puts in, or None."""
        entry = {} if corruption == "none" else self.entry("corruptions", corruption, "corruptions")
        if entry.get("op") != "add":
            return None
        where = f"corruptions.{corruption}"
        if set(entry) != {"op", "dataset"}:
            raise SpecError(f"{where}: got the keys {', '.join(entry)}, allowed for op add: op, dataset")
        self.entry("datasets", entry["dataset"], f"{where}.dataset")
        return entry["dataset"]

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

    def crop_classifiers(self, annotation: str) -> list[str]:
        """The crops classifiers that an annotation preset asks."""
        found = self.entry("annotations", annotation, "annotations").get("classifiers", [])
        if not isinstance(found, list):
            raise SpecError(f"annotations.{annotation}.classifiers: got {found!r}, allowed: a list of names")
        return found

    def annotation(self, study: str, name: str) -> AnnotationSpec:
        """The specification of the `annotate` stage."""
        preset = dict(self.entry("annotations", name, "annotations"))
        classifier, crops = preset.pop("classifier", None), preset.pop("classifiers", None)
        preset.pop("label", None)
        spec = self.preset(AnnotationSpec, study, "annotation", preset, f"annotations.{name}")
        needs = spec.method in ("population", "per_sample")
        if needs != (classifier is not None):
            raise SpecError(f"annotations.{name}.classifier: got {classifier!r}, allowed: "
                            + ("a name in classifiers" if needs else "none for this method"))
        if (spec.method == "crops") != bool(crops):
            raise SpecError(f"annotations.{name}.classifiers: got {crops!r}, allowed: "
                            + ("names of crops classifiers" if spec.method == "crops"
                               else "none for this method"))
        return spec

    def locality_run(self, study: str) -> str:
        """The run whose denoiser measures crop(sigma) for a study; trained without any crops."""
        values = self.study(study).get("locality")
        if values is None:
            raise SpecError(f"studies.{study}: missing key 'locality', which a measured crop_map needs")
        name = values.get("run")
        self.entry("runs", name, f"studies.{study}.locality.run")
        if any(self.crop_classifiers(annotation) for _, annotation in self.run(name).parts):
            raise SpecError(f"studies.{study}.locality.run: got {name!r}, allowed: a run that does not use "
                            "crops itself")
        return name

    def locality(self, study: str) -> LocalitySpec:
        """The specification of the `locality` stage."""
        self.locality_run(study)
        values = {k: v for k, v in self.study(study)["locality"].items() if k != "run"}
        return build(LocalitySpec, values, f"studies.{study}.locality")

    def combined(self, run: str) -> CombineSpec:
        """The specification of the `combine` stage."""
        return CombineSpec(tuple("/".join(part) for part in self.run(run).parts))

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
        entry = {k: v for k, v in self.entry("detectors", name, "studies").items() if k != "dataset"}
        return build(DetectorSpec, entry, f"detectors.{name}")

    def detector_dataset(self, study: str) -> str:
        """The dataset that a study's detector is made on: the detector's own `dataset`, or the study's."""
        values = self.study(study)
        entry = self.entry("detectors", values["detector"], f"studies.{study}.detector")
        name = entry.get("dataset", values["dataset"])
        self.entry("datasets", name, f"detectors.{values['detector']}.dataset")
        return name

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
        rows = entry.get("rows") or ()
        named = rows.items() if isinstance(rows, Mapping) else ((None, run) for run in rows)
        rows = [self.row(run, f"tables.{name}", key) for key, run in named if run is not None]
        if len({row.dataset for row in rows}) == 1:
            rows = [dataclasses.replace(row, dataset=None) for row in rows]
        differing = list(dict.fromkeys(key for row in rows for key in row.settings))
        rows = [dataclasses.replace(row, settings=self.settings(row.run, differing)) for row in rows]
        if not rows:
            raise SpecError(f"tables.{name}.rows: got none, allowed: one run or more")
        seeds = self.study(self.run(rows[0].run).study)["training_seeds"]
        return build(TableSpec, {"name": name, "scale": self.scale, "rows": plain(rows),
                                     "training_seeds": seeds}, f"tables.{name}")

    def row(self, run: str, asked_by: str, key: str | None = None) -> RowSpec:
        """The table row of a run; `key` is the id of a number given in running text."""
        self.entry("runs", run, asked_by)
        found, entry = self.run(run), self.tree["runs"][run]
        annotation = self.entry("annotations", found.annotation, f"runs.{run}.annotation")
        mixture = self.mixture(found.study, found.corruption, self.fraction(found.study))
        paper = {k: number(v, f"runs.{run}.paper.{k}") for k, v in (entry.get("paper") or {}).items()}
        settings = {name: value for name, value in lines(entry.get("training") or {}) if name}
        label = entry.get("label", annotation.get("label", found.annotation))
        # Two datasets may be meant: the target, and the one that op `add` puts in.
        parameters = mixture.params if mixture.op != "add" else {"added": mixture.params["dataset"]}
        return RowSpec(run, f"runs/{run}", label, mixture.op, parameters, paper,
                       "classifier" in annotation, key, self.study(found.study)["dataset"], settings,
                       entry.get("note"))

    def settings(self, run: str, keys: list[str]) -> dict:
        """The run's resolved settings of the loss under dotted `keys`, for the columns of a table."""
        resolved = dict(lines(plain(self.training(run, 0))))
        return {key.rpartition(".")[2]: resolved[key] for key in keys if key.startswith("loss.")}

    def main_tables(self) -> list[str]:
        """The tables that a bare run of the scale makes: `main`, or all."""
        names = self.tree.get("main", {}).get("tables", list(self.tables))
        for name in names:
            if name not in self.tables:
                raise SpecError(f"main.tables: no such table: {name!r}{nearest(name, self.tables)}")
        return names

    def theory(self, name: str) -> TheorySpec:
        """The specification of the `theory` stage."""
        return build(TheorySpec, self.entry("theory", name, "theory"), f"theory.{name}")

    def summary(self) -> SummarySpec:
        """The specification of the `summary` stage."""
        return SummarySpec(tuple(self.tables.values()))

    def figure_entry(self, name: str) -> dict:
        """What the configuration says of a figure, with the names that it refers to checked."""
        where, entry = f"figures.{name}", self.entry("figures", name, "figures")
        known = ("kind", "study", "corruptions", "annotation", "run", "images", "names")
        for key in entry:
            if key not in known:
                raise SpecError(f"{where}: unknown key {key!r}{nearest(key, known)}")
        if "run" in entry:
            self.validate(entry["run"])
        study = self.run(entry["run"]).study if "run" in entry else entry.get("study")
        self.study(study)
        found = {"corruptions": [], "annotation": None, "run": None, "images": 8} | entry | {"study": study}
        for corruption in found["corruptions"]:
            self.entry("corruptions", corruption, f"{where}.corruptions")
        kind, annotation = found.get("kind"), found["annotation"]
        needs = {"crossing": "classifier", "levels": "classifier", "patches": "classifiers"}.get(kind)
        if needs and needs not in self.entry("annotations", annotation, f"{where}.annotation"):
            raise SpecError(f"{where}.annotation: got {annotation!r}, allowed: one with {needs}")
        if kind in ("crossing", "patches") and len(found["corruptions"]) != 1:
            raise SpecError(f"{where}.corruptions: got {found['corruptions']!r}, allowed: one")
        if kind == "donut" and found["run"] is None:
            raise SpecError(f"{where}: missing key 'run'")
        if kind == "locality":
            self.locality(study)
        return found

    def figure(self, name: str) -> FigureSpec:
        """The specification of a figure that belongs to no table."""
        entry = self.figure_entry(name)
        study = entry["study"]
        names = entry.get("names", entry["corruptions"])
        mixtures = [self.mixture(study, corruption, self.fraction(study))
                    for corruption in entry["corruptions"]]
        annotation, training = self.section(study, "annotation"), self.section(study, "training")
        return build(FigureSpec, plain({
            "kind": entry.get("kind"), "names": names, "corruptions": mixtures, "noise": training["noise"],
            "epsilon": annotation["epsilon"], "buffer": training["loss"]["buffer"],
            "crop_sigma": annotation.get("crop_sigma", 0.001), "images": entry["images"],
            "seed": 0}), f"figures.{name}")

    def needed(self) -> list[str]:
        """The runs that this scale's tables ask for, each once, in order."""
        return list(dict.fromkeys(row.run for table in self.tables.values() for row in table.rows))

    def validate(self, name: str) -> None:
        """Build every specification behind a run, and refuse protocols that contradict themselves."""
        run = self.run(name)
        self.dataset(self.study(run.study)["dataset"])
        for corruption, annotation in run.parts:
            self.validate_part(name, run.study, corruption, annotation)
        self.detector_dataset(run.study)
        for seed in self.study(run.study)["training_seeds"]:
            self.training(name, seed)
        self.evaluation(name)


    def validate_part(self, run: str, study: str, corruption: str, annotation: str) -> None:
        """The same of one corruption of a run and its annotation."""
        spec, classifier = self.annotation(study, annotation), self.classifier_of(annotation)
        self.mixture(study, corruption, self.fraction(study, classifier))
        added = self.added_dataset(corruption)
        if added:
            self.dataset(added)
        if (classifier or spec.method == "crops") and corruption == "none":
            raise SpecError(f"runs.{run}: annotation {annotation!r} needs corrupted images, but "
                            "corruption is 'none'")
        if spec.method == "crops" and spec.crop_map == "measured":
            self.locality(study)
        fractions = {self.classifier(study, name).crop and self.fraction(study, name)
                     for name in self.crop_classifiers(annotation)}
        if None in fractions:
            raise SpecError(f"annotations.{annotation}.classifiers: every one needs its crop in classifiers")


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
