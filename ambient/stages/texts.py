"""Stage: the states of a dataset's captions, of each distinct one once.

States that were made elsewhere are read, and their captions held against the dataset's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data import text_states
from ambient.data.datasets import read
from ambient.data.precomputed import opened
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently, say
from ambient.specs import TextsSpec
from ambient.training.hardware import device
from ambient.training.text_encoding import TOGETHER, TextEncoder

SHARD = 64 * TOGETHER  # captions that are saved together, and lost together


def main(spec: TextsSpec, record, *, data: Path, text_encoder: Path, state: State, out: Path,
         precomputed: Path | None = None) -> None:
    """`out` gets the states. `precomputed` is the folder that has them, made elsewhere.

    Raises `ValueError` for a dataset without captions, and for another encoder.
    """
    dataset, encoder = read(data), TextEncoder(text_encoder, device())
    captions, folder = dataset.captions, opened(spec.precomputed, precomputed, state)
    if encoder.spec.kind != spec.kind:
        raise ValueError(f"{text_encoder}: is of kind {encoder.spec.kind}, the specification says "
                         f"{spec.kind}")
    if captions is None:
        raise ValueError(f"{data}: its images have no captions")
    texts, shape = captions.texts, (encoder.spec.tokens, encoder.spec.channels)
    parts = [slice(first, first + SHARD) for first in range(0, len(texts), SHARD)]
    places = dataset.ids[captions.first_images()]  # samples that have the states, of those made elsewhere

    def make(number: int) -> dict[str, np.ndarray]:
        part = parts[number]
        return {"states": encoder.states(texts[part]) if folder is None else
                folder.states(places[part], texts[part], shape)}

    mark = "" if folder is None else f"-{folder.mark}"
    pieces = [(f"texts-{part.start}{mark}", len(texts[part])) for part in parts]
    shards = collect("texts", state, pieces, make)
    if shards is None:
        return

    def write() -> None:
        text_states.write(out, captions.digests(), shape, (shard["states"] for shard in shards))

    patiently(write)
    record.facts |= {"captions": len(texts), "state": list(shape)}
    if partly := 0 if folder else sum(encoder.coder.unknown(text) is not None for text in texts):
        say(f"texts: {partly:,} of {len(texts):,} captions have words that the encoder has not learnt, or "
            "too many: these words are left out")
        record.facts["partly_known"] = partly
    if folder is not None:
        folder.close(record)
