"""What must fit together, though each setting is right by itself: found before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ambient.provenance import schema
from ambient.specs import DatasetSpec, NetworkSpec, TrainingSpec
from ambient.specs.strict import SpecError, require

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments

NO_TRANSFORMS = "none in a study with an encoder: they change images, and it works on latents"
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


def check_run(found: Experiments, name: str) -> None:
    """A run's training, samples and added images against the images of its study."""
    run = found.run(name)
    key, study = found.sampling_key(name), found.study(run.study)
    check_study(found, run.study)
    training, sampling = found.training(name, study.training_seeds[0]), found.sampling(name)
    check_width(f"{key}.ema_std", sampling.ema_std, training)
    check_guide(found, name)
    check_asked(found, name, training)
    for detector in found.detectors(run.study):
        check_recorded(f"detectors.{detector}.weights", found.detector(detector).weights)


def check_measured(found: Experiments, name: str) -> None:
    """The samples of a table's row are enough for its distances, unless several of them have each caption.

    These are drawn for a score by caption: nobody publishes distances of such samples.
    """
    sampling, key = found.sampling(name), f"{found.sampling_key(name)}.num_samples"
    for detector in found.detectors(found.run(name).study):
        spec = found.detector(detector)
        few = spec.FULL_RANK and spec.too_few(sampling.num_samples) and sampling.captions_each == 1
        require(not few, key, sampling.num_samples,
                f"more than the {spec.dimensions} features of {detector}: the covariance of fewer is "
                "singular, and a distance of it not that of the protocol")


def check_training(found: Experiments, name: str) -> None:
    """A run's network and added images against the images of its study."""
    run = found.run(name)
    key, study = f"studies.{run.study}", found.study(run.study)
    training, (_, side) = found.training(name, study.training_seeds[0]), found.shape(run.study)
    check_network(f"{key}.training", training.network, side)
    if training.mask:
        check_mask(f"{key}.training", training, side)
    if study.encoder is not None:
        check_encoder(found, run.study)
        require(not training.augment.transforms, f"{key}.training.augment.transforms",
                list(training.augment.transforms), NO_TRANSFORMS)
    check_captions(found, name, training)
    check_start(found, name, training)
    for corruption, annotation in run.parts:
        check_corruption(found, run.study, corruption)
        names = [found.classifier_of(annotation), *found.crop_classifiers(annotation)]
        for classifier in filter(None, names):
            check_classifier(found, run.study, classifier, side)


