"""Stage: score images from outside under the protocol of a table's samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data.submitted import Wanted, read
from ambient.evaluation.features import moments
from ambient.evaluation.frechet import frechet_distance, stored
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import OutsideSpec
from ambient.storage.files import read_arrays, write_arrays, write_json


def main(spec: OutsideSpec, record, *, samples: Path, detector: Path, reference: Path, state: State,
         out: Path, moments_out: Path) -> None:
    """`out` gets the distance and its protocol (JSON), `moments_out` what it is computed from.

    Nobody here saw how the images were made: what is recorded of them is their digest, which is that of the
    specification. Raises `ValueError` for other images.
    """
    found = read(samples, Wanted(spec.num_samples, spec.channels, spec.resolution))
    if (digest := found.pin[0]) != spec.sha256:
        raise ValueError(f"{samples}: sha256 is {digest}, the configuration's sha256 is {spec.sha256}: "
                         "other images than those that were named; score them under another name")
    target = stored(read_arrays(reference), str(reference))
    sets = moments(spec.detector, detector, {"samples": found.images}, "score", state)
    if sets is None:
        return
    measured = sets["samples"]
    record.external("samples", samples, "from outside, made by nobody here", found.pin)
    if remark := spec.detector.remark(spec.num_samples):
        say(f"outside: samples: {remark}")
    patiently(write_arrays, moments_out, {"mean": measured.mean, "covariance": measured.covariance,
                                          "count": np.array([measured.count])})
    patiently(write_json, out, {
        "name": spec.name, "label": spec.label, "metric": spec.metric,
        "value": frechet_distance(measured, target), "num_samples": measured.count,
        "reference_images": target.count, "reference_dataset": spec.reference, **spec.detector.recorded()})
    record.facts |= {"images": found.of, "scored": measured.count}
