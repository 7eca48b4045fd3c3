"""What must fit together where samples have captions: who scores and judges them, and by which models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ambient.settings.compatible_data import check_model, check_ranked
from ambient.specs import JudgeSpec
from ambient.specs.strict import SpecError, require

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments
    from ambient.settings.resolve import Run


def check_judge(found: Experiments, run: Run, scorer: str, where: str, own: bool) -> None:
    """A scorer can score samples, and (unless `own`) has not chosen or annotated the images that they were
    learnt from."""
    found.entry("scorers", scorer, where)
    dataset, spec = found.study(run.study).dataset, found.scorer(scorer)
    if not spec.CAPTIONED:
        check_ranked(found, dataset, scorer, "all", where)
    require(spec.PER_IMAGE or spec.CAPTIONED, where, scorer,
            f"one that needs the image alone, or its caption, too; kind {spec.kind} needs more")
    if spec.CAPTIONED:
        check_captioned(found, run, scorer, where)
    told = {found.scorer_of(corruption) for corruption, _ in run.parts}
    told |= {getattr(found.annotation(run.study, annotation), "scorer", None) for _, annotation in run.parts}
    require(own or scorer not in told, where, scorer, f"one that has not told the good images of {run.name}: "
            "it would judge itself (own_judge: true lets it)")
    if spec.ASKS:
        check_asked_detector(found, scorer)


def check_asked_detector(found: Experiments, scorer: str) -> None:
    """A detector gives what a scorer asks of it, and the scorer has the settings that this needs."""
    spec, where = found.scorer(scorer), f"scorers.{scorer}"
    found.entry("detectors", spec.detector, f"{where}.detector")
    asked = found.detector(spec.detector)
    require(spec.ASKED_FOR in asked.GIVES, f"{where}.detector", spec.detector,
            f"one that gives {spec.ASKED_FOR}, which kind {asked.kind} does not")
    if spec.ASKED_FOR == "objects":
        for key in ("window", "model"):
            needed = key in asked.OBJECTS_BY
            require((getattr(spec, key) is not None) == needed, f"{where}.{key}", getattr(spec, key),
                    f"{'a value' if needed else 'null'} for a detector of kind {asked.kind}")


def check_captioned(found: Experiments, run: Run, scorer: str, where: str) -> None:
    """A scorer that needs captions against how a run is sampled, the model that it asks, and its images."""
    spec, sampling = found.scorer(scorer), found.sampling(run.name)
    require(sampling.captions is not None, where, scorer, f"one that needs the image alone: the samples of "
            f"{run.name} have no captions")
    try:
        spec.check_samples(sampling.captions_each, sampling.num_samples)
    except SpecError as error:
        raise SpecError(f"scorers.{scorer}: {found.sampling_key(run.name)}.{error}") from None
    if spec.MODEL:
        check_model(found, f"scorers.{scorer}", spec.model)
    if (real := getattr(spec, "real", None)) is not None:
        found.entry("datasets", real, f"scorers.{scorer}.real")
        require(found.dataset(real).captioned, f"scorers.{scorer}.real", real, "a dataset with captions")


def check_judging(found: Experiments, name: str, spec: JudgeSpec) -> None:
    """A judge against the model that it asks, and the real images that it is checked on."""
    where = f"judges.{name}"
    if spec.MODEL:
        check_model(found, where, spec.model)
    if spec.real is not None:
        found.entry("datasets", spec.real, f"{where}.real")
        require(found.dataset(spec.real).captioned, f"{where}.real", spec.real, "a dataset with captions")
