"""Stage: moments of the full uncorrupted dataset in a detector's features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data.datasets import read
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import moments
from ambient.specs import DetectorSpec
from ambient.storage.files import write_arrays


def main(spec: DetectorSpec, record, *, data: Path, detector: Path, out: Path) -> None:
    """`out` gets `mean`, `covariance` (float64) and `count`."""
    stats = moments(extract(spec, detector, read(data).images, "reference"))
    if remark := spec.remark(stats.count):
        print(f"reference: data: {remark}", flush=True)
    write_arrays(out, {"mean": stats.mean, "covariance": stats.covariance,
                       "count": np.array([stats.count])})
    record.facts["images"] = stats.count
