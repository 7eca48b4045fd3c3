"""Stage: an encoder with its decoder, learnt or read from a file, and the scale of its latents."""

from __future__ import annotations

from pathlib import Path

from ambient.data.datasets import read
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import EncoderSpec
from ambient.specs.strict import plain
from ambient.training import encoders
from ambient.training.encoding import spread
from ambient.training.weights import save_weights


def main(spec: EncoderSpec, record, *, data: Path, weights: Path | None, state: State, out: Path) -> None:
    """`out` gets the weights, with the shift and the scale of each channel of a latent.

    Where the specification has none they are measured on the dataset: mean and standard deviation of z.
    """
    dataset = read(data)
    coder = encoders.KINDS[spec.kind].make(spec, record, data=dataset, weights=weights, state=state)
    measured = None if spec.shift else spread(coder, dataset.images, state)
    if not ranks.first():
        return
    shift, scale = (list(spec.shift), list(spec.scale)) if measured is None else (
        values.tolist() for values in measured)
    patiently(save_weights, out, coder.state_dict(), {
        "spec": plain(spec), "channels": dataset.images.shape[1], "shift": shift, "scale": scale})
    record.facts |= {"shift": shift, "scale": scale,
                     "parameters": sum(p.numel() for p in coder.parameters())} | state.history()
