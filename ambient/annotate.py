r"""Stage: find each corrupted sample's sigma_min, the level from which it is usable.

Per sample (section 3.1): sigma_min_i = inf { sigma : E[c(w_sigma, sigma) | w_i] > tau },
tau = 0.5 - epsilon, with c = P(clean) of the noise classifier; the expectation is a mean over noise
draws, smoothed along sigma. For a whole set (equation 3.2) the mean also runs over the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ambient import crops as crop_rules
from ambient import randomness
from ambient.annotations import Annotations, statistics
from ambient.datasets import Dataset, read, to_float
from ambient.files import read_arrays, read_json, write_arrays, write_json
from ambient.loading import Classifier
from ambient.noise import lognormal
from ambient.progress import Progress
from ambient.runtime import State, autocast, device, identity
from ambient.spec import AnnotationSpec

CHUNK = 64  # images annotated together, and saved together


def grid(spec: AnnotationSpec) -> np.ndarray:
    """The noise levels asked, rising, float64 of shape (num_sigmas,)."""
    if spec.grid == "geometric":
        return np.geomspace(spec.sigma_low, spec.sigma_high, spec.num_sigmas)
    generator = randomness.torch_generator("cpu", "annotation-grid", spec.seed)
    draws = lognormal(spec.num_sigmas, spec.noise.P_mean, spec.noise.P_std, generator)
    return np.sort(draws.numpy())


def smooth(values: np.ndarray, span: int) -> np.ndarray:
    """Exponential smoothing along the last axis: y_0 = x_0, y_k = (1-w) y_(k-1) + w x_k.

    w = 2 / (span + 1). Not bias-corrected, as in the released protocol (span 32: w = 2/33).
    """
    weight = 2 / (span + 1)
    smoothed = np.array(values, dtype=np.float64)
    for k in range(1, smoothed.shape[-1]):
        smoothed[..., k] = (1 - weight) * smoothed[..., k - 1] + weight * smoothed[..., k]
    return smoothed


def first_crossing(sigmas: np.ndarray, p_corrupted: np.ndarray, epsilon: float, span: int,
                   never_crosses: str) -> np.ndarray:
    """The first level at which the smoothed P(corrupted) is below 0.5 + epsilon.

    `p_corrupted` (..., num_sigmas) is the mean over trials at rising `sigmas`. P(corrupted) < 0.5 +
    epsilon is P(clean) > tau = 0.5 - epsilon. Where it never happens: the last level, or infinity.
    """
    below = smooth(p_corrupted, span) < 0.5 + epsilon
    found = sigmas[below.argmax(axis=-1)]
    return np.where(below.any(axis=-1), found, sigmas[-1] if never_crosses == "last" else np.inf)


class Trajectories:
    """P(corrupted) of images along the grid."""

    def __init__(self, spec: AnnotationSpec, classifier: Path, where: torch.device) -> None:
        self.classifier = Classifier(classifier, where)
        self.spec, self.where, self.sigmas = spec, where, grid(spec)

    @torch.no_grad()
    def of(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Mean P(corrupted) over trials, (N, num_sigmas) float32, for uint8 `images` (N, C, H, W).

        The noise of an image is drawn from (seed, level, id): its trajectory does not depend on the others.
        """
        x0 = torch.from_numpy(to_float(images)).to(self.where)
        trials, count = self.spec.num_trials, len(self.sigmas)
        p = np.empty((len(images), count), np.float32)
        for k, sigma in enumerate(self.sigmas):
            z = randomness.normal(f"annotation-{k}", self.spec.seed, ids, (trials, *x0.shape[1:]))
            noise = torch.from_numpy(z).to(self.where)  # (N, trials, C, H, W)
            x = (x0[:, None] + float(sigma) * noise).flatten(0, 1)
            with autocast(self.spec.precision, self.where):
                logits = self.classifier.logits(x, float(sigma))
            p[:, k] = torch.sigmoid(logits).reshape(len(images), trials).mean(1).cpu().numpy()
        return p


def classify(spec: AnnotationSpec, data: Dataset, classifier: Path, keep: State) -> tuple:
    """(sigmas, P(corrupted) of every corrupted image along them), from chunks that survive a kill."""
    trajectories = Trajectories(spec, classifier, device())
    rows = np.flatnonzero(data.corrupted)
    progress, parts = Progress("annotate", len(rows)), []
    for first in range(0, len(rows), CHUNK * 16):
        shard = keep.folder / f"trajectories-{first}.safetensors"
        if not shard.exists():
            chunks = np.split(rows[first:first + CHUNK * 16],
                              range(CHUNK, min(CHUNK * 16, len(rows) - first), CHUNK))
            p = [trajectories.of(data.images[chunk], data.ids[chunk]) for chunk in chunks]
            write_arrays(shard, {"p": np.concatenate(p)})
        parts.append(read_arrays(shard)["p"])
        progress.update(min(first + CHUNK * 16, len(rows)))
    return trajectories.sigmas, np.concatenate(parts)


