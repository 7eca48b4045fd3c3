"""Stage: the losses of clean images and of others near sigma_min, and the uncertainty u(sigma) of both.

A training with an uncertainty divides the loss of every sample at a level by one e^u, whether the sample is
clean or is used above its sigma_min. What the second kind loses by its own noise (`ambient.diffusion.floor`)
so takes weight from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import one_hot

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read
from ambient.diffusion import randomness
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.diffusion.floor import noise_floor
from ambient.diffusion.noise import added_variance
from ambient.diffusion.objective import ambient_loss, edm_loss
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import NoiseFloorSpec, TrainingSpec
from ambient.specs.strict import build
from ambient.storage.files import write_text
from ambient.training.hardware import device
from ambient.training.loading import load_denoiser, require_network
from ambient.training.points import Points
from ambient.training.weights import read_description

BATCH = 250
# What is measured of a denoiser at a level, of which the last three are of levels above sigma_min.
COLUMNS = ("sigma", "clean_loss", "clean_loss_stderr", "other_loss", "u",
           "ambient_loss", "ambient_loss_stderr", "noise_floor")


def levels(spec: NoiseFloorSpec) -> np.ndarray:
    """The noise levels, rising: as many below sigma_min as above it, and closer the nearer it is."""
    below = np.geomspace(spec.sigma_low, spec.sigma_min, spec.num_sigmas, endpoint=False)
    above = np.geomspace(spec.NEAREST, spec.sigma_high / spec.sigma_min - 1, spec.num_sigmas)
    return np.r_[below, spec.sigma_min * (1 + above)]


def drawn(spec: NoiseFloorSpec, ids: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`num_images` of some rows, by (seed, id)."""
    return rows[np.argsort(randomness.uniform("noise-floor", spec.seed, ids[rows]),
                           kind="stable")[:spec.num_images]]


def kinds(spec: NoiseFloorSpec, data: Dataset, annotated: Annotations) -> tuple[np.ndarray, np.ndarray]:
    """The rows of clean images, and of those that are used above sigma_min.

    Raises `ValueError` where one of both is missing, or an image has another sigma_min.
    """
    clean, other = (np.flatnonzero(annotated.sigma_min == level) for level in (0.0, spec.sigma_min))
    if len(clean) + len(other) < len(data.ids) or not len(clean) or not len(other):
        raise ValueError(f"sigma_min: got {len(clean)} images with 0 and {len(other)} with {spec.sigma_min}, "
                         f"of {len(data.ids)}, allowed: some of both, and no others")
    return clean, other


class Images:
    """Images of one kind, with the two noises that are the same at every level and for every denoiser."""

    def __init__(self, name: str, spec: NoiseFloorSpec, points: Points, data: Dataset, rows: np.ndarray,
                 where: torch.device) -> None:
        self.name, self.seed, self.where, self.ids = name, spec.seed, where, data.ids[rows]
        self.x0 = points.fixed(rows, spec.seed)
        self.own = self.noise("own")  # Z, of an image's own level
        labels = torch.from_numpy(data.labels[rows]).clamp(min=0)  # where there are none, none is told
        self.classes = one_hot(labels, max(data.num_classes, 1))

    def noise(self, stream: str) -> torch.Tensor:
        return torch.from_numpy(randomness.normal(f"noise-floor-{self.name}-{stream}", self.seed, self.ids,
                                                  self.x0.shape[1:]))

    @torch.no_grad()
    def losses(self, denoiser: Denoiser, place: int, sigma: float, sigma_tn: float,
               conditional: bool) -> tuple[np.ndarray, np.ndarray]:
        """(EDM's loss, the ambient loss) of each image for one of its numbers, (N,) each, at a level."""
        found = []
        for part in zip(*(one.split(BATCH) for one in (self.x0, self.own, self.noise(str(place)),
                                                       self.classes)), strict=True):
            x0, own, further, classes = (one.to(self.where) for one in part)
            level, own_level = (torch.full((len(x0),), value, dtype=torch.float64, device=self.where)
                                for value in (sigma, sigma_tn))
            x_tn = x0 + sigma_tn * own
            x_t = x_tn + float(added_variance(level[0], own_level[0]).sqrt()) * further
            denoised = denoiser(x_t, level, {"classes": classes.to(x_t)} if conditional else {})
            plain = edm_loss(denoised, x0, level.to(denoised), denoiser.sigma_data)
            ambient = ambient_loss(denoised, x_t, x_tn, level, own_level, denoiser.sigma_data)
            found.append([one.mean(dim=(1, 2, 3)).double().cpu().numpy() for one in (plain, ambient)])
        return tuple(map(np.concatenate, zip(*found, strict=True)))


