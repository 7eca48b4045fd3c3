"""Stage: moments of the full uncorrupted dataset, or of its best images, in a detector's features.

They are measured, or read from a file that others published.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data import ranking
from ambient.data.datasets import read
from ambient.data.scores import Scores
from ambient.evaluation import published_moments
from ambient.evaluation.features import moments
from ambient.evaluation.frechet import Moments
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import DetectorSpec
from ambient.storage.files import read_arrays, write_arrays


def main(spec: DetectorSpec, record, *, data: Path, detector: Path, state: State, out: Path,
         scores: Path | None = None, published: Path | None = None) -> None:
    """`out` gets `mean`, `covariance` (float64) and `count`.

    `scores` say which images are the best; `published` is the file of published moments.
    """
    if (scores is None) != (spec.best is None):
        raise ValueError(f"--scores: got {scores}, allowed: a file where the detector has best, else none")
    stats = measured(spec, data, detector, scores, state) if spec.published is None else read_published(
        spec, record, published, len(read_arrays(data, ("ids",))["ids"]))
    if stats is None:  # on another rank than the first
        return
    if remark := spec.remark(stats.count):
        say(f"reference: data: {remark}")
    patiently(write_arrays, out, {"mean": stats.mean, "covariance": stats.covariance,
                                  "count": np.array([stats.count])})
    record.facts["images"] = stats.count


def measured(spec: DetectorSpec, data: Path, detector: Path, scores: Path | None,
             state: State) -> Moments | None:
    """Moments of the dataset's images, or of the best ones; None but on the first rank."""
    dataset = read(data)
    if spec.best is not None:
        score = Scores.read(scores).of(dataset.ids).score
        dataset = dataset.taken(ranking.places_of_best(score, dataset.labels, spec.best, data))
    found = moments(spec, detector, {"data": dataset.images}, "reference", state)
    return found and found["data"]


def read_published(spec: DetectorSpec, record, path: Path | None, images: int) -> Moments | None:
    """Published moments; None but on the first rank.

    Raises `ValueError` for another file than is pinned, and for moments of other images.
    """
    if path is None or not path.is_file():
        raise ValueError(f"detectors.<name>.published.path: got {path}, allowed: a file of published "
                         "moments, such as img512.pkl; set it in config/local.yaml")
    digest = record.external("published", path, f"moments of {spec.published.dataset}, from outside")
    if digest != (spec.published.sha256 or digest):
        raise ValueError(f"{path}: sha256 is {digest}, the configuration's published.sha256 is "
                         f"{spec.published.sha256}")
    stats = published_moments.read(path, spec.published.entry, spec.dimensions)
    if stats.count != images:
        raise ValueError(f"{path}: its moments are of {stats.count:,} images, the dataset has {images:,}: "
                         "they are of other images, or the dataset is a part")
    return stats if ranks.first() else None