@torch.no_grad()
def patch_probability(spec: AnnotationSpec, images: np.ndarray, classifier: Classifier,
                      where: torch.device) -> np.ndarray:
    """P(target) of every patch of the grid, (N, P) float32, for uint8 `images` (N, C, H, W).

    Each patch alone, at its place on a zero canvas, without noise, at the level `crop_sigma`.
    """
    x0 = torch.from_numpy(to_float(images)).to(where)
    masks = crop_rules.patches(x0.shape[-1], classifier.spec.crop).to(where)
    p = np.empty((len(images), len(masks)), np.float32)
    for k, mask in enumerate(masks):
        with autocast(spec.precision, where):
            p[:, k] = torch.sigmoid(-classifier.logits(x0 * mask, spec.crop_sigma)).cpu().numpy()
    return p


def annotate_crops(spec: AnnotationSpec, data: Dataset, files: Sequence[Path], locality: Path | None,
                   keep: State) -> tuple[np.ndarray, dict]:
    """(sigma_max of each sample that is not clean, what the summary says of it)."""
    where, probability = device(), {}
    rows = np.flatnonzero(data.corrupted)
    for file in files:
        classifier, parts = Classifier(file, where), []
        if classifier.spec.crop is None:
            raise ValueError(f"{file}: is a classifier of whole images, not of crops")
        progress = Progress(f"annotate, {classifier.spec.crop}-pixel crops", len(rows))
        for first in range(0, len(rows), CHUNK * 4):
            shard = keep.folder / f"crops-{classifier.spec.crop}-{first}.safetensors"
            if not shard.exists():
                images = data.images[rows[first:first + CHUNK * 4]]
                write_arrays(shard, {"p": patch_probability(spec, images, classifier, where).mean(axis=1)})
            parts.append(read_arrays(shard)["p"])
            progress.update(min(first + CHUNK * 4, len(rows)))
        probability[classifier.spec.crop] = np.concatenate(parts)
    levels = crop_levels(spec, sorted(probability), locality)
    found = crop_rules.sigma_max(probability, spec.crop_threshold, levels)
    return found, {"crop_map": {str(size): level for size, level in levels.items()},
                   "p_target_mean": {str(size): float(p.mean()) for size, p in probability.items()}}


def crop_levels(spec: AnnotationSpec, sizes: list[int], locality: Path | None) -> dict[int, float]:
    """Crop size -> sigma_max, by the measured or the released map. Raises `ValueError`."""
    if spec.crop_map == "measured":
        if locality is None:
            raise ValueError("crop_map measured needs --locality, the map of a trained denoiser")
        found = read_json(locality)
        return crop_rules.measured_map(found["sigmas"], found["crop_px"], [1, *sizes])
    for size in sizes:
        if size not in crop_rules.RELEASED:
            raise ValueError(f"crop_map released has no entry for {size} pixels, allowed: "
                             f"{', '.join(map(str, crop_rules.RELEASED))}")
    return {size: crop_rules.RELEASED[size] for size in [1, *sizes]}


def main(spec: AnnotationSpec, record, *, data: Path, classifier: Path | None, state: Path, out: Path,
         summary: Path, crops: Sequence[Path] = (), locality: Path | None = None) -> None:
    """`out` gets the annotation table of the mixture (clean samples: 0), `summary` its statistics."""
    mixture = read(data)
    if mixture.corrupted is None:
        raise ValueError(f"{data}: not a mixture, it says of no image whether it is corrupted")
    corrupted = mixture.corrupted == 1
    sigma_min, sigma_max, about = np.zeros(len(mixture.ids)), np.zeros(len(mixture.ids)), {}
    keep = State(state, identity("ambient.annotate", spec, data,
                                 *([classifier] if classifier else []), *crops))
    if spec.method == "clean":
        sigma_min[corrupted] = np.inf
    elif spec.method == "fixed":
        sigma_min[corrupted], sigma_max[corrupted] = spec.sigma_min, spec.sigma_max
    elif spec.method == "crops":
        if not crops:
            raise ValueError("annotation method crops needs --crops, a classifier for each size")
        sigma_min[corrupted] = np.inf
        sigma_max[corrupted], about = annotate_crops(spec, mixture, crops, locality, keep)
    elif classifier is None:
        raise ValueError(f"annotation method {spec.method} needs --classifier")
    else:
        sigmas, p = classify(spec, mixture, classifier, keep)
        if spec.method == "population":
            p = p.mean(axis=0, keepdims=True)
        sigma_min[corrupted] = first_crossing(sigmas, p.astype(np.float64), spec.epsilon,
                                              spec.smoothing_span, spec.never_crosses)
    Annotations(mixture.ids, sigma_min, sigma_max).write(out)
    write_json(summary, statistics(sigma_min, corrupted, sigma_max) | about)
    record.facts |= {"samples": len(sigma_min), "corrupted": int(corrupted.sum())}
    keep.remove()


if __name__ == "__main__":
    from ambient import stage

    stage.run(main, AnnotationSpec, inputs=("data", "classifier", "crops", "locality"),
              outputs=("out", "summary"), optional=("classifier", "locality"), many=("crops",),
              options=("state",))
