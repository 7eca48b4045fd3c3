"""What `import ambient` offers to a script of one's own, each a few lines over the rooms of the package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ambient.annotation.classifier import Classifier
from ambient.annotation.trajectories import PROTOCOLS
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.guidance import Guided, Untold
from ambient.diffusion.network import Condition
from ambient.evaluation.draw import Draw
from ambient.specs import AnnotationSpec, NoiseSpec, SamplerSpec
from ambient.specs.strict import build, require
from ambient.training import hardware, loading
from ambient.training.encoding import Decoder
from ambient.training.text_encoding import TextEncoder
from ambient.training.weights import read_description

TOLD_IN_TRAINING = ("augment", "patches")  # what a network may be told of images beside their content
TOGETHER = 32  # samples drawn at once: a matter of memory, not of results


@dataclass(frozen=True)
class Trained:
    """A trained denoiser and what is known of it: call it as D(x, sigma), or give it to `sample`."""

    denoiser: Denoiser
    about: dict  # its specification, resolution, channels and classes, as recorded beside its weights
    device: torch.device

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """The estimate of x_0, (B, C, H, W) float32, for x (B, C, H, W) of images in [-1, 1] and sigma (B,).

        `condition`: what is told of the images, by name: {"classes": one-hot (B, classes)} for a
        class-conditional denoiser. Without it a class-conditional one is told no class. Raises `ValueError`
        for a name that this denoiser can't be told.
        """
        classes = ("classes",) * self.about["spec"]["network"]["conditional"]
        known = (*(("text",) if "text" in self.about else classes), *TOLD_IN_TRAINING)
        unknown = sorted(set(condition or {}).difference(known))
        require(not unknown, "condition", unknown, f"some of {', '.join(known)}")
        return self.denoiser(x, sigma, condition)


def whole(value: Any) -> bool:
    """Whether a value is a whole number; true and false are none, nor is a tensor."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def placed(device: torch.device | str) -> torch.device:
    """A device. Before a GPU is used torch is set as in the workflow's jobs: see `hardware.device`."""
    where = torch.device(device)
    if where.type == "cuda":
        hardware.device()
    return where


def load_denoiser(path: Path | str, snapshot: int | None = None,
                  device: torch.device | str = "cpu") -> Trained:
    """A denoiser that the workflow trained: `results/<scale>/runs/<run>/seed-<n>/denoiser.safetensors`.

    `snapshot`: images seen; None: the last one. Raises `ValueError` for another kind of file, or where it has
    no such snapshot. On a GPU torch computes in float32 without TF32, and is asked to repeat its bits, from
    here on and in all of the process, as in the workflow's jobs.
    """
    where = placed(device)
    denoiser, about = loading.load_denoiser(Path(path), snapshot, where)
    return Trained(denoiser, about, where)


@torch.no_grad()
def sample(trained: Trained, count: int, seed: int = 0, *, steps: int = 18, sigma_min: float = 0.002,
           sigma_max: float = 80.0, rho: float = 7.0, encoder: Path | str | None = None,
           captions: Sequence[str] = (), text_encoder: Path | str | None = None, guidance: float = 1.0,
           S_churn: float = 0.0, S_min: float = 0.0, S_max: float = math.inf, S_noise: float = 1.0,
           draws: str = "keys") -> np.ndarray:
    """`count` images, uint8 (count, C, H, W), by the Heun sampler (Karras et al. 2022, algorithm 2).

    It is deterministic where `S_churn` is 0. `steps` is `num_steps` of `sampling.sampler` in the settings,
    which explain the other numbers, too.

    Image i is a function of (seed, i): the first images of a larger count are the same. A class-conditional
    denoiser draws classes from those that it was trained on, each equally often. `encoder`: of a denoiser of
    latents, the file `results/<scale>/encoders/<dataset>/<encoder>.safetensors`. A denoiser that is told
    captions takes some, of which image i has the one of number i modulo their number, and `text_encoder`, the
    file `results/<scale>/text-encoders/<text_encoder>.safetensors`. `guidance` g > 1: by the null caption,
    D = D_null + g (D_caption - D_null).

    Raises `ValueError` for a number out of range, for a denoiser whose encoders are not given, and for
    captions or guidance that it can't be told. A denoiser of another origin is sampled by `heun`.
    """
    require(isinstance(trained, Trained), "trained", type(trained).__name__,
            "what `load_denoiser` gives; `heun` samples any other denoiser")
    require(whole(count) and count > 0, "count", count, "a whole number >= 1")
    require(whole(seed) and seed >= 0, "seed", seed, "a whole number >= 0")
    require(text_encoder is not None or not captions, "captions", list(captions),
            "none without text_encoder, by which a denoiser is told them")
    require("text" in trained.about or guidance == 1, "guidance", guidance,
            "1 for a denoiser that is told no captions")
    sampler = build(SamplerSpec, {
        "num_steps": steps, "sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho, "S_churn": S_churn,
        "S_min": S_min, "S_max": S_max, "S_noise": S_noise, "draws": draws}, "sampler")
    decoder = Decoder(Path(encoder), trained.device) if encoder else None
    denoiser = trained.denoiser if guidance == 1 else Guided(
        trained.denoiser, Untold(trained.denoiser, "text"), guidance)
    told = TextEncoder(Path(text_encoder), trained.device).told(captions) if text_encoder else None
    draw = Draw(denoiser, trained.about, sampler, "float32", trained.device, decoder, told)
    parts = [range(first, min(first + TOGETHER, count)) for first in range(0, count, TOGETHER)]
    return np.concatenate([draw.images(seed, part) for part in parts])