def check_mask(where: str, training: TrainingSpec, side: int) -> None:
    """Enough patches stay for each expert to take one."""
    try:
        training.network.check_patches(int((side // training.network.patch) ** 2 * (1 - training.mask)))
    except SpecError as error:
        raise SpecError(f"{where}.mask: got {training.mask}, {error}") from None


def check_captions(found: Experiments, name: str, training: TrainingSpec) -> None:
    """A network that is told captions: all images have them, and they are encoded as it takes them."""
    run, where = found.run(name), found.training_key(name)
    study, kind = found.study(run.study), training.network.kind
    if study.text_encoder is not None:
        check_recorded(f"text_encoders.{study.text_encoder}.weights", found.text_weights(study.text_encoder))
        found.text_dataset(study.text_encoder)
    if not training.told_captions:
        return
    require(study.text_encoder is not None, f"{where}.network.conditional", True, f"false, since network "
            f"{kind} is told captions, and studies.{run.study} has no text_encoder")
    wide = found.text_encoder(study.text_encoder).channels
    require(training.network.caption_channels == wide, f"{where}.network.caption_channels",
            training.network.caption_channels, f"{wide}, which text_encoders.{study.text_encoder} gives")
    for dataset in filter(None, [study.dataset, *(found.added_dataset(one) for one, _ in run.parts)]):
        found.text_states(study.text_encoder, found.captions_of(dataset))
        require(found.dataset(dataset).captioned, f"{where}.network.conditional", True,
                f"false, since datasets.{dataset} has no captions")


def check_start(found: Experiments, name: str, training: TrainingSpec) -> None:
    """A phase goes on with a network of the same weights."""
    phase = found.phase_before(name)
    if phase is None:
        return
    before, (channels, side) = found.training(phase, training.seed), found.shape(found.run(name).study)
    their_channels, their_side = found.shape(found.run(phase).study)
    ours = training.network.kind, channels, training.network.cost(side, channels).parameters
    its = before.network.kind, their_channels, before.network.cost(their_side, their_channels).parameters
    require(ours == its, f"{found.training_key(name)}.start.run", phase,
            f"a run of a network of the same weights as {name}: kind, channels, number are {ours}, its {its}")


def check_width(where: str, ema_std: float | None, training: TrainingSpec) -> None:
    """Averages of another width are made of those that a training kept."""
    require(ema_std is None or bool(training.optimiser.ema_stds), where, ema_std,
            "null: the training keeps no average by a power function, of which others are made "
            "(training.optimiser.ema_stds)")


def check_guide(found: Experiments, name: str) -> None:
    """What guides a run is another denoiser of the same images, whose weights are kept."""
    guide, sampling, where = found.guiding(name), found.sampling(name), f"{found.sampling_key(name)}.guide"
    if guide is None:
        return
    ours, its = found.study(found.run(name).study), found.study(found.run(guide).study)
    for key in ("dataset", "encoder"):
        one, other = getattr(ours, key), getattr(its, key)
        require(one == other, f"{where}.run", guide, f"a run with {key} {one}, as {name} has; its is {other}")
    training, spec = found.training(guide, its.training_seeds[0]), sampling.guide
    check_width(f"{where}.ema_std", spec.ema_std, training)
    require(spec.nimg is None or spec.nimg in training.snapshots, f"{where}.nimg", spec.nimg,
            f"null (the last), or a snapshot of {guide}: {', '.join(map(str, training.snapshots))}")
    last = spec.nimg in (None, training.snapshots[-1])
    itself = last and guide == found.run(name).trained and spec.ema_std == sampling.ema_std
    require(not itself, f"{where}.run", guide, "another run, or another snapshot (nimg) or width (ema_std) "
            "of this one: a denoiser that guides itself changes nothing")


def check_asked(found: Experiments, name: str, training: TrainingSpec) -> None:
    """The captions that samples are of, and their guidance by the null caption."""
    sampling, where, study = found.sampling(name), found.sampling_key(name), found.run(name).study
    require((sampling.captions is not None) == training.told_captions, f"{where}.captions", sampling.captions,
            "a dataset with captions" if training.told_captions else "null: the network is told no captions")
    untold = sampling.guide is not None and not sampling.guide.told
    require(not untold or training.caption_dropout > 0, f"{where}.guide.told", False,
            "true, or a training with caption_dropout above 0, which knows the null caption")
    if sampling.captions is None:
        return
    ours, its = found.dataset(found.study(study).dataset), found.dataset(sampling.captions)
    require(its.captioned, f"{where}.captions", sampling.captions, "a dataset with captions")
    for key in ("channels", "resolution"):
        require(getattr(ours, key) == getattr(its, key), f"{where}.captions", sampling.captions,
                f"one with {key} {getattr(ours, key)}, as {found.study(study).dataset} has")


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


def check_model(found: Experiments, where: str, name: str, features: int | None = None) -> None:
    """A model of images and texts, which tells how near they are; so many features of it are taken."""
    found.entry("text_encoders", name, f"{where}.model")
    model = found.text_encoder(name)
    require(model.SEES, f"{where}.model", name, "a text encoder that sees images, too")
    require(features in (None, model.features), f"{where}.features", features, f"{name}'s {model.features}")


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


def check_classifier(found: Experiments, study: str, name: str, resolution: int) -> None:
    """A classifier's network and crop against the images."""
    spec = found.classifier(study, name)
    check_network(f"studies.{study}.classifier", spec.network, resolution)
    if found.study(study).encoder is not None:
        for key, values in (("augment.transforms", spec.augment.transforms), ("nuisances", spec.nuisances)):
            require(not values, f"studies.{study}.classifier.{key}", list(values), NO_TRANSFORMS)
    unit = "pixels" if found.study(study).encoder is None else "numbers"
    require((spec.crop or 0) <= resolution, f"classifiers.{name}.crop", spec.crop,
            f"at most {resolution} {unit}, the side of what it sees")


def check_locality(found: Experiments, study: str) -> None:
    """The contexts of crop(sigma) against the run that it is measured on."""
    spec, run = found.locality(study), found.locality_run(study)
    where, training = f"studies.{study}.locality", found.training(run, 0)
    require(not training.network.conditional, f"{where}.run", run,
            "a run whose network is not conditional: crops have no class")
    _, resolution = found.shape(found.run(run).study)
    step = training.network.step
    seen = [*(size for size in spec.contexts if size < resolution), resolution]
    wrong = [size for size in seen if size % step or (resolution - size) % 2 or (size - spec.patch) % 2]
    require(not wrong, f"{where}.contexts", wrong, f"multiples of {step}, which the network needs, of the "
            f"parity of patch = {spec.patch} and of the side of what it sees, {resolution}")
