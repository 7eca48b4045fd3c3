r"""P(corrupted) of images along sigma, and where it crosses: what an annotation is made from.

Two protocols estimate the same curve, E[P(corrupted | x_0 + sigma z, sigma)] over the noise z:

- `dense`, the released one: thousands of levels, noise of its own for each image and level, exponential
  smoothing along sigma, first crossing. Smoothing looks back only, so what it finds is late (`lag`): on the
  paper's grid by 7 % at sigma 1.38 and by 15 % at 2.84.
- `shared_noise`: tens of levels. Most of what noise does to P(corrupted) it does to all images alike
  (measured on digits near the crossing: standard deviation 0.12, of which 0.03 is not shared, 0.02 with
  z and -z averaged). So all images get the same z and -z; the difference from the mean over images is
  left with little noise, and the mean itself is measured apart, with fresh noise.
"""

from __future__ import annotations

import numpy as np
import torch

from ambient.annotation.classifier import Classifier
from ambient.data.datasets import to_float
from ambient.diffusion import randomness
from ambient.diffusion.noise import lognormal
from ambient.specs import AnnotationSpec
from ambient.storage.arrays import Array
from ambient.training.hardware import autocast

CHUNK = 64  # images asked together


def grid(spec: AnnotationSpec) -> np.ndarray:
    """The noise levels asked, rising, float64 of shape (num_sigmas,)."""
    if spec.grid == "geometric":
        return np.geomspace(spec.sigma_low, spec.sigma_high, spec.num_sigmas)
    generator = randomness.torch_generator("cpu", "annotation-grid", spec.seed)
    draws = lognormal(spec.num_sigmas, spec.noise.P_mean, spec.noise.P_std, generator)
    return np.sort(draws.numpy())


def smooth(values: np.ndarray, span: int) -> np.ndarray:
    """Exponential smoothing along the last axis: y_0 = x_0, y_k = (1-w) y_(k-1) + w x_k.

    w = 2 / (span + 1). Not bias-corrected, as in the released protocol (span 32: w = 2/33).
    """
    weight = 2 / (span + 1)
    smoothed = np.array(values, dtype=np.float64)
    for k in range(1, smoothed.shape[-1]):
        smoothed[..., k] = (1 - weight) * smoothed[..., k - 1] + weight * smoothed[..., k]
    return smoothed


def kernel_smooth(values: np.ndarray, sigmas: np.ndarray, bandwidth: float) -> np.ndarray:
    """Gaussian kernel means along the last axis: y_k = sum_j w_kj x_j / sum_j w_kj.

    w_kj = exp(-(ln sigma_k - ln sigma_j)^2 / (2 bandwidth^2)); bandwidth in units of ln sigma, 0: none.
    """
    if bandwidth == 0:
        return np.asarray(values, dtype=np.float64)
    distance = (np.log(sigmas)[:, None] - np.log(sigmas)) / bandwidth
    weights = np.exp(-(distance**2) / 2)
    return values @ (weights / weights.sum(axis=1, keepdims=True)).T


def first_crossing(sigmas: np.ndarray, curves: np.ndarray, epsilon: float, never_crosses: str,
                   between: bool = False) -> np.ndarray:
    """The first level at which P(corrupted) is below 0.5 + epsilon, for `curves` (..., num_sigmas).

    P(corrupted) < 0.5 + epsilon is P(clean) > tau = 0.5 - epsilon. `between`: where the line from the
    level before crosses, in ln sigma. Never: the last level, or infinity (`never_crosses`).
    """
    threshold = 0.5 + epsilon
    below = curves < threshold
    k = below.argmax(axis=-1)
    found = sigmas[k]
    if between:
        before = np.maximum(k - 1, 0)
        high = np.take_along_axis(curves, before[..., None], -1)[..., 0]
        low = np.take_along_axis(curves, k[..., None], -1)[..., 0]
        part = np.where(k > 0, (high - threshold) / np.where(high > low, high - low, 1.0), 1.0)
        found = sigmas[before] * (found / sigmas[before]) ** part
    return np.where(below.any(axis=-1), found, sigmas[-1] if never_crosses == "last" else np.inf)


def points(images: np.ndarray) -> torch.Tensor:
    """x_0, float32, of uint8 images, or of what is x_0 already (`ambient.training.points`)."""
    return torch.from_numpy(to_float(images) if images.dtype == np.uint8 else images)


