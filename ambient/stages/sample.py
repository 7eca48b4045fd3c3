"""Stage: draw samples from every snapshot of a diffusion model, guided by another one where that is asked.

Sample k of sampling seed s has its own key: its latent (and churn noise, and class) do not depend on
the batch it is drawn in. Snapshots and methods with the same seeds start from the same latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ambient.data import text_states
from ambient.data.datasets import read
from ambient.data.text_states import Told
from ambient.diffusion.denoiser import Denoiser
from ambient.evaluation.draw import Draw
from ambient.jobs import ranks
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import SamplingSpec
from ambient.storage.arrays import writing
from ambient.storage.files import HELD
from ambient.training.encoding import Decoder, shape_of_images
from ambient.training.hardware import compile_for, device
from ambient.training.loading import load_sampled, require_network, require_width
from ambient.training.weights import read_description

BATCH = {"cpu": 128, "cuda": 250}  # samples drawn together: a matter of speed, not of results
PLACES = {"cpu": 2**17, "cuda": 2**20}  # of their pixels, or of their latents: a matter of memory
SHARD = {"cpu": 640, "cuda": 5000}  # samples that are saved together, and lost together, and are in memory


def batch_of(device_type: str, side: int) -> int:
    """How many samples are drawn together, of a network that sees `side` x `side` pixels, or latents."""
    return max(1, min(BATCH[device_type], PLACES[device_type] // side**2))


def shard_of(device_type: str, image: tuple[int, int, int], batch: int) -> int:
    """How many samples of a shape (C, H, W) are saved together: `SHARD`, or whole batches of `HELD` bytes."""
    return min(SHARD[device_type], max(HELD // math.prod(image) // batch * batch, batch))


def told_of(spec: SamplingSpec, captions: Path | None, texts: Path | None) -> Told | None:
    """The states of the captions that samples are of; None where they are of none.

    Raises `ValueError` where files are missing, or the dataset has no captions.
    """
    given = [one is not None for one in (spec.captions, captions, texts)]
    if any(given) != all(given):
        raise ValueError(f"captions: got {spec.captions}, with --captions {captions} and --texts {texts}, "
                         "allowed: all three, or none")
    if not any(given):
        return None
    found = read(captions).captions
    if found is None:
        raise ValueError(f"{captions}: its images have no captions")
    return text_states.told(found, [texts])


def drawers(spec: SamplingSpec, denoiser: Path, guide: Path | None, encoder: Path | None, told: Told | None,
            where: torch.device) -> Callable[[int], Draw]:
    """What draws the samples of a snapshot, by its nimg. One is in memory at a time."""

    @lru_cache(1)
    def drawer(nimg: int) -> Draw:
        decoder = Decoder(encoder, where) if encoder else None
        sampled, about = load_sampled(denoiser, nimg, guide, spec, where)
        batch = batch_of(where.type, about["resolution"])
        batches = spec.images(len(about["spec"]["snapshots"])) // (batch * ranks.size())
        for one in [module for module in sampled.modules() if isinstance(module, Denoiser)]:
            compile_for(one.model, spec.nfe * batches)
        return Draw(sampled, about, spec.sampler, spec.precision, where, decoder, told, spec.captions_each)

    return drawer


def main(spec: SamplingSpec, record, *, denoiser: Path, state: State, out: Path,
         encoder: Path | None = None, guide: Path | None = None, captions: Path | None = None,
         texts: Path | None = None) -> None:
    """`out` gets one array a snapshot, named by its nimg: (seeds, num_samples, C, H, W) uint8.

    `guide`: the weights of the denoiser that guides; None at guidance 1, and where it guides itself.
    `captions`: the dataset whose captions samples are of, `texts` their states. `nfe` in the manifest counts
    evaluations of the main network for a sample, as published tables do, `guide_nfe` those of the guide.

    The last snapshot has all sampling seeds, those before the first `earlier_seeds` of them. A snapshot of
    which there are none is left out.
    """
    where = device()
    about = read_description(denoiser)
    require_network(denoiser, about, spec.network)
    require_width(denoiser, about, spec.ema_std)
    snapshots = about["spec"]["snapshots"]
    seeds = {nimg: drawn for nimg in snapshots if (drawn := spec.seeds_at(last=nimg == snapshots[-1]))}
    size = batch_of(where.type, about["resolution"])
    step = shard_of(where.type, shape_of_images(about, encoder), size)
    every = [range(first, min(first + step, spec.num_samples)) for first in range(0, spec.num_samples, step)]
    sets = [(nimg, seed) for nimg in seeds for seed in seeds[nimg]]
    parts = [(nimg, seed, ids) for nimg, seed in sets for ids in every]

    drawer = drawers(spec, denoiser, guide, encoder, told_of(spec, captions, texts), where)

    def make(number: int) -> dict[str, np.ndarray]:
        nimg, seed, ids = parts[number]
        return {"images": np.concatenate([drawer(nimg).images(seed, ids[first:first + size])
                                          for first in range(0, len(ids), size)])}

    pieces = [(f"{nimg}-{seed}-{ids.start}", len(ids)) for nimg, seed, ids in parts]
    shards = collect("sample", state, pieces, make)
    if shards is None:
        return

    first = next(iter(shards))["images"]
    shapes = {str(nimg): ((len(seeds[nimg]), spec.num_samples, *first.shape[1:]), first.dtype)
              for nimg in seeds}

    def write() -> None:
        with writing(out, shapes) as file:
            for (nimg, seed, ids), shard in zip(parts, shards, strict=True):
                row = list(seeds[nimg]).index(seed) * spec.num_samples + ids.start
                file.put(str(nimg), row, shard["images"])

    patiently(write)
    record.facts |= {"samples": spec.images(len(snapshots)), "nfe": spec.nfe}
    if spec.guide:
        record.facts |= {"guide_nfe": spec.guide_nfe}
