r"""Stage: find each corrupted sample's sigma_min, the level from which it is usable.

Per sample (section 3.1): sigma_min_i = inf { sigma : E[c(w_sigma, sigma) | w_i] > tau },
tau = 0.5 - epsilon, with c = P(clean) of the noise classifier (`ambient.trajectories`). For a whole set
(equation 3.2) the mean also runs over the set.
"""

from __future__ import annotations

from ambient import stage
from ambient.spec import AnnotationSpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, AnnotationSpec, inputs=("data", "classifier", "crops", "locality"),
                      outputs=("out", "summary"), optional=("classifier", "locality"), many=("crops",),
                      options=("state",))

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ambient import crops as crop_rules
from ambient import ranks, stopping
from ambient.annotations import Annotations
from ambient.datasets import Dataset, read, to_float
from ambient.files import read_arrays, read_json, write_arrays, write_json
from ambient.loading import Classifier
from ambient.progress import Progress
from ambient.runtime import State, autocast, compile_for, device, identity
from ambient.statistics import statistics
from ambient.trajectories import CHUNK, PROTOCOLS, Dense

PASSES = 2**20  # of the network, about, that are saved together and lost together; at most 16 chunks


def classify(asked: Dense, data: Dataset, keep: State) -> np.ndarray:
    """P(corrupted) of every corrupted image along the levels, from shards that survive a kill."""
    rows = np.flatnonzero(data.corrupted)
    step = CHUNK * min(max(PASSES // (CHUNK * asked.spec.num_sigmas * asked.spec.num_trials), 1), 16)
    progress = Progress("annotate", len(rows))
    compile_for(asked.classifier.network.model, len(rows) * asked.spec.num_sigmas // (CHUNK * ranks.size()))
    for number, first in enumerate(range(0, len(rows), step)):
        shard, part = keep.folder / f"trajectories-{first}.safetensors", rows[first:first + step]
        if number % ranks.size() == ranks.rank() and not shard.exists():
            if why := stopping.reason():
                stopping.leave(f"annotate: stopped after {first:,} images ({why}), shards saved")
            write_arrays(shard, {"p": asked.of(data.images[part], data.ids[part])})
            progress.update(first + len(part))
    ranks.barrier()
    return np.concatenate([read_arrays(keep.folder / f"trajectories-{first}.safetensors")["p"]
                           for first in range(0, len(rows), step)])


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
    levels, tolerance = crop_levels(spec, sorted(probability), locality)
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
        where = device()
        asked = PROTOCOLS[spec.protocol](spec, Classifier(classifier, where), where)
        curves = asked.curves(classify(asked, mixture, keep), mixture.images[corrupted])
        if spec.method == "population":
            curves = curves.mean(axis=0, keepdims=True)
        sigma_min[corrupted] = asked.crossing(curves)
        found = sigma_min[corrupted & np.isfinite(sigma_min)]
        about = {"sigma_min_lag": asked.lag(found.mean())} if len(found) else {}
    ranks.barrier()  # the shards are read: the first rank may remove them
    if not ranks.first():
        return
    Annotations(mixture.ids, sigma_min, sigma_max).write(out)
    write_json(summary, statistics(sigma_min, corrupted, sigma_max) | about)
    record.facts |= {"samples": len(sigma_min), "corrupted": int(corrupted.sum())}
    keep.remove()


if __name__ == "__main__":
    job.run(main)
