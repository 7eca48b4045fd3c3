"""Stage: the latents of a mixture's images, of each the mean and the standard deviation.

Of images that are there as latents, made elsewhere, these are read, and their captions held against the
mixture's. The latents of the dataset's own images are then in the file of the whole dataset.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ambient.data import latents
from ambient.data.datasets import Dataset, read
from ambient.data.operations.add import first_id
from ambient.data.precomputed import Precomputed, opened
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import EncodingSpec
from ambient.training.encoding import TOGETHER, Decoder
from ambient.training.hardware import device

SHARD = 16 * TOGETHER  # images that are saved together, and lost together


def added(mixture: Dataset) -> Dataset:
    """The images that a mixture adds. Raises `ValueError` where it adds none, or such without captions."""
    if mixture.corrupted is None or mixture.captions is None or not mixture.corrupted.any():
        raise ValueError("the mixture adds no images with captions, which latents could be of")
    return mixture.taken(mixture.corrupted == 1)


def posterior_of(data: Dataset, part: slice, decoder: Decoder, folder: Precomputed | None,
                 added_as: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of z of a part of the images: encoded, or as a folder has them."""
    if folder is None:
        return decoder.encode(data.images[part])
    places = data.ids[part] - (0 if added_as is None else first_id(added_as))
    channels, side = decoder.spec.latent(folder.spec.resolution)
    captions = [data.captions.texts[row] for row in data.captions.rows[part].tolist()]
    return folder.latents(places, captions, (channels, side, side))


def main(spec: EncodingSpec, record, *, data: Path, encoder: Path, state: State, out: Path,
         precomputed: Path | None = None) -> None:
    """`out` gets the latents. `precomputed` is the folder that has those of added images.

    Raises `ValueError` naming an image whose latent is not finite.
    """
    mixture, decoder = read(data), Decoder(encoder, device())
    folder = opened(spec.precomputed, precomputed, state)
    if decoder.spec.kind != spec.kind:
        raise ValueError(f"{encoder}: is of kind {decoder.spec.kind}, the specification says {spec.kind}")
    mixture = mixture if folder is None else added(mixture)
    points = folder is not None and folder.spec.std is None
    shift, scale = (values.cpu().numpy() for values in (decoder.shift, decoder.scale))
    parts = [slice(first, first + SHARD) for first in range(0, len(mixture.ids), SHARD)]

    def make(number: int) -> dict[str, np.ndarray]:
        ids = mixture.ids[parts[number]]
        pair = posterior_of(mixture, parts[number], decoder, folder, spec.added)
        sound = latents.Latents(*pair, ids, shift, scale)
        return {"mean": sound.mean, "std": sound.std, "ids": ids}

    mark = "" if folder is None else f"-{folder.mark}"
    pieces = [(f"latents-{part.start}{mark}", len(mixture.ids[part])) for part in parts]
    shards = collect("encode", state, pieces, make)
    if shards is None:
        return
    channels, side = decoder.spec.latent(mixture.images.shape[-1] if folder is None else
                                         folder.spec.resolution)

    def write() -> None:
        found = (latents.Latents(**shard, shift=shift, scale=scale) for shard in shards)
        latents.write(out, mixture.ids, (channels, side, side), shift, scale, found, points)

    patiently(write)
    record.facts |= {"images": len(mixture.ids), "latent": [channels, side, side]}
    if folder is not None:
        folder.close(record)
