"""Stage: the latents of a mixture's images, of each the mean and the standard deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data import latents
from ambient.data.datasets import read
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import EncodingSpec
from ambient.training.encoding import TOGETHER, Decoder
from ambient.training.hardware import device

SHARD = 16 * TOGETHER  # images that are saved together, and lost together


def main(spec: EncodingSpec, record, *, data: Path, encoder: Path, state: State, out: Path) -> None:
    """`out` gets the latents. Raises `ValueError` naming an image whose latent is not finite."""
    mixture, decoder = read(data), Decoder(encoder, device())
    if decoder.spec.kind != spec.kind:
        raise ValueError(f"{encoder}: is of kind {decoder.spec.kind}, the specification says {spec.kind}")
    shift, scale = (values.cpu().numpy() for values in (decoder.shift, decoder.scale))
    parts = [slice(first, first + SHARD) for first in range(0, len(mixture.ids), SHARD)]

    def make(number: int) -> dict[str, np.ndarray]:
        ids = mixture.ids[parts[number]]
        sound = latents.Latents(*decoder.encode(mixture.images[parts[number]]), ids, shift, scale)
        return {"mean": sound.mean, "std": sound.std, "ids": ids}

    pieces = [(f"latents-{part.start}", len(mixture.ids[part])) for part in parts]
    found = collect("encode", state, pieces, make)
    if found is None:
        return
    channels, side = decoder.spec.latent(mixture.images.shape[-1])
    patiently(latents.write, out, mixture.ids, (channels, side, side), shift, scale,
              (latents.Latents(**shard, shift=shift, scale=scale) for shard in found))
    record.facts |= {"images": len(mixture.ids), "latent": [channels, side, side]}
