"""What a target reads from outside of the tree, and whether it is there: raw data, weights, packages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ambient.cluster.plan import wanted
from ambient.settings import Experiments
from ambient.specs import DetectorSpec, EncoderSpec, JudgeSpec, ScorerSpec, TextEncoderSpec

Finding = tuple[str, str]  # ok, note or missing; one line
OK, NOTE, MISSING = "ok", "note", "missing"


def raw_data(found: Experiments, target: str | None = None) -> Iterator[Finding]:
    """Dataset files and detector weights that a target, or all of the scale, reads."""
    needed = wanted(found, target)
    for dataset in sorted({job.names["dataset"] for job in needed if job.kind == "prepare"}):
        spec = found.dataset(dataset)
        yield from packages(f"dataset {dataset}", spec.PACKAGES, "parquet")
        if spec.HAD == "drawn" or spec.path is None and spec.HAD == "installed":
            yield OK, f"dataset {dataset}: {spec.HAD_IN_WORDS}"
        elif spec.path is None and spec.HAD == "path":
            yield MISSING, (f"dataset {dataset}: has no download: give its folder or zip as "
                            f"datasets.{dataset}.path in config/local.yaml (its origin: config/data.yaml)")
        elif spec.path is None:
            yield NOTE, (f"dataset {dataset}: will be downloaded by its job; nodes without network need "
                         f"datasets.{dataset}.path in config/local.yaml")
        elif not Path(spec.path).exists():
            yield MISSING, f"dataset {dataset}: no such file {spec.path} (datasets.{dataset}.path)"
        else:
            yield OK, f"dataset {dataset}: {spec.path}"
    for scorer in sorted({job.names["scorer"] for job in needed if "scorer" in job.names}):
        yield from scorer_file(found, scorer)
    for detector in sorted({job.names["detector"] for job in needed if job.kind == "detector"}):
        spec = found.detector(detector)
        yield from packages(f"detector {detector}", spec.PACKAGES)
        if spec.LEARNS:
            yield OK, f"detector {detector}: trained in the workflow"
        elif spec.MODEL:
            yield OK, f"detector {detector}: the image tower of the text encoder {spec.model}"
        elif spec.weights is None and spec.ADVICE:
            yield MISSING, f"detector {detector}: {advice(spec, detector)}"
        elif spec.weights is None:
            yield NOTE, (f"detector {detector}: weights will be downloaded by its job; nodes without network "
                         f"need detectors.{detector}.weights in config/local.yaml")
        elif not Path(spec.weights).is_file():
            yield MISSING, f"detector {detector}: no such file {spec.weights} (detectors.{detector}.weights)"
        else:
            yield OK, f"detector {detector}: {spec.weights}"
    for detector in sorted({job.names["detector"] for job in needed if job.kind == "reference"}):
        if found.detector(detector).published:
            yield published(detector, found.published_moments(detector))
    for encoder in sorted({job.names["encoder"] for job in needed if job.kind == "encoder"}):
        yield from encoder_weights("encoder", encoder, found.encoder(encoder), found.encoder_weights(encoder))
    for encoder in sorted({job.names["text_encoder"] for job in needed if job.kind == "text_encoder"}):
        yield from encoder_weights("text encoder", encoder, found.text_encoder(encoder),
                                   found.text_weights(encoder))
    for judge in sorted({job.names["judge"] for job in needed if job.kind == "judge"}):
        yield of_judge(judge, found.named_judge(judge))


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
                            f"pip install 'ambient[{extra}]'")