@dataclass(frozen=True)
class Trajectories:
    """What a noise classifier thinks of N images at K noise levels.

    sigma: the levels, rising, (K,). p_clean: P(the noised image is a good one), (N, K), after smoothing.
    sigma_min: where each image's curve first exceeds tau, (N,); infinity: nowhere.
    """

    sigma: np.ndarray
    p_clean: np.ndarray
    sigma_min: np.ndarray


def trajectories(classifier: Path | str, images: np.ndarray, ids: Sequence[int] | None = None, *,
                 epsilon: float = 0.05, levels: int = 24, sigma_low: float = 0.05, sigma_high: float = 10.0,
                 trials: int = 2, seed: int = 42, device: torch.device | str = "cpu") -> Trajectories:
    """How probably each image passes for a good one at each noise level (section 3.1), and its sigma_min.

    classifier: `results/<scale>/classifiers/<study>/<corruption>/<name>.safetensors`. images: uint8
    (N, C, H, W), of the classifier's shape, all of them together: the mean over images is part of the
    estimate. ids: what each image's place in random streams is; None: 0 to N - 1. tau = 0.5 - `epsilon`;
    `levels` noise levels between `sigma_low` and `sigma_high`, `trials` (even) noises each.

    Raises `ValueError` for images of another type or shape, another number of ids, or a setting out of range.
    """
    require_images(images, read_description(Path(classifier), "a noise classifier"))
    rows = np.arange(len(images)) if ids is None else np.asarray(ids)
    require(rows.shape == (len(images),), "ids", f"{rows.shape}", f"one for each of the {len(images)} images")
    spec = AnnotationSpec(
        method="per_sample", sigma_min=None, epsilon=epsilon, num_sigmas=levels, grid="geometric",
        noise=NoiseSpec(-1.2, 1.2), sigma_low=sigma_low, sigma_high=sigma_high, num_trials=trials,
        smoothing_span=1, never_crosses="exclude", precision="float32", seed=seed, protocol="shared_noise")
    where = placed(device)
    asked = PROTOCOLS[spec.protocol](spec, Classifier(Path(classifier), where), where)
    curves = asked.curves(asked.of(images, rows), images)
    return Trajectories(np.asarray(asked.sigmas), np.clip(1 - curves, 0, 1), asked.crossing(curves))


def require_images(images: Any, about: dict) -> None:
    """Raise `ValueError` for what a classifier of some description would take for other images."""
    shape = (about["channels"], about["resolution"], about["resolution"])
    kind, size = getattr(images, "dtype", type(images).__name__), getattr(images, "shape", ())
    require(kind == np.uint8 and size[1:] == shape and size[0] > 0, "images", f"{kind} {tuple(size)}",
            f"a numpy array of uint8 ({', '.join(['N', *map(str, shape)])}), with one image or more")


def annotate(classifier: Path | str, images: np.ndarray, ids: Sequence[int] | None = None,
             **settings: Any) -> np.ndarray:
    """sigma_min of each image by a trained noise classifier, float64 (N,): that of `trajectories`.

    Infinity: the image is usable at none of the levels.
    """
    return trajectories(classifier, images, ids, **settings).sigma_min
