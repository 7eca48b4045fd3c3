"""Stage: averages of a training's weights, at each snapshot, of another width than those that it kept."""

from __future__ import annotations

from pathlib import Path

from ambient.specs import ReconstructionSpec
from ambient.training.averaging import described, reconstructed
from ambient.training.weights import read_description, save_weights


def main(spec: ReconstructionSpec, record, *, denoiser: Path, out: Path) -> None:
    """`out` gets the weights as a training would have written them whose first average has the width.

    Raises `ValueError` for a denoiser without averages by power functions, or without such snapshots.
    """
    about = read_description(denoiser)
    made = described(denoiser, about, spec)
    tensors, errors = {}, {}
    for nimg in spec.snapshots:
        found, errors[str(nimg)] = reconstructed(denoiser, about, nimg, spec.ema_std)
        tensors |= found
    save_weights(out, tensors, made)
    record.facts |= {"profile_errors": errors}
