"""Bytes of what jobs write: of the arrays and weights in their files, and of the states that they remove.

What is small beside the images that it is of is not counted, such as scores: 1.4 kB an image of ImageNet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ambient.cluster.cost import Costs

COMPARED = 1000  # images that `neighbours` compares with all samples, and saves, together
ROW_BYTES = 17  # of an image in a mixture: its label, its id, and whether it is corrupted


def bytes_of(kind: str, names: Mapping[str, str], costs: Costs) -> tuple[int, int]:
    """(kept, of the state that is removed at the job's end) bytes of a job's arrays and weights."""
    if kind in ("train", "sample", "reconstruct"):
        return bytes_of_run(kind, names, costs)
    if kind in ("prepare", "corrupt", "combine"):  # what grows in the state is the file itself
        return bytes_of_images(kind, names, costs), 0
    if kind in ("reference", "evaluate", "landmarks", "outside"):
        return 0, bytes_of_features(kind, names, costs)
    if kind == "classifier":
        return bytes_of_classifier(names["study"], names["classifier"], costs)
    if kind == "annotate":
        return 0, bytes_of_curves(names, costs)
    if kind == "neighbours":
        return 0, bytes_of_distances(names["near"], costs)
    if kind not in ("encode", "texts"):
        return 0, 0
    kept = bytes_of_images(kind, names, costs) if kind == "encode" else (
        bytes_of_texts(names["dataset"], names["text_encoder"], costs))
    return kept, kept


def bytes_of_texts(dataset: str, text_encoder: str, costs: Costs) -> int:
    """Bytes of the states of a dataset's captions in float16, as if all were distinct."""
    spec = costs.experiments.text_encoder(text_encoder)
    return 2 * costs.dataset(dataset)[0] * spec.tokens * spec.channels


def bytes_of_classifier(study: str, classifier: str, costs: Costs) -> tuple[int, int]:
    """(kept, of the state) bytes of a classifier: weights of each evaluation, of which one is kept, and two
    checkpoints with the weights, their average and Adam's moments."""
    spec, (_, channels, side) = costs.experiments.classifier(study, classifier), costs.points(study)
    weights = 4 * spec.network.cost(side, channels, encoder_only=True).parameters
    return weights, (spec.evaluations + 2 * 4) * weights


def bytes_of_curves(names: Mapping[str, str], costs: Costs) -> int:
    """Bytes of P(corrupted), float32, of each image that is not clean at each level, where these are asked.

    What classifiers of crops say is one number an image and size.
    """
    spec = costs.experiments.annotation(names["study"], names["annotation"])
    others = costs.mixture(names["study"], names["corruption"])[1]
    return 4 * others * spec.num_sigmas if spec.ASKS == "noise" else 0


def bytes_of_distances(near: str, costs: Costs) -> int:
    """Bytes of the samples' features, float32, and of the least distance, float64, of each sample to each
    part of the images in every shard of them (`ambient.evaluation.neighbours`)."""
    experiments = costs.experiments
    spec, figure = experiments.neighbours(near), experiments.figure(near)
    images, channels, resolution = costs.data(experiments.figure_entry(near).study)
    wide = spec.detector.dimensions if spec.detector else channels * resolution**2
    samples = sum(min(spec.num_samples, experiments.sampling(run).num_samples) for run in spec.runs)
    shares = (1, spec.best.share) if spec.best else (1,)
    counts = images, costs.dataset(figure.unseen)[0]
    groups = [[round(share * count) for count in counts] for share in shares]
    return 4 * wide * samples + sum(bytes_of_least(samples, *both) for both in groups)


def bytes_of_least(samples: int, images: int, others: int) -> int:
    """Bytes of the least distances of samples to each part of two sets of images, as large as the smaller."""
    size, found = max(min(images, others), 1), 0
    for count in (images, others):
        parts = count // size
        found += 8 * samples * parts * math.ceil(parts * size / COMPARED)
    return found


def bytes_of_features(kind: str, names: Mapping[str, str], costs: Costs) -> int:
    """Bytes of the features of a dataset's images, of a run's samples, or of images from outside, float32.

    For landmarks those of a study's dataset, and of a mixture's other images, as if draws took them all.
    """
    experiments = costs.experiments
    if kind == "landmarks":
        images = costs.data(names["study"])[0] + costs.mixture(names["study"], names["corruption"])[1]
        return 4 * experiments.detector(names["detector"]).dimensions * images
    if kind == "reference":
        spec, images = experiments.detector(names["detector"]), costs.dataset(names["dataset"])[0]
        return 0 if spec.published else 4 * spec.dimensions * images
    run = experiments.outside.run(names["outside"]) if kind == "outside" else names["run"]
    detector = names.get("detector") or experiments.detectors(experiments.run(run).study)[0]
    sampling, snapshots = experiments.sampling(run), len(experiments.first_training(run).snapshots)
    images = sampling.num_samples if kind == "outside" else sampling.images(snapshots)
    return 4 * experiments.detector(detector).dimensions * images


def bytes_of_images(kind: str, names: Mapping[str, str], costs: Costs) -> int:
    """Bytes of a dataset, of one or several mixtures, which may have no images of their own, of latents."""
    if kind == "combine":
        return bytes_of_combined(names["run"], costs)
    if kind == "corrupt" and costs.experiments.shares_latents(names["study"], names["corruption"]):
        return costs.data(names["study"])[0] * ROW_BYTES
    if kind != "prepare" and (given := costs.experiments.encoded_dataset(names["corruption"])):
        return bytes_of_given(kind, names["study"], given, names["corruption"], costs)
    if kind == "prepare" and not costs.experiments.dataset(names["dataset"]).HAS_IMAGES:
        return costs.dataset(names["dataset"])[0] * 100  # captions
    images, channels, side = costs.dataset(names["dataset"]) if kind == "prepare" else (
        costs.points(names["study"]) if kind == "encode" else costs.data(names["study"]))
    if kind != "prepare":
        images = sum(costs.mixture(names["study"], names["corruption"]))
    each = 2 * 4 if kind == "encode" else 1  # mean and standard deviation, float32
    return images * channels * side**2 * each


def bytes_of_given(kind: str, study: str, dataset: str, corruption: str, costs: Costs) -> int:
    """Bytes of a mixture that adds images which were encoded elsewhere, and of their latents as float32."""
    if kind == "corrupt":
        return sum(costs.mixture(study, corruption)) * ROW_BYTES
    (images, *_), (_, channels, side) = costs.dataset(dataset), costs.points(study)
    return images * channels * side**2 * 4 * (2 if costs.experiments.dataset(dataset).std else 1)


def bytes_of_combined(run: str, costs: Costs) -> int:
    """Bytes of a run's mixtures as one, which has no images where it learns from latents."""
    made = costs.experiments.run(run)
    bare = costs.experiments.study(made.study).encoder is not None
    _, channels, side = costs.data(made.study)
    return costs.learnt(run) * (ROW_BYTES if bare else channels * side**2)


def bytes_of_run(kind: str, names: Mapping[str, str], costs: Costs) -> tuple[int, int]:
    """(kept, of the state that is removed at the job's end) bytes of a run's training, of its samples, or of
    averages made after it. What is kept stands in the state first; a training's has two checkpoints, too."""
    run = names["run"]
    spec, sampling = costs.experiments.first_training(run), costs.experiments.sampling(run)
    study, snapshots = costs.experiments.run(run).study, len(spec.snapshots)
    (_, seen, side), (_, channels, resolution) = costs.points(study), costs.data(study)
    weights, widths = 4 * spec.network.cost(side, seen).parameters, max(len(spec.optimiser.ema_stds), 1)
    if kind == "train":
        each = weights // 2 if spec.optimiser.snapshot_precision == "float16" else weights
        left = 3 * weights * spec.keep_state  # the last weights and Adam's moments
        kept = snapshots * widths * each + left
        return kept, kept + 2 * (3 + widths) * weights
    if kind == "reconstruct":
        return len(costs.experiments.reconstruction(run, float(names["ema_std"])).snapshots) * weights, 0
    images = sampling.images(snapshots) * channels * resolution**2
    features = 4 * sampling.looked_at(snapshots) * (sampling.best_by.dimensions if sampling.best_by else 0)
    return images, images + features
