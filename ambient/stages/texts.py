"""Stage: the states of a dataset's captions, of each distinct one once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data import text_states
from ambient.data.datasets import read
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import TextsSpec
from ambient.training.hardware import device
from ambient.training.text_encoding import TOGETHER, TextEncoder

SHARD = 64 * TOGETHER  # captions that are saved together, and lost together


def main(spec: TextsSpec, record, *, data: Path, text_encoder: Path, state: State, out: Path) -> None:
    """`out` gets the states. Raises `ValueError` for a dataset without captions, and for another encoder."""
    captions, encoder = read(data).captions, TextEncoder(text_encoder, device())
    if encoder.spec.kind != spec.kind:
        raise ValueError(f"{text_encoder}: is of kind {encoder.spec.kind}, the specification says "
                         f"{spec.kind}")
    if captions is None:
        raise ValueError(f"{data}: its images have no captions")
    texts = captions.texts
    parts = [slice(first, first + SHARD) for first in range(0, len(texts), SHARD)]

    def make(number: int) -> dict[str, np.ndarray]:
        return {"states": encoder.states(texts[parts[number]])}

    pieces = [(f"texts-{part.start}", len(texts[part])) for part in parts]
    found = collect("texts", state, pieces, make)
    if found is None:
        return
    shape = encoder.spec.tokens, encoder.spec.channels
    patiently(text_states.write, out, captions.digests(), shape, (shard["states"] for shard in found))
    record.facts |= {"captions": len(texts), "state": list(shape)}
