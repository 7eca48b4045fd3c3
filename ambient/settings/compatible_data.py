"""What must fit together of images and what looks at them: datasets, detectors, scores, encoders, mixtures.

Each setting is right by itself. What does not fit is found before anything is computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ambient.provenance import schema
from ambient.specs import DatasetSpec, NetworkSpec
from ambient.specs.strict import SpecError, require

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments

SMALLEST_DETECTED = 8  # pixels: a detector that learns halves its images three times


def check_recorded(key: str, path: str | None) -> None:
    """Manifests record the name of what is read from outside, without its folder: it must be one line."""
    if path is None:
        return
    try:
        schema.name(Path(path).name, key)
    except ValueError:
        raise SpecError(f"{key}: got {path!r}, allowed: a path that ends in a name, which is recorded, "
                        "without line breaks and backslashes") from None


def check_dataset(name: str, dataset: DatasetSpec) -> None:
    """A known source has its own channels and classes."""
    where = f"datasets.{name}"
    check_recorded(f"{where}.path", dataset.path)
    check_recorded(f"{where}.table", dataset.table)
    require(dataset.HAS_IMAGES, f"{where}.source", dataset.source, "one that has images here")
    channels, classes = dataset.SHAPE or (dataset.channels, None)
    require(dataset.channels == channels, f"{where}.channels", dataset.channels,
            f"{channels}, which source {dataset.source} has")
    require(classes is None or max(dataset.classes or (0,)) < classes, f"{where}.classes", dataset.classes,
            f"below {classes}, as many as source {dataset.source} has")
    if dataset.select is not None and dataset.select.measure is not None:
        check_measure(where, dataset)


def check_measure(where: str, dataset: DatasetSpec) -> None:
    """A measure of quality is known, and the images are large enough for it."""
    from ambient.data import measures  # numpy and scipy: for who has images selected by quality only

    try:
        measures.measure(dataset.select.measure)
    except ValueError as error:
        raise SpecError(f"{where}.select.{error}") from None
    require(dataset.resolution >= measures.SMALLEST, f"{where}.resolution", dataset.resolution,
            f"at least {measures.SMALLEST} pixels, which measures of quality need")


def check_network(where: str, network: NetworkSpec, resolution: int) -> None:
    """A network takes images of so many pixels."""
    try:
        network.check(resolution)
    except SpecError as error:
        raise SpecError(f"{where}.network.{error}") from None


def check_study(found: Experiments, study: str) -> None:
    """A study's detectors against its images: features of other images than its own mean little."""
    name = found.study(study).dataset
    check_dataset(name, found.dataset(name))
    for detector in found.detectors(study):
        require("features" in found.detector(detector).GIVES, f"studies.{study}.detector", detector,
                f"one that gives features: one of kind {found.detector(detector).kind} measures no distance")
        if found.detector(detector).LEARNS:
            check_detector(found, study, detector)
        if (own := found.detector(detector)).MODEL:
            check_model(found, f"detectors.{detector}", own.model, own.features)
        if published := found.detector(detector).published:
            key = f"detectors.{detector}.published"
            check_recorded(f"{key}.path", published.path)
            require(published.dataset == name, f"{key}.dataset", published.dataset,
                    f"{name}, which study {study} is of")
        if found.detector(detector).against:
            check_against(found, study, detector)
        if best := found.detector(detector).best:
            check_ranked(found, name, best.scorer, best.within, f"detectors.{detector}.best.within")


def check_against(found: Experiments, study: str, detector: str) -> None:
    """Other images that distances are to are like a study's own, and a table's `value` is to its own."""
    name, where = found.study(study).dataset, f"detectors.{detector}"
    against = found.detector(detector).against
    require(against.of == name, f"{where}.against.of", against.of, f"{name}, which study {study} is of")
    require(found.detectors(study)[0] != detector, f"studies.{study}.detector", list(found.detectors(study)),
            f"{detector} after the first one, whose distances are to the study's own images")
    found.entry("datasets", against.dataset, f"{where}.against.dataset")
    ours, its = found.dataset(name), found.dataset(against.dataset)
    check_dataset(against.dataset, its)
    for key in ("channels", "resolution"):
        require(getattr(ours, key) == getattr(its, key), f"{where}.against.dataset", against.dataset,
                f"one with {key} {getattr(ours, key)}, as {name} has")


