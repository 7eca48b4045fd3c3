r"""Stage: find each corrupted sample's sigma_min, the level from which it is usable.

Per sample (section 3.1): sigma_min_i = inf { sigma : E[c(w_sigma, sigma) | w_i] > tau },
tau = 0.5 - epsilon, with c = P(clean) of the noise classifier (`ambient.annotation.trajectories`). For a
whole set (equation 3.2) the mean also runs over the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ambient.annotation.classifier import Classifier
from ambient.annotation.statistics import statistics
from ambient.annotation.trajectories import CHUNK, PROTOCOLS, Dense
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, to_float
from ambient.diffusion import crops as crop_rules
from ambient.jobs import ranks
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import AnnotationSpec
from ambient.storage.files import read_json, write_json
from ambient.training.hardware import autocast, compile_for, device

PASSES = 2**20  # of the network, about, that are saved together and lost together; at most 16 chunks


def classify(asked: Dense, data: Dataset, state: State) -> np.ndarray | None:
    """P(corrupted) of every corrupted image along the levels; None but on the first rank."""
    rows = np.flatnonzero(data.corrupted)
    step = CHUNK * min(max(PASSES // (CHUNK * asked.spec.num_sigmas * asked.spec.num_trials), 1), 16)
    parts = [rows[first:first + step] for first in range(0, len(rows), step)]
    compile_for(asked.classifier.network.model, len(rows) * asked.spec.num_sigmas // (CHUNK * ranks.size()))
    pieces = [(f"trajectories-{k * step}", len(part)) for k, part in enumerate(parts)]
    found = collect("annotate", state, pieces,
                    lambda k: {"p": asked.of(data.images[parts[k]], data.ids[parts[k]])})
    return None if found is None else np.concatenate([shard["p"] for shard in found])


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


def classify_crops(spec: AnnotationSpec, data: Dataset, classifier: Classifier,
                   state: State) -> np.ndarray | None:
    """Mean P(target) over the patches of each image that is not clean; None but on the first rank."""
    rows, size, where = np.flatnonzero(data.corrupted), classifier.spec.crop, device()
    parts = [rows[first:first + CHUNK * 4] for first in range(0, len(rows), CHUNK * 4)]
    pieces = [(f"crops-{size}-{k * CHUNK * 4}", len(part)) for k, part in enumerate(parts)]
    found = collect(f"annotate, {size}-pixel crops", state, pieces, lambda k: {
        "p": patch_probability(spec, data.images[parts[k]], classifier, where).mean(axis=1)})
    return None if found is None else np.concatenate([shard["p"] for shard in found])


def annotate_crops(spec: AnnotationSpec, data: Dataset, files: Sequence[Path], locality: Path | None,
                   state: State) -> tuple[np.ndarray, dict] | None:
    """(sigma_max of each sample that is not clean, what the summary says); None but on the first rank."""
    classifiers = {}
    for file in files:
        classifier = Classifier(file, device())
        if classifier.spec.crop is None:
            raise ValueError(f"{file}: is a classifier of whole images, not of crops")
        classifiers[classifier.spec.crop] = classifier
    levels, tolerance = crop_levels(spec, sorted(classifiers), locality)
    probability = {size: classify_crops(spec, data, classifier, state)
                   for size, classifier in classifiers.items()}
    if not ranks.first():
        return None
    found = crop_rules.sigma_max(probability, spec.crop_threshold, levels)
    return found, {"crop_tolerance": tolerance,
                   "crop_map": {str(size): level for size, level in levels.items()},
                   "p_target_mean": {str(size): float(p.mean()) for size, p in probability.items()}}


def crop_levels(spec: AnnotationSpec, sizes: list[int],
                locality: Path | None) -> tuple[dict[int, float], dict | None]:
    """(crop size -> sigma_max, the tolerances of the measured map or None for the released one)."""
    if spec.crop_map == "measured":
        if locality is None:
            raise ValueError("crop_map measured needs --locality, the map of a trained denoiser")
        found = read_json(locality)
        levels = crop_rules.measured_map(found["sigmas"], found["crop_px"], [1, *sizes])
        return levels, {"absolute": found["tolerance"], "relative": found.get("relative_tolerance")}
    for size in sizes:
        if size not in crop_rules.RELEASED:
            raise ValueError(f"crop_map released has no entry for {size} pixels, allowed: "
                             f"{', '.join(map(str, crop_rules.RELEASED))}")
    return {size: crop_rules.RELEASED[size] for size in [1, *sizes]}, None


def main(spec: AnnotationSpec, record, *, data: Path, classifier: Path | None, state: State, out: Path,
         summary: Path, crops: Sequence[Path] = (), locality: Path | None = None) -> None:
    """`out` gets the annotation table of the mixture (clean samples: 0), `summary` its statistics."""
    mixture = read(data)
    if mixture.corrupted is None:
        raise ValueError(f"{data}: not a mixture, it says of no image whether it is corrupted")
    found = annotate(spec, mixture, classifier, crops, locality, state)
    if found is None:
        return
    sigma_min, sigma_max, about = found
    patiently(Annotations(mixture.ids, sigma_min, sigma_max).write, out)
    patiently(write_json, summary, statistics(sigma_min, mixture.corrupted == 1, sigma_max) | about)
    record.facts |= {"samples": len(sigma_min), "corrupted": int((mixture.corrupted == 1).sum())}


def annotate(spec: AnnotationSpec, mixture: Dataset, classifier: Path | None, crops: Sequence[Path],
             locality: Path | None, state: State) -> tuple[np.ndarray, np.ndarray, dict] | None:
    """(sigma_min, sigma_max, what else the summary says) of the samples; None but on the first rank."""
    corrupted = mixture.corrupted == 1
    sigma_min, sigma_max, about = np.zeros(len(mixture.ids)), np.zeros(len(mixture.ids)), {}
    if spec.method == "clean":
        sigma_min[corrupted] = np.inf
    elif spec.method == "fixed":
        sigma_min[corrupted], sigma_max[corrupted] = spec.sigma_min, spec.sigma_max
    elif spec.method == "crops":
        if not crops:
            raise ValueError("annotation method crops needs --crops, a classifier for each size")
        if (found := annotate_crops(spec, mixture, crops, locality, state)) is None:
            return None
        sigma_min[corrupted] = np.inf
        sigma_max[corrupted], about = found
    elif classifier is None:
        raise ValueError(f"annotation method {spec.method} needs --classifier")
    else:
        where = device()
        asked = PROTOCOLS[spec.protocol](spec, Classifier(classifier, where), where)
        if (p := classify(asked, mixture, state)) is None:
            return None
        curves = asked.curves(p, mixture.images[corrupted])
        if spec.method == "population":
            curves = curves.mean(axis=0, keepdims=True)
        sigma_min[corrupted] = asked.crossing(curves)
        crossed = sigma_min[corrupted & np.isfinite(sigma_min)]
        about = {"sigma_min_lag": asked.lag(crossed.mean())} if len(crossed) else {}
        never = (curves >= 0.5 + spec.epsilon).all(axis=-1)
        about |= {"never_crossed": int(np.broadcast_to(never, corrupted.sum()).sum()),
                  "last_level": float(asked.sigmas[-1])}
    return (sigma_min, sigma_max, about) if ranks.first() else None
