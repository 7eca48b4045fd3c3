"""The best snapshot of a training: the one whose samples have the least distance to the reference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ambient.evaluation.features import moments
from ambient.evaluation.frechet import frechet_distance, stored
from ambient.jobs.launch import agreed
from ambient.jobs.state import State
from ambient.specs import DetectorSpec
from ambient.storage.arrays import Array
from ambient.storage.files import read_arrays


def best_snapshot(spec: DetectorSpec, detector: Path, reference: Path,
                  sets: Mapping[tuple[int, int], Array], state: State) -> int:
    """The snapshot, by its nimg, with the least mean distance; the first of those with equal ones.

    `sets`: (nimg, sampling seed) -> uint8 images (N, C, H, W), of the same seeds for each snapshot. All ranks
    call it, and share the features out; each gets the answer.
    """
    found = moments(spec, detector, {f"{nimg}-{seed}": one for (nimg, seed), one in sets.items()}, "sample",
                    state)
    best = None
    if found is not None:
        target = stored(read_arrays(reference), str(reference))
        distances: dict[int, list[float]] = {}
        for (nimg, _), one in zip(sets, found.values(), strict=True):
            distances.setdefault(nimg, []).append(frechet_distance(one, target))
        best = min(distances, key=lambda nimg: np.mean(distances[nimg]))
    return agreed(best)