def measured(spec: NoiseFloorSpec, denoiser: Denoiser, conditional: bool, clean: Images, other: Images,
             place: int) -> dict[str, float]:
    """What a denoiser says at one of the levels. Below sigma_min there is no ambient loss."""
    sigma = float(levels(spec)[place])
    above = sigma > spec.sigma_min
    sigma_tn = spec.sigma_min if above else 0.0
    level = torch.tensor([sigma], dtype=torch.float64)
    of_clean, _ = clean.losses(denoiser, place, sigma, 0.0, conditional)
    plain, ambient = other.losses(denoiser, place, sigma, sigma_tn, conditional)
    row = {"sigma": sigma, "clean_loss": of_clean.mean(), "clean_loss_stderr": stderr(of_clean),
           "other_loss": plain.mean()}
    if above:
        floor = noise_floor(level, torch.tensor([sigma_tn], dtype=torch.float64), denoiser.sigma_data)
        row |= {"ambient_loss": ambient.mean(), "ambient_loss_stderr": stderr(ambient),
                "noise_floor": float(floor)}
    with torch.no_grad():
        return row | {"u": float(denoiser.log_variance(level.to(clean.where)))}


def stderr(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return values.std(ddof=1) / np.sqrt(len(values))


def clean_share(annotated: Annotations, clean: int, admission: Admission, sigma: np.ndarray) -> np.ndarray:
    """The share of the draws at each level that are of clean images, which every level admits."""
    above, below = EligibleSampler(annotated.sigma_min, annotated.sigma_max, admission).count(sigma)
    return clean / (above + below)


def described(spec: NoiseFloorSpec, run: str, training: TrainingSpec, made: pd.DataFrame,
              annotated: Annotations, clean: int) -> pd.DataFrame:
    """What was measured of a run's denoiser, with what its training says of each level."""
    admission = Admission(training.loss.buffer, training.loss.margin)
    table = made.assign(run=run, buffer=training.loss.buffer, threshold=admission.threshold(spec.sigma_min))
    return table.assign(clean_share=clean_share(annotated, clean, admission, table["sigma"].to_numpy()))


def trained(spec: NoiseFloorSpec, path: Path) -> TrainingSpec:
    """How a denoiser was trained. Raises `ValueError` for one of another kind, or without an uncertainty."""
    about = read_description(path, "a denoiser")
    require_network(path, about, spec.network)
    training = build(TrainingSpec, about["spec"], str(path))
    if not training.loss.uncertainty:
        raise ValueError(f"{path}: has no uncertainty u(sigma), allowed: loss.uncertainty true")
    return training


def main(spec: NoiseFloorSpec, record, *, data: Path, annotations: Path, denoisers: list[Path], state: State,
         out: Path, latents: Sequence[Path] = ()) -> None:
    """`out` gets a row for each run and level (CSV); losses are of one number of an image or latent."""
    where, dataset = device(), read(data)
    annotated = Annotations.read(annotations).of(dataset.ids)
    rows, points = kinds(spec, dataset, annotated), Points(dataset, latents)
    trainings = [trained(spec, path) for path in denoisers]
    clean, other = (Images(name, spec, points, dataset, drawn(spec, dataset.ids, one), where)
                    for name, one in zip(("clean", "other"), rows, strict=True))
    count, images = len(levels(spec)), len(clean.ids) + len(other.ids)
    loaded = lru_cache(maxsize=1)(lambda run: load_denoiser(denoisers[run], None, where)[0])

    def make(number: int) -> dict[str, np.ndarray]:
        run, place = divmod(number, count)
        row = measured(spec, loaded(run), trainings[run].network.conditional, clean, other, place)
        return {name: np.array([value]) for name, value in row.items()}

    pieces = [(f"run-{run}-level-{place}", images) for run in range(len(denoisers)) for place in range(count)]
    found = collect("noise_floor", state, pieces, make)
    if found is None:
        return
    made = pd.DataFrame([{name: value.item() for name, value in row.items()} for row in found],
                        columns=COLUMNS)
    tables = [described(spec, run, training, made[k * count:(k + 1) * count], annotated, len(rows[0]))
              for k, (run, training) in enumerate(zip(spec.runs, trainings, strict=True))]
    patiently(write_text, out, pd.concat(tables, ignore_index=True).to_csv(
        index=False, lineterminator="\n", float_format="%.6g"))
    record.facts |= {"images": images}
