"""Stage: make the detector whose features distances are measured in."""

from __future__ import annotations

from pathlib import Path

from ambient.evaluation import detectors
from ambient.jobs.state import State
from ambient.specs import DetectorSpec


def main(spec: DetectorSpec, record, *, data: Path, weights: Path | None, state: State, out: Path,
         model: Path | None = None) -> None:
    """`out` gets the detector's weights; the accuracy on images not trained on goes in the manifest.

    `model`: of images and texts, where the detector is its image tower.
    """
    if spec.weights is not None:  # a specification is recorded, and a local path must not be
        raise ValueError(f"weights: got {spec.weights!r}, allowed: null here; give them as --weights")
    beside = {"model": model} if spec.MODEL else {}
    detectors.KINDS[spec.kind].make(spec, record, data=data, weights=weights, state=state, out=out, **beside)
