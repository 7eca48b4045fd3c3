"""Stage: moments of the full uncorrupted dataset, or of its best images, in a detector's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data import ranking
from ambient.data.datasets import read
from ambient.data.scores import Scores
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import moments
from ambient.specs import DetectorSpec
from ambient.storage.files import write_arrays


def main(spec: DetectorSpec, record, *, data: Path, detector: Path, out: Path,
         scores: Path | None = None) -> None:
    """`out` gets `mean`, `covariance` (float64) and `count`. `scores` say which images are the best."""
    dataset = read(data)
    if (scores is None) != (spec.best is None):
        raise ValueError(f"--scores: got {scores}, allowed: a file where the detector has best, else none")
    if spec.best is not None:
        score = Scores.read(scores).of(dataset.ids).score
        dataset = dataset.taken(ranking.best(score, dataset.labels, spec.best.share, spec.best.within))
    stats = moments(extract(spec, detector, dataset.images, "reference"))
    if remark := spec.remark(stats.count):
        print(f"reference: data: {remark}", flush=True)
    write_arrays(out, {"mean": stats.mean, "covariance": stats.covariance,
                       "count": np.array([stats.count])})
    record.facts["images"] = stats.count
