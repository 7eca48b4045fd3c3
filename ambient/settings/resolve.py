"""What every stage of a run is told: the configuration resolved into specifications.

Resolution, one order for everything: the study's section, then the preset (classifier or annotation),
then the run's own overrides. The files of a scale are laid over each other before that (`entries`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ambient.settings.entries import Entries, reaches
from ambient.settings.entry_types import Published, RunEntry, StudyEntry
from ambient.settings.layers import overlay
from ambient.specs import (
    AnnotationSpec,
    ClassifierSpec,
    DatasetSpec,
    LocalitySpec,
    MixtureSpec,
    OperationSpec,
    ScorerSpec,
)
from ambient.specs.data import operation
from ambient.specs.strict import (
    SpecError,
    build,
    nearest,
    require,
    require_distinct,
)

T = TypeVar("T")
OF_TRAINING = ("study", "corruption", "annotation", "also", "training")  # what tells a run's training


def once(method: Callable[..., T]) -> Callable[..., T]:
    """A method of `Stages` whose results are kept: a workflow of ten seeds asks thousands of times."""
    @functools.wraps(method)
    def kept(self: Stages, *names: Any) -> T:
        key = (method, *names)
        if not all(isinstance(name, Hashable) for name in names):  # a list in the place of a name: an error
            return method(self, *names)
        if key not in self.made:
            self.made[key] = method(self, *names)
        return self.made[key]

    return kept


def mapping(value: Any, where: str) -> dict:
    """Keys and values; none where nothing stands. Raises `SpecError` for anything else."""
    require(value is None or isinstance(value, Mapping), where, value, "keys and values")
    return dict(value or {})


def said_by(values: Mapping, rest: str) -> bool:
    """Whether settings have the very key of an error, of which `rest` is what stands behind their place."""
    unknown = re.match(r"[^:]*: unknown key '([^']*)'", rest)
    path = re.sub(r"\[\d+\]", "", rest.partition(":")[0]).split(".") + ([unknown[1]] if unknown else [])
    keys = [key for key in path if key]
    return bool(keys) and reaches(values, keys)


def evaluating(spec: T, where: str, kinds: Collection[str]) -> T:
    """A job's specification with the kind of the networks that it evaluates: their code is the job's.

    Raises `SpecError` where they are of several kinds, or the files say another one.
    """
    kind = next(iter(kinds), spec.network)
    require(len(set(kinds)) <= 1, where, sorted(set(kinds)), "classifiers of one kind of network")
    require(spec.network in (kind, type(spec).network), f"{where}.network", spec.network,
            f"{kind}, the kind of the network that it evaluates; it may be left out")
    return dataclasses.replace(spec, network=kind)


@dataclass(frozen=True)
class Run:
    """One diffusion model of a scale, by the names of what it is made of."""

    name: str
    study: str
    corruption: str  # a corruption, or `none`
    annotation: str
    overrides: Mapping[str, Any]  # section of the study -> settings laid over
    trained: str  # the run whose training it is sampled from: itself, or another one
    also: tuple[tuple[str, str], ...] = ()  # further (corruption, annotation) of the same study

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """Every (corruption, annotation) that the run's data are made of."""
        return ((self.corruption, self.annotation), *self.also)


