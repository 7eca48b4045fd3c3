"""Bytes of what jobs write: of the arrays and weights in their files, and of the states that they remove."""

from __future__ import annotations

from collections.abc import Mapping

from ambient.cluster.cost import Costs

ROW_BYTES = 17  # of an image in a mixture: its label, its id, and whether it is corrupted


def bytes_of(kind: str, names: Mapping[str, str], costs: Costs) -> tuple[int, int]:
    """(kept, of the state that is removed at the job's end) bytes of a job's arrays and weights."""
    if kind in ("train", "sample", "reconstruct"):
        return bytes_of_run(kind, names, costs)
    if kind in ("prepare", "corrupt", "combine"):  # what grows in the state is the file itself
        return bytes_of_images(kind, names, costs), 0
    if kind in ("reference", "evaluate", "landmarks"):
        return 0, bytes_of_features(kind, names, costs)
    if kind not in ("encode", "texts"):
        return 0, 0
    kept = bytes_of_images(kind, names, costs) if kind == "encode" else (
        bytes_of_texts(names["dataset"], names["text_encoder"], costs))
    return kept, kept


def bytes_of_texts(dataset: str, text_encoder: str, costs: Costs) -> int:
    """Bytes of the states of a dataset's captions in float16, as if all were distinct."""
    spec = costs.experiments.text_encoder(text_encoder)
    return 2 * costs.dataset(dataset)[0] * spec.tokens * spec.channels


def bytes_of_features(kind: str, names: Mapping[str, str], costs: Costs) -> int:
    """Bytes of the features of a dataset's images, or of all samples of a run, float32.

    For landmarks those of a study's dataset, and of a mixture's other images, as if draws took them all.
    """
    experiments = costs.experiments
    if kind == "landmarks":
        images = costs.data(names["study"])[0] + costs.mixture(names["study"], names["corruption"])[1]
        return 4 * experiments.detector(names["detector"]).dimensions * images
    if kind == "reference":
        spec, images = experiments.detector(names["detector"]), costs.dataset(names["dataset"])[0]
        return 0 if spec.published else 4 * spec.dimensions * images
    run = names["run"]
    detector = names.get("detector") or experiments.detectors(experiments.run(run).study)[0]
    snapshots = len(experiments.first_training(run).snapshots)
    return 4 * experiments.detector(detector).dimensions * experiments.sampling(run).images(snapshots)


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
        return kept, kept + 2 * (4 + widths) * weights
    if kind == "reconstruct":
        return len(costs.experiments.reconstruction(run, float(names["ema_std"])).snapshots) * weights, 0
    images = sampling.images(snapshots) * channels * resolution**2
    features = sampling.images(snapshots) * 4 * sampling.best_by.dimensions if sampling.best_by else 0
    return images, images + features
