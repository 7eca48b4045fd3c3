"""Stage: an encoder of captions, learnt from captioned images or read from a local checkpoint."""

from __future__ import annotations

from pathlib import Path

from ambient.data.datasets import read
from ambient.jobs import ranks
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import TextEncoderSpec
from ambient.specs.strict import plain
from ambient.training import text_encoders
from ambient.training.weights import save_weights


def main(spec: TextEncoderSpec, record, *, state: State, out: Path, data: Path | None = None,
         weights: Path | None = None) -> None:
    """`out` gets the weights, and what is needed to build the encoder again."""
    dataset = read(data) if data else None
    if dataset is not None and dataset.captions is None:
        raise ValueError(f"{data}: its images have no captions, from which a text encoder learns")
    coder = text_encoders.KINDS[spec.kind].make(spec, record, data=dataset, weights=weights, state=state)
    if not ranks.first():
        return
    patiently(save_weights, out, coder.state_dict(), {"spec": plain(spec), "coder": coder.about()})
    record.facts |= {"parameters": sum(p.numel() for p in coder.parameters())} | state.history()