class Stages:
    """The files of one scale, and the specification of each stage of each run that they hold."""

    def __init__(self, folder: Path | str, scale: str) -> None:
        self.folder, self.scale = Path(folder), scale
        self.entries = Entries(self.folder, scale)
        self.tree, self.lineage = self.entries.tree, self.entries.lineage
        self.made: dict[tuple, Any] = {}  # what was resolved, by its kind and names

    def entry(self, section: str, name: str, asked_by: str) -> dict:
        """A named entry. Raises `SpecError` for a dangling reference, with the nearest valid name."""
        entries = self.tree.get(section) or {}
        if not isinstance(name, str) or name not in entries:
            raise SpecError(f"{asked_by}: no such name in {section}: {name!r}{nearest(name, entries)}")
        return mapping(entries[name], f"{section}.{name}")

    def present(self, section: str) -> list[str]:
        """The names of a section, but for those that a scale leaves out (`NAME: null`)."""
        return [name for name, entry in self.tree[section].items() if entry is not None]

    # --- runs and what they are made of -----------------------------------------------------------

    def typed(self, cls: type[T], section: str, name: str, asked_by: str, **more: Any) -> T:
        """An entry as its dataclass, made once. Raises `SpecError` for unknown keys and wrong types."""
        if (section, name) not in self.made:
            values = self.entry(section, name, asked_by) | more
            self.made[section, name] = build(cls, values, f"{section}.{name}")
        return self.made[section, name]

    @once
    def run(self, name: str) -> Run:
        """A run by name. Raises `SpecError` for unknown keys or references."""
        where = f"runs.{name}"
        entry = self.run_entry(name, where)
        self.entry("studies", entry.study, f"{where}.study")
        parts = [entry, *(entry.also or ())]
        for part in parts:
            self.entry("annotations", part.annotation, f"{where}.annotation")
            if part.corruption != "none":
                self.entry("corruptions", part.corruption, f"{where}.corruption")
        overrides = {"training": entry.training or {}, "sampling": entry.sampling or {}}
        return Run(name, entry.study, entry.corruption, entry.annotation, overrides, entry.samples_of or name,
                   tuple((part.corruption, part.annotation) for part in parts[1:]))

    def run_entry(self, name: str, asked_by: str) -> RunEntry:
        """What the files say of a run. One with `samples_of` has the data and the training of that one.

        Raises `SpecError` where it says otherwise, or where that one has no training of its own either.
        """
        other = self.entry("runs", name, asked_by).get("samples_of")
        if other is None or ("runs", name) in self.made:
            return self.typed(RunEntry, "runs", name, asked_by)
        where = f"runs.{name}.samples_of"
        lender = self.entry("runs", other, where)
        require(lender.get("samples_of") is None, where, other, "a run with a training of its own")
        said = [key for key in OF_TRAINING if key in self.entries.rows.said(name)]
        require(not said, where, other, f"nothing beside it that a training has ({', '.join(said)})")
        label = self.entry("runs", name, asked_by).get("label", lender.get("label"))
        shared = {key: lender.get(key) for key in OF_TRAINING}
        return self.typed(RunEntry, "runs", name, asked_by, **shared, label=label)

    def study(self, name: str) -> StudyEntry:
        """A study: dataset, clean fraction, and one section a stage."""
        detector = self.entry("studies", name, "studies").get("detector")
        several = {"detector": [detector]} if isinstance(detector, str) else {}
        return self.typed(StudyEntry, "studies", name, "studies", **several)

    def published(self, study: str) -> Published:
        """What the published numbers of a study are of; empty where it has none."""
        return self.study(study).paper or Published()

    def section(self, study: str, section: str, *over: Mapping) -> dict:
        """A stage's settings of a study, with presets and overrides laid over, in their order."""
        merged: Any = dict(getattr(self.study(study), section) or {})
        for layer in over:
            merged = overlay(merged, layer)
        return merged

    @once
    def dataset(self, name: str) -> DatasetSpec:
        """The specification of the `prepare` stage."""
        entry = self.entry("datasets", name, "datasets")
        own = {key: value for key, value in entry.items() if key not in ("label", "captions_of")}
        return build(DatasetSpec, own, f"datasets.{name}")

    def label(self, section: str, name: str) -> str:
        """What a reader knows an entry by: its `label`, or a corruption's words, or its name."""
        entry = self.entry(section, name, section)
        found = entry.get("label") or (self.words(name, entry) if section == "corruptions" else None) or name
        require(isinstance(found, str), f"{section}.{name}.label", found, "text")
        return found

    def words(self, corruption: str, entry: Mapping) -> str | None:
        """A corruption in words: those of its operation, or the corruption with its parameters."""
        if found := self.operation(corruption):
            added = self.added_dataset(corruption)
            return found.words(added and self.label("datasets", added))
        from ambient.data import corruptions  # numpy and scipy: for who asks for a whole scale only

        return corruptions.label(entry.get("op"), {k: v for k, v in entry.items() if k != "op"})

    @once
    def operation(self, corruption: str) -> OperationSpec | None:
        """The operation on a whole dataset that a corruption is; None where it corrupts pixels."""
        entry = {} if corruption == "none" else dict(self.entry("corruptions", corruption, "corruptions"))
        params = {key: value for key, value in entry.items() if key not in ("op", "label")}
        return operation(entry.get("op"), params, f"corruptions.{corruption}")

    def added_dataset(self, corruption: str) -> str | None:
        """The dataset whose images a corruption puts in, or None."""
        return self.named_by(corruption, "ADDS", "datasets")

    def encoded_dataset(self, corruption: str) -> str | None:
        """The dataset that a corruption puts in, where its images are there as latents alone, or None."""
        name = self.added_dataset(corruption)
        return name if name and self.dataset(name).ENCODED else None

    def scorer_of(self, corruption: str) -> str | None:
        """The scorer by whose scores a corruption ranks images, or None."""
        return self.named_by(corruption, "SCORED", "scorers")

    def named_by(self, corruption: str, what: str, section: str) -> str | None:
        """The entry of a section that a corruption's operation names. Raises `SpecError` for a wrong name."""
        found = self.operation(corruption)
        key = found and getattr(found, what)
        if not key:
            return None
        self.entry(section, getattr(found, key), f"corruptions.{corruption}.{key}")
        return getattr(found, key)

    def scorer(self, name: str) -> ScorerSpec:
        """The specification of the `scores` stage."""
        return build(ScorerSpec, self.entry("scorers", name, "scorers"), f"scorers.{name}")

    def portable_dataset(self, name: str) -> DatasetSpec:
        """A dataset's specification without local paths, which say nothing of the result."""
        return self.dataset(name).portable()

    @once
    def mixture(self, study: str, corruption: str, clean_fraction: float) -> MixtureSpec:
        """The specification of the `corrupt` stage; corruption `none` leaves corrupted images out."""
        entry = {"op": None}
        if corruption != "none":
            entry = dict(self.entry("corruptions", corruption, "corruptions"))
            if "op" not in entry:
                raise SpecError(f"corruptions.{corruption}: missing key 'op'")
        op = entry.pop("op")
        entry.pop("label", None)
        made = {"clean_fraction": clean_fraction, "seed": self.study(study).mixture_seed, "op": op,
                "params": entry, "images": not (self.shares_latents(study, corruption)
                                                or self.encoded_dataset(corruption))}
        return build(MixtureSpec, made, f"corruptions.{corruption}")

    def shares_latents(self, study: str, corruption: str) -> bool:
        """Whether what learns from a mixture reads the latents of the study's whole dataset."""
        if corruption == "none" or self.study(study).encoder is None:
            return False
        entry = dict(self.entry("corruptions", corruption, "corruptions"))
        entry.pop("label", None)
        done = operation(entry.pop("op", None), entry, f"corruptions.{corruption}")
        return done is not None and done.KEEPS

    def fraction(self, study: str, classifier: str | None = None) -> float:
        """The clean fraction of a study's mixtures, or of the one that a leaky classifier reads."""
        own = self.study(study).clean_fraction
        return own if classifier is None else self.classifier(study, classifier).clean_fraction or own

    @once
    def classifier(self, study: str, name: str) -> ClassifierSpec:
        """The specification of the `classifier` stage."""
        preset = {k: v for k, v in self.entry("classifiers", name, "annotations").items() if k != "published"}
        return self.preset(ClassifierSpec, study, "classifier", preset, f"classifiers.{name}")

    def preset(self, cls: type[T], study: str, section: str, preset: Mapping, where: str) -> T:
        """A study's section with a preset laid over; an error names the one that set the key."""
        study_key = f"studies.{study}.{section}"
        try:
            return build(cls, self.section(study, section, preset), study_key)
        except SpecError as error:
            rest = str(error).removeprefix(study_key)
            blamed = said_by(preset, rest) or any(rest.startswith((f".{key}.", f".{key}:")) for key in preset)
            raise SpecError(f"{where}{rest}" if blamed else str(error)) from None

    def classifier_of(self, annotation: str) -> str | None:
        """The classifier that an annotation preset asks, or None."""
        return self.entry("annotations", annotation, "annotations").get("classifier")

    def crop_classifiers(self, annotation: str) -> list[str]:
        """The crops classifiers that an annotation preset asks."""
        found = self.entry("annotations", annotation, "annotations").get("classifiers", [])
        if not isinstance(found, list):
            raise SpecError(f"annotations.{annotation}.classifiers: got {found!r}, allowed: a list of names")
        require_distinct(found, f"annotations.{annotation}.classifiers")
        return found

    @once
    def annotation(self, study: str, name: str, corruption: str = "none") -> AnnotationSpec:
        """The specification of the `annotate` stage. Method by_source asks which `corruption` adds images."""
        own = self.entry("annotations", name, "annotations")
        preset = dict(own)
        classifier, crops = preset.pop("classifier", None), preset.pop("classifiers", None)
        preset.pop("label", None)
        method = AnnotationSpec.KINDS.get(self.section(study, "annotation", preset).get("method"))
        if method is not None and method.Spec.BY_SOURCE:
            added = self.added_dataset(corruption)
            preset["sigma_min"] = self.dataset(added).sigma_min if added else 0.0
        spec = self.preset(AnnotationSpec, study, "annotation", preset, f"annotations.{name}")
        for key in spec.unread():
            require(own.get(key) is None, f"annotations.{name}.{key}", own.get(key),
                    f"nothing: method {spec.method} does not read it")
        needs = spec.ASKS == "noise"
        if needs != (classifier is not None):
            raise SpecError(f"annotations.{name}.classifier: got {classifier!r}, allowed: "
                            + ("a name in classifiers" if needs else "none for this method"))
        if (spec.ASKS == "crops") != bool(crops):
            raise SpecError(f"annotations.{name}.classifiers: got {crops!r}, allowed: "
                            + ("names of crops classifiers" if spec.ASKS == "crops"
                               else "none for this method"))
        return evaluating(spec, f"annotations.{name}", self.classifiers_networks(study, name))

    def classifiers_networks(self, study: str, annotation: str) -> list[str]:
        """The kind of network of each classifier that an annotation preset asks."""
        names = [self.classifier_of(annotation), *self.crop_classifiers(annotation)]
        return [self.classifier(study, name).network.kind for name in names if name]

    def locality_run(self, study: str) -> str:
        """The run whose denoiser measures crop(sigma) for a study; trained without any crops."""
        if self.study(study).locality is None:
            raise SpecError(f"studies.{study}: missing key 'locality', which a measured crop_map needs")
        name = self.section(study, "locality").get("run")
        self.entry("runs", name, f"studies.{study}.locality.run")
        if any(self.crop_classifiers(annotation) for _, annotation in self.run(name).parts):
            raise SpecError(f"studies.{study}.locality.run: got {name!r}, allowed: a run that does not use "
                            "crops itself")
        return name

    def locality(self, study: str) -> LocalitySpec:
        """The specification of the `locality` stage."""
        where, run = f"studies.{study}.locality", self.locality_run(study)
        values = {k: v for k, v in self.section(study, "locality").items() if k != "run"}
        spec, training = build(LocalitySpec, values, where), self.first_training(run)
        require(spec.nimg is None or spec.nimg in training.snapshots, f"{where}.nimg", spec.nimg,
                f"null (the last), or a snapshot of {run}: {', '.join(map(str, training.snapshots))}")
        return evaluating(spec, where, [training.network.kind])