class Dense:
    """Noise of its own for each image, level and trial, drawn from (seed, level, id)."""

    def __init__(self, spec: AnnotationSpec, classifier: Classifier, where: torch.device) -> None:
        self.spec, self.classifier, self.where, self.sigmas = spec, classifier, where, grid(spec)

    @torch.no_grad()
    def probability(self, x0: torch.Tensor, k: int, noise: torch.Tensor) -> np.ndarray:
        """P(corrupted) of images (N, C, H, W) noised to level k, noise (N or 1, trials, C, H, W).

        Shape (N,): the mean over trials.
        """
        sigma = float(self.sigmas[k])
        x = x0[:, None] + sigma * noise.to(self.where)
        with autocast(self.spec.precision, self.where):
            p = torch.sigmoid(self.classifier.logits(x.flatten(0, 1), sigma))
        return p.reshape(x.shape[:2]).mean(1).cpu().numpy()

    def draws(self, k: int, ids: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
        """The noise of the images at level k, (N, trials, *shape)."""
        return torch.from_numpy(randomness.normal(f"annotation-{k}", self.spec.seed, ids,
                                                  (self.spec.num_trials, *shape)))

    def of(self, images: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Mean P(corrupted) over trials, (N, num_sigmas) float32. `images` (N, C, H, W): uint8, or x_0."""
        x0 = points(images).to(self.where)
        p = np.empty((len(images), len(self.sigmas)), np.float32)
        for k in range(len(self.sigmas)):
            noise = self.draws(k, ids, images.shape[1:])
            for first in range(0, len(x0), CHUNK):
                part = slice(first, first + CHUNK)
                p[part, k] = self.probability(x0[part], k, noise[part])
        return p

    def curves(self, p: np.ndarray, images: Array, of_all: np.ndarray | None = None) -> np.ndarray:
        """What is compared with the threshold, from the `p` (N, num_sigmas) of all `images`.

        Where `p` is of other images, `of_all` is that of `images`.
        """
        return smooth(p, self.spec.smoothing_span)

    def crossing(self, curves: np.ndarray) -> np.ndarray:
        """sigma_min of each curve."""
        return first_crossing(self.sigmas, curves, self.spec.epsilon, self.spec.never_crosses)

    def lag(self, at: float) -> float:
        """By what fraction a crossing found at level `at` lies beyond that of the curve before smoothing.

        A curve that is straight along the levels comes out of `smooth` (1 - w) / w = (span - 1) / 2 levels
        late; so the fraction depends on how close the levels are there.
        """
        number, levels = np.arange(len(self.sigmas)), np.log(self.sigmas)
        k = np.interp(np.log(at), levels, number)
        return float(at / np.exp(np.interp(k - (self.spec.smoothing_span - 1) / 2, number, levels)) - 1)


class SharedNoise(Dense):
    """The same noises, in pairs z and -z, for all images of a level."""

    def draws(self, k: int, ids: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
        z = torch.from_numpy(randomness.normal(f"annotation-shared-{k}", self.spec.seed, [0],
                                               (self.spec.num_trials // 2, *shape)))
        return torch.cat([z, -z], dim=1).expand(len(ids), *[-1] * (z.ndim - 1))

    def reference(self, images: Array) -> np.ndarray:
        """Mean P(corrupted) over images and noise, (num_sigmas,): `reference_draws` of both a level."""
        means = np.empty(len(self.sigmas))
        for k in range(len(self.sigmas)):
            random = randomness.numpy_generator("annotation-reference", self.spec.seed, k)
            rows = random.integers(len(images), size=self.spec.reference_draws)
            z = torch.from_numpy(random.standard_normal((len(rows), 1, *images.shape[1:]), np.float32))
            x0 = points(images[rows]).to(self.where)
            means[k] = np.concatenate([self.probability(x, k, noise) for x, noise in
                                       zip(x0.split(CHUNK), z.split(CHUNK), strict=True)]).mean(
                                           dtype=np.float64)
        return means

    def curves(self, p: np.ndarray, images: Array, of_all: np.ndarray | None = None) -> np.ndarray:
        """The reference, plus each image's difference from the mean, smoothed along ln sigma."""
        apart = p.astype(np.float64)  # changed in its place: there are as many as images times levels
        apart -= (p if of_all is None else of_all).mean(axis=0, dtype=np.float64)
        apart = kernel_smooth(apart, self.sigmas, self.spec.bandwidth)
        apart += self.reference(images)
        return apart

    def crossing(self, curves: np.ndarray) -> np.ndarray:
        return first_crossing(self.sigmas, curves, self.spec.epsilon, self.spec.never_crosses,
                              between=True)

    def lag(self, at: float) -> float:
        """0: the kernel is symmetric along ln sigma, so that no crossing is found late."""
        return 0.0


PROTOCOLS = {"dense": Dense, "shared_noise": SharedNoise}
