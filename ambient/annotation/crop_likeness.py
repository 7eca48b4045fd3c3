"""sigma_max of samples by classifiers of crops: how far their patches pass for the target's (section 3.2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ambient.annotation.classifier import Classifier, of_crops
from ambient.annotation.levels import Inputs
from ambient.annotation.trajectories import CHUNK
from ambient.data.datasets import Dataset
from ambient.diffusion import crops as crop_rules
from ambient.jobs import ranks
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.specs import AnnotationSpec
from ambient.storage.files import read_json
from ambient.training.hardware import autocast, device
from ambient.training.points import Points


@torch.no_grad()
def patch_probability(spec: AnnotationSpec, x0: torch.Tensor, classifier: Classifier,
                      where: torch.device) -> np.ndarray:
    """P(target) of every patch of the grid, (N, P) float32, for `x0` (N, C, H, W).

    Each patch alone, at its place on a zero canvas, without noise, at the level `crop_sigma`.
    """
    x0 = x0.to(where)
    masks = crop_rules.patches(x0.shape[-1], classifier.spec.crop).to(where)
    p = np.empty((len(x0), len(masks)), np.float32)
    for k, mask in enumerate(masks):
        with autocast(spec.precision, where):
            p[:, k] = torch.sigmoid(-classifier.logits(x0 * mask, spec.crop_sigma)).cpu().numpy()
    return p


def classify_crops(spec: AnnotationSpec, data: Dataset, points: Points, classifier: Classifier,
                   state: State) -> np.ndarray | None:
    """Mean P(target) over the patches of each image that is not clean; None but on the first rank."""
    rows, size, where = np.flatnonzero(data.corrupted), classifier.spec.crop, device()
    parts = [rows[first:first + CHUNK * 4] for first in range(0, len(rows), CHUNK * 4)]
    pieces = [(f"crops-{size}-{k * CHUNK * 4}", len(part)) for k, part in enumerate(parts)]
    shards = collect(f"annotate, {size}-pixel crops", state, pieces, lambda k: {
        "p": patch_probability(spec, points.fixed(parts[k], spec.seed), classifier, where).mean(axis=1)})
    return None if shards is None else np.concatenate([shard["p"] for shard in shards])


def sigma_max(spec: AnnotationSpec, data: Dataset, inputs: Inputs,
              state: State) -> tuple[np.ndarray, dict] | None:
    """(sigma_max of each sample that is not clean, what the summary says); None but on the first rank."""
    classifiers = of_crops(inputs.crops, device())
    levels, tolerance = crop_levels(spec, sorted(classifiers), inputs.locality)
    points = Points(data, inputs.latents)
    probability = {size: classify_crops(spec, data, points, classifier, state)
                   for size, classifier in classifiers.items()}
    if not ranks.first():
        return None
    return crop_rules.sigma_max(probability, spec.crop_threshold, levels), {
        "crop_tolerance": tolerance,
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
