"""Moments of a dataset's features from EDM2's files, pickles of arrays of which nothing is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ambient.data.pickles import read_inert
from ambient.evaluation.frechet import Moments
from ambient.storage.files import naming


def read(path: Path, entry: str, dimensions: int) -> Moments:
    """The moments of one kind of features: `mu` (D,) and `sigma` (D, D) of the entry, with `num_images`.

    `num_images` stands in the entry or beside it. Raises `ValueError` naming the file and what it lacks.
    """
    content = read_inert(path)
    with naming(path):
        found = content.get(entry) if isinstance(content, Mapping) else None
        if not isinstance(found, Mapping):
            names = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
            raise ValueError(f"has no entry {entry!r} of moments; it has {names:.200}")
        count = found.get("num_images", content.get("num_images"))
        if not isinstance(count, (int, np.integer)):
            raise ValueError(f"num_images is {count!r:.50}, allowed: a whole number, in {entry} or beside it")
        mean, covariance = (np.asarray(found[key], np.float64) for key in ("mu", "sigma"))
        if mean.shape != (dimensions,):
            raise ValueError(f"mu has the shape {mean.shape}, the detector has {dimensions:,} features")
        return Moments(mean, covariance, int(count))
