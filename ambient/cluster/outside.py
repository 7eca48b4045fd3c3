"""What a target reads from outside of the tree, and whether it is there: raw data, weights, packages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ambient.cluster.plan import wanted
from ambient.settings import Experiments
from ambient.specs import DatasetSpec, DetectorSpec, EncoderSpec, JudgeSpec, ScorerSpec, TextEncoderSpec

Finding = tuple[str, str]  # ok, note or missing; one line
OK, NOTE, MISSING = "ok", "note", "missing"


def raw_data(found: Experiments, target: str | None = None) -> Iterator[Finding]:
    """Dataset files and detector weights that a target, or all of the scale, reads."""
    needed = wanted(found, target)

    def named(role: str, kind: str | None = None) -> list[str]:
        return sorted({job.names[role] for job in needed if role in job.names and kind in (None, job.kind)})

    for dataset in named("dataset", "prepare"):
        yield from dataset_file(dataset, found.dataset(dataset))
    for scorer in named("scorer"):
        yield from scorer_file(found, scorer)
    for detector in named("detector", "detector"):
        yield from detector_weights(detector, found.detector(detector))
    for detector in named("detector", "reference"):
        if found.detector(detector).published:
            yield published(detector, found.published_moments(detector))
    for encoder in named("encoder", "encoder"):
        yield from encoder_weights("encoder", encoder, found.encoder(encoder), found.encoder_weights(encoder))
    for encoder in named("text_encoder", "text_encoder"):
        yield from encoder_weights("text encoder", encoder, found.text_encoder(encoder),
                                   found.text_weights(encoder))
    for judge in named("judge", "judge"):
        yield of_judge(judge, found.named_judge(judge))


def dataset_file(name: str, spec: DatasetSpec) -> Iterator[Finding]:
    """Where a dataset's raw images are, or come from."""
    yield from packages(f"dataset {name}", spec.PACKAGES, "parquet")
    if spec.HAD == "drawn" or spec.path is None and spec.HAD == "installed":
        yield OK, f"dataset {name}: {spec.HAD_IN_WORDS}"
    elif spec.path is None and spec.HAD == "path":
        form, origin = spec.HAD_IN_WORDS or "a folder or zip of images", spec.about or "config/data.yaml"
        yield MISSING, (f"dataset {name}: has no download: give {form} as datasets.{name}.path in "
                        f"config/local.yaml (its origin: {origin})")
    elif spec.path is None:
        yield NOTE, (f"dataset {name}: will be downloaded by its job; nodes without network need the file of "
                     f"{spec.ADDRESS}, as datasets.{name}.path in config/local.yaml")
    elif not Path(spec.path).exists():
        yield MISSING, f"dataset {name}: no such file {spec.path} (datasets.{name}.path)"
    else:
        yield OK, f"dataset {name}: {spec.path}"


def detector_weights(name: str, spec: DetectorSpec) -> Iterator[Finding]:
    """Where a detector's weights are, or come from."""
    yield from packages(f"detector {name}", spec.PACKAGES)
    if spec.LEARNS:
        yield OK, f"detector {name}: trained in the workflow"
    elif spec.MODEL:
        yield OK, f"detector {name}: the image tower of the text encoder {spec.model}"
    elif spec.weights is None and spec.ADVICE:
        yield MISSING, f"detector {name}: {advice(spec, name)}"
    elif spec.weights is None:
        yield NOTE, (f"detector {name}: weights will be downloaded by its job; nodes without network "
                     f"need detectors.{name}.weights in config/local.yaml")
    elif not Path(spec.weights).is_file():
        yield MISSING, f"detector {name}: no such file {spec.weights} (detectors.{name}.weights)"
    else:
        yield OK, f"detector {name}: {spec.weights}"


def licences(found: Experiments, target: str | None = None) -> Iterator[Finding]:
    """On which terms a target's data and weights from outside are had, where that is known here."""
    told: dict[str, str | None] = {}
    for job in wanted(found, target):
        if job.kind == "prepare":
            spec = found.dataset(name := job.names["dataset"])
            told[f"dataset {name}"] = spec.licence or spec.LICENCE or spec.about
        elif job.kind in ("encoder", "text_encoder", "detector"):
            name = job.names[job.kind]
            told[f"{job.kind.replace('_', ' ')} {name}"] = getattr(found, job.kind)(name).LICENCE
        elif "scorer" in job.names:
            told[f"scorer {job.names['scorer']}"] = found.scorer(job.names["scorer"]).LICENCE
    for what, terms in sorted(told.items()):
        if terms:
            yield NOTE, f"licence of {what}: {terms}"


def advice(spec: DetectorSpec | ScorerSpec | EncoderSpec | TextEncoderSpec, name: str) -> str:
    """How the file of an entry is had."""
    return (spec.ADVICE or "").replace("<name>", name)


def of_judge(name: str, spec: JudgeSpec) -> Finding:
    """The program or the address that a judge asks, and its key."""
    if spec.GIVEN is not None and (spec.path is None or not Path(spec.path).is_file()):
        return MISSING, f"judge {name}: {spec.GIVEN} is needed: judges.{name}.path is {spec.path}"
    key = getattr(spec, "key_variable", None)
    if key is not None and not os.environ.get(key):
        return MISSING, f"judge {name}: the environment has no {key}, which jobs need for {spec.address}"
    asked = getattr(spec, "address", None)
    return (NOTE, f"judge {name}: its jobs send samples to {asked}, which must answer there") if asked else (
        OK, f"judge {name}: of kind {spec.kind}")


def published(detector: str, path: str | None) -> Finding:
    """The file of published moments."""
    key = f"detectors.{detector}.published.path"
    if path is None:
        return MISSING, f"detector {detector}: published moments are not downloaded: set {key}"
    if not Path(path).is_file():
        return MISSING, f"detector {detector}: no such file {path} ({key})"
    return OK, f"detector {detector}: {path}"


def scorer_file(found: Experiments, scorer: str) -> Iterator[Finding]:
    """A scorer's packages, and the file that it reads, if it reads one."""
    spec = found.scorer(scorer)
    yield from packages(f"scorer {scorer}", spec.PACKAGES)
    if spec.GIVEN is None:
        yield OK, f"scorer {scorer}: of kind {spec.kind}, reads nothing from outside"
    elif spec.path is None:
        yield MISSING, f"scorer {scorer}: needs {spec.GIVEN}: {advice(spec, scorer)}"
    elif not Path(spec.path).is_file():
        yield MISSING, f"scorer {scorer}: no such file {spec.path} (scorers.{scorer}.path)"
    else:
        yield OK, f"scorer {scorer}: {spec.path}"


def encoder_weights(what: str, name: str, spec: EncoderSpec | TextEncoderSpec,
                    weights: str | None) -> Iterator[Finding]:
    """The packages and weights of an encoder of images or captions."""
    title, key = f"{what} {name}", f"{what.replace(' ', '_')}s.{name}"
    yield from packages(title, spec.PACKAGES)
    if spec.LEARNS:
        yield OK, f"{title}: trained in the workflow"
    elif weights is None:
        yield MISSING, f"{title}: {advice(spec, name)}"
    elif not Path(weights).exists():
        yield MISSING, f"{title}: no such file or folder {weights} ({key}.weights)"
    else:
        yield OK, f"{title}: {weights}"


def packages(title: str, names: tuple[str, ...], extra: str = "pretrained") -> Iterator[Finding]:
    """Packages of an extra that are missing here."""
    for name in names:
        if find_spec(name) is None:
            yield MISSING, (f"{title}: needs the package {name}, which is not installed here: "
                            f"in the clone, pip install --editable '.[{extra}]'")
