"""What must fit together of trainings and samples, though each setting is right by itself.

It is found before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ambient.settings.compatible_data import (
    check_corruption,
    check_encoder,
    check_network,
    check_recorded,
    check_study,
)
from ambient.specs import TrainingSpec
from ambient.specs.report import PICTURES
from ambient.specs.strict import SpecError, require

if TYPE_CHECKING:
    from ambient.settings.experiments import Experiments

NO_TRANSFORMS = "none in a study with an encoder: they change images, and it works on latents"


def check_pictures(tables: Iterable[str], figures: Iterable[str]) -> None:
    """Refuse a table or figure with a picture that another one has, too. Raises `SpecError`."""
    owners: dict[str, str] = {}
    for section, name, stem in (*(("tables", name, f"{name}{end}") for name in tables for end in PICTURES),
                                *(("figures", name, name) for name in figures)):
        owner = owners.setdefault(stem, f"{section}.{name}")
        require(owner == f"{section}.{name}", f"{section}: the name", name,
                f"another one: {stem}.png is a picture of {owner}")


def check_run(found: Experiments, name: str) -> None:
    """A run's training, samples and added images against the images of its study."""
    run = found.run(name)
    key = found.sampling_key(name)
    check_study(found, run.study)
    training, sampling = found.first_training(name), found.sampling(name)
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
    training, (_, side) = found.first_training(name), found.shape(run.study)
    check_network(f"{key}.training", training.network, side)
    if training.mask:
        check_mask(f"{key}.training", training, side)
    require(study.encoder is not None or training.posterior == "visit", f"{key}.training.posterior",
            training.posterior, "visit in a study without an encoder: pixels have no posterior")
    if study.encoder is not None:
        check_encoder(found, run.study)
        require(not training.augment.transforms, f"{key}.training.augment.transforms",
                list(training.augment.transforms), NO_TRANSFORMS)
    check_captions(found, name, training)
    check_start(found, name, training)
    check_one_way(found, name)
    for corruption, annotation in run.parts:
        check_corruption(found, run.study, corruption)
        check_source(found, run.study, corruption, annotation)
        check_crops(found, run.study, annotation)
        names = [found.classifier_of(annotation), *found.crop_classifiers(annotation)]
        for classifier in filter(None, names):
            check_classifier(found, run.study, classifier, side)


def check_one_way(found: Experiments, name: str) -> None:
    """Each of a study's own images is corrupted in one way in all parts of a run."""
    own = {corruption: found.operation(corruption) for corruption, _ in found.run(name).parts
           if corruption != "none" and not found.added_dataset(corruption)}
    require(len(own) < 2 or all(one and one.KEEPS for one in own.values()), f"runs.{name}.also", list(own),
            "one corruption of the study's own images, beside which datasets may be added")


def check_source(found: Experiments, study: str, corruption: str, annotation: str) -> None:
    """A level that added images have from their source is given to added images alone."""
    require(not found.annotation(study, annotation, corruption).BY_SOURCE or corruption == "none"
            or bool(found.added_dataset(corruption)), f"annotations.{annotation}: the corruption", corruption,
            "one of op add: method by_source takes sigma_min from the dataset that is added")


def check_crops(found: Experiments, study: str, annotation: str) -> None:
    """The classifiers of crops that an annotation asks are of different sizes."""
    names = found.crop_classifiers(annotation)
    sizes = [found.classifier(study, name).crop for name in names]
    require(len(set(sizes)) == len(sizes), f"annotations.{annotation}.classifiers",
            [f"{name}: crop {size}" for name, size in zip(names, sizes, strict=True)],
            "one of each crop size")


def check_mask(where: str, training: TrainingSpec, side: int) -> None:
    """Enough patches stay for each expert to take one."""
    try:
        training.network.check_patches((side // training.network.patch) ** 2, training.mask)
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
    training, spec = found.first_training(guide), sampling.guide
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
    where, training = f"studies.{study}.locality", found.first_training(run)
    require(not training.network.conditional, f"{where}.run", run,
            "a run whose network is not conditional: crops have no class")
    _, resolution = found.shape(found.run(run).study)
    step = training.network.step
    seen = [*(size for size in spec.contexts if size < resolution), resolution]
    wrong = [size for size in seen if size % step or (resolution - size) % 2 or (size - spec.patch) % 2]
    require(not wrong, f"{where}.contexts", wrong, f"multiples of {step}, which the network needs, of the "
            f"parity of patch = {spec.patch} and of the side of what it sees, {resolution}")