def check_detector(found: Experiments, study: str, detector: str) -> None:
    """A detector that learns against the images of a study, and those that it is made on."""
    name, other = found.study(study).dataset, found.detector_dataset(study, detector)
    dataset, made_on, where = found.dataset(name), found.dataset(other), f"studies.{study}.detector"
    for key in ("channels", "resolution"):
        ours, its = getattr(dataset, key), getattr(made_on, key)
        if ours != its:
            raise SpecError(f"{where}: got {detector!r}, made on {other} with {key} {its}, "
                            f"allowed: one made on images with {key} {ours}, as {name} has")
    require(made_on.resolution >= SMALLEST_DETECTED, where, detector,
            f"one on images of at least {SMALLEST_DETECTED} pixels")
    classes = made_on.HAS_CLASSES and len(made_on.classes or (0, 1)) > 1
    require(classes or not found.detector(detector).NEEDS_CLASSES, where, detector,
            f"one made on images of two or more classes ({other} has fewer)")


def check_encoder(found: Experiments, study: str) -> None:
    """An encoder against the images of a study, and those that it is made on."""
    entry, where = found.study(study), f"encoders.{found.study(study).encoder}"
    name, other = entry.dataset, found.encoder_dataset(study)
    for key in ("channels", "resolution"):
        ours, its = (getattr(found.dataset(dataset), key) for dataset in (name, other))
        require(ours == its, f"{where}.dataset", other, f"one with {key} {ours}, as {name} has")
    found.encoding(study)
    check_recorded(f"{where}.weights", found.encoder_weights(entry.encoder))


def check_corruption(found: Experiments, study: str, corruption: str) -> None:
    """A corruption has the parameters that it needs. Images that are put in have the study's size, and those
    that are ranked by a score can be scored."""
    from ambient.data import corruptions  # numpy and scipy: for who asks for a whole scale only

    added, spec = found.added_dataset(corruption), found.mixture(study, corruption, 1.0)
    if spec.op is None:
        return
    if (scorer := found.scorer_of(corruption)) is not None:
        check_ranked(found, found.study(study).dataset, scorer, spec.operation.within,
                     f"corruptions.{corruption}.within")
        return
    if added is None:
        try:
            corruptions.validate(spec.op, spec.params)
        except ValueError as error:
            raise SpecError(f"corruptions.{corruption}: {error}") from None
        return
    own = found.study(study).dataset
    ours, theirs = found.dataset(own), found.dataset(added)
    if theirs.ENCODED:
        found.encoding(study, corruption)
    else:
        check_dataset(added, theirs)
    for key in ("channels", "resolution"):
        require(getattr(ours, key) == getattr(theirs, key), f"datasets.{added}.{key}", getattr(theirs, key),
                f"{getattr(ours, key)}, as {own} has, to which corruptions.{corruption} adds it")


def check_ranked(found: Experiments, dataset: str, scorer: str, within: str, where: str) -> None:
    """The images of a dataset can be scored, and have classes where they are ranked within them."""
    spec = found.dataset(dataset)
    check_dataset(dataset, spec)
    try:
        found.scorer(scorer).check(spec)
    except SpecError as error:
        raise SpecError(f"scorers.{scorer}.{error}") from None
    require(within == "all" or spec.HAS_CLASSES, where, within,
            f"all: the images of {dataset} have no classes")


def check_scored(found: Experiments, study: str, corruption: str, annotation: str) -> None:
    """An annotation by scores is of a mixture by rank, and ranks images in the same groups."""
    spec, where = found.annotation(study, annotation), f"annotations.{annotation}"
    found.entry("scorers", spec.scorer, f"{where}.scorer")
    rule = found.operation(corruption)
    if rule is None or not rule.SCORED:
        raise SpecError(f"{where}: got corruption {corruption!r}, allowed for method {spec.method}: one of "
                        "op rank")
    check_ranked(found, found.study(study).dataset, spec.scorer, spec.within, f"{where}.within")
    known = found.scorer(spec.scorer).mean_sides()
    lacks = [side for side in spec.sides() if side not in known]
    require(not lacks, f"{where}.scorer", spec.scorer, f"one with scores of patches of {lacks} pixels; it "
            f"has {', '.join(map(str, known)) or 'none'}")
    require(spec.within == rule.within, f"{where}.within", spec.within,
            f"{rule.within}, as corruptions.{corruption} has")


def check_model(found: Experiments, where: str, name: str, features: int | None = None) -> None:
    """A model of images and texts, which tells how near they are; so many features of it are taken."""
    found.entry("text_encoders", name, f"{where}.model")
    model = found.text_encoder(name)
    require(model.SEES, f"{where}.model", name, "a text encoder that sees images, too")
    require(features in (None, model.features), f"{where}.features", features, f"{name}'s {model.features}")
