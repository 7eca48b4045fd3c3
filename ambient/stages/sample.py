"""Stage: draw samples from every snapshot of a diffusion model, guided by another one where that is asked.

Sample k of sampling seed s has its own key: its latent (and churn noise, and class) do not depend on
the batch it is drawn in. Snapshots and methods with the same seeds start from the same latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ambient.data import text_states
from ambient.data.datasets import read
from ambient.data.text_states import Told
from ambient.diffusion.denoiser import Denoiser
from ambient.evaluation.best_snapshot import best_snapshot
from ambient.evaluation.draw import Draw
from ambient.jobs import ranks
from ambient.jobs.shards import as_arrays, collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import SamplingSpec
from ambient.storage.arrays import Array, Computed, concatenated, writing
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


class Part(NamedTuple):
    """Samples of one snapshot and sampling seed that are saved together."""

    nimg: int
    seed: int
    ids: range

    @property
    def name(self) -> str:
        return f"{self.nimg}-{self.seed}-{self.ids.start}"


def collected(parts: Sequence[Part], drawer: Callable[[int], Draw], batch: int,
              state: State) -> Iterable[dict[str, np.ndarray]] | None:
    """The samples of all parts, of which `batch` are drawn together; None but on the first rank."""

    def make(number: int) -> dict[str, np.ndarray]:
        nimg, seed, ids = parts[number]
        return {"images": np.concatenate([drawer(nimg).images(seed, ids[first:first + batch])
                                          for first in range(0, len(ids), batch)])}

    return collect("sample", state, [(part.name, len(part.ids)) for part in parts], make)


def saved(parts: Sequence[Part], state: State) -> Array:
    """Samples (N, C, H, W) of parts that are done, of which one is in memory."""

    @lru_cache(1)
    def read(name: str) -> np.ndarray:
        return as_arrays(state.get(name)[0])["images"]

    first = read(parts[0].name)
    return concatenated([Computed((len(part.ids), *first.shape[1:]), first.dtype,
                                  lambda rows, name=part.name: read(name)[rows]) for part in parts])


def write(out: Path, parts: Sequence[Part], shards: Iterable[Mapping[str, np.ndarray]], count: int) -> None:
    """The file of all samples, `count` of each seed of a snapshot, from their parts in order."""
    first = next(iter(shards))["images"]
    seeds = {nimg: list(dict.fromkeys(part.seed for part in parts if part.nimg == nimg))
             for nimg in dict.fromkeys(part.nimg for part in parts)}
    shapes = {str(nimg): ((len(drawn), count, *first.shape[1:]), first.dtype)
              for nimg, drawn in seeds.items()}
    with writing(out, shapes) as file:
        for part, shard in zip(parts, shards, strict=True):
            file.put(str(part.nimg), seeds[part.nimg].index(part.seed) * count + part.ids.start,
                     shard["images"])


def main(spec: SamplingSpec, record, *, denoiser: Path, state: State, out: Path,
         encoder: Path | None = None, guide: Path | None = None, captions: Path | None = None,
         texts: Path | None = None, detector: Path | None = None, reference: Path | None = None) -> None:
    """`out` gets one array a snapshot, named by its nimg: (seeds, num_samples, C, H, W) uint8.

    `guide`: the weights of the denoiser that guides; None at guidance 1, and where it guides itself.
    `captions`: the dataset whose captions samples are of, `texts` their states. `nfe` in the manifest counts
    evaluations of the main network for a sample, as published tables do, `guide_nfe` those of the guide.

    The last snapshot has all sampling seeds, those before the first `earlier_seeds` of them. A snapshot of
    which there are none is left out. Where `spec.best_by` is a detector, the best snapshot by the distances
    of these first seeds has all of them, too; `detector` are its weights, `reference` the moments that it
    holds samples against.
    """
    where = device()
    about = read_description(denoiser)
    require_network(denoiser, about, spec.network)
    require_width(denoiser, about, spec.ema_std)
    snapshots = about["spec"]["snapshots"]
    sets = [(nimg, seed) for nimg in snapshots for seed in spec.seeds_at(last=nimg == snapshots[-1])]
    size = batch_of(where.type, about["resolution"])
    step = shard_of(where.type, shape_of_images(about, encoder), size)
    every = [range(first, min(first + step, spec.num_samples)) for first in range(0, spec.num_samples, step)]
    drawer = drawers(spec, denoiser, guide, encoder, told_of(spec, captions, texts), where)

    def parts_of(drawn: Iterable[tuple[int, int]]) -> list[Part]:
        return [Part(nimg, seed, ids) for nimg, seed in drawn for ids in every]

    shards = collected(parts_of(sets), drawer, size, state)
    if spec.best_by:
        alike = {(nimg, seed): saved(parts_of([(nimg, seed)]), state)
                 for nimg, seed in sets if seed in spec.seeds_at(last=False)}
        best = best_snapshot(spec.best_by, detector, reference, alike, state)
        record.facts |= {"best_nimg": best}
        sets += [(best, seed) for seed in spec.seeds if (best, seed) not in sets]
        shards = collected(parts_of(sets), drawer, size, state)
    if shards is None:
        return
    patiently(write, out, parts_of(sets), shards, spec.num_samples)
    record.facts |= {"samples": spec.num_samples * len(sets), "nfe": spec.nfe}
    if spec.guide:
        record.facts |= {"guide_nfe": spec.guide_nfe}
