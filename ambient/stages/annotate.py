"""Stage: find the levels at which each sample that is not clean is usable: above sigma_min, below sigma_max.

The methods are files of `ambient.annotation.methods`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ambient.annotation import methods
from ambient.annotation.levels import Inputs
from ambient.annotation.statistics import statistics
from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import AnnotationSpec
from ambient.storage.files import write_json


def main(spec: AnnotationSpec, record, *, data: Path, classifier: Path | None, state: State, out: Path,
         summary: Path, crops: Sequence[Path] = (), locality: Path | None = None,
         latents: Sequence[Path] = (), scores: Path | None = None) -> None:
    """`out` gets the annotation table of the mixture (clean samples: 0), `summary` its statistics.

    Raises `ValueError` for what is no mixture, and where a classifier is to be asked about no image.
    """
    mixture = read(data)
    if mixture.corrupted is None:
        raise ValueError(f"{data}: not a mixture, it says of no image whether it is corrupted")
    if spec.ASKS and not mixture.corrupted.any():
        raise ValueError(f"{data}: none of its {len(mixture.ids):,} images is corrupted, and method "
                         f"{spec.method} asks a classifier about those: lower clean_fraction, or take method "
                         "clean, which asks none")
    inputs = Inputs(classifier, crops, locality, latents, scores)
    levels = methods.KINDS[spec.method].annotate(spec, mixture, inputs, state)
    if levels is None or not ranks.first():
        return
    corrupted = mixture.corrupted == 1
    sigma_min, sigma_max = np.zeros(len(corrupted)), np.zeros(len(corrupted))
    sigma_min[corrupted], sigma_max[corrupted] = levels.sigma_min, levels.sigma_max
    patiently(Annotations(mixture.ids, sigma_min, sigma_max).write, out)
    patiently(write_json, summary, statistics(sigma_min, corrupted, sigma_max) | levels.about)
    record.facts |= {"samples": len(sigma_min), "corrupted": int(corrupted.sum())}
