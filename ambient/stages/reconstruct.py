"""Stage: averages of a training's weights, at each snapshot, of another width than those that it kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ambient.jobs.progress import Progress
from ambient.specs import ReconstructionSpec
from ambient.storage.arrays import writing
from ambient.training.averaging import Reconstruction, described
from ambient.training.weights import metadata_of, read_description


def main(spec: ReconstructionSpec, record, *, denoiser: Path, out: Path) -> None:
    """`out` gets the weights as a training would have written them whose first average has the width.

    Raises `ValueError` for a denoiser without averages by power functions, or without such snapshots.
    """
    about = read_description(denoiser)
    made = described(denoiser, about, spec)
    found = [Reconstruction(denoiser, about, nimg, spec.ema_std) for nimg in spec.snapshots]
    shapes = {name: shape for one in found for name, shape in one.shapes.items()}
    progress, done = Progress("reconstruct", sum(map(math.prod, shapes.values())), of="weights"), 0
    with writing(out, {name: (shape, np.dtype("float32")) for name, shape in shapes.items()},
                 metadata_of(made)) as writer:
        for name, tensor in (pair for one in found for pair in one):
            writer.put(name, 0, tensor.reshape(tensor.shape or 1).numpy())
            progress.update(done := done + tensor.numel())
    record.facts |= {"profile_errors": {str(nimg): one.error
                                        for nimg, one in zip(spec.snapshots, found, strict=True)}}
