"""What a noise classifier is trained on, and how well it does on images that it was not trained on.

With `crop` it sees a square at a random place of each image, zeros elsewhere (section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from ambient.annotation.classifier import NoiseClassifier
from ambient.annotation.nuisances import varied
from ambient.data.datasets import Dataset
from ambient.diffusion import crops, randomness
from ambient.diffusion.augment import augment
from ambient.diffusion.network import rows_of
from ambient.diffusion.noise import lognormal
from ambient.specs import ClassifierSpec
from ambient.training import shares
from ambient.training.hardware import autocast
from ambient.training.points import Points

LEVELS = 17  # noise levels of the calibration report
HELD_OUT_DRAWS = 2048  # (image, noise) pairs of each class and level, at most


@dataclass(frozen=True)
class Split:
    """Row numbers of a mixture: [clean, corrupted] for training, and held out."""

    train: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]


def split(data: Dataset, holdout: float, seed: int) -> Split:
    """Hold out a fraction of the clean and of the corrupted images, by (seed, id).

    Raises `ValueError` where a class is too small to be both trained on and held out.
    """
    if data.corrupted is None:
        raise ValueError("the dataset is not a mixture: it says of no image whether it is corrupted")
    train, held_out = [], []
    for kind, name in enumerate(("clean", "corrupted")):
        rows = np.flatnonzero(data.corrupted == kind)
        if len(rows) < 4:
            raise ValueError(f"{len(rows)} {name} images: a noise classifier needs at least 4 of each "
                             "kind (raise or lower clean_fraction)")
        rows = rows[np.argsort(randomness.uniform("holdout", seed, data.ids[rows]), kind="stable")]
        count = min(max(round(holdout * len(rows)), 1), len(rows) - 1)
        held_out.append(np.sort(rows[:count]))
        train.append(np.sort(rows[count:]))
    return Split(tuple(train), tuple(held_out))


class ClassifierBatches:
    """The loss of each training step, and of the held-out images."""

    def __init__(self, spec: ClassifierSpec, data: Dataset, points: Points, network: NoiseClassifier,
                 where: torch.device) -> None:
        self.spec, self.points, self.network, self.where = spec, points, network, where
        self.split = split(data, spec.holdout, spec.seed)

    def draw(self, nimg: int) -> tuple[np.ndarray, np.ndarray]:
        """(row, label) of the batch after `nimg` images; label 1 is corrupted.

        Balanced: the first half clean, the second corrupted. Unbalanced: uniform over all.
        """
        count = self.spec.optimiser.batch
        random = randomness.numpy_generator("classifier-batch", self.spec.seed, nimg)
        clean, corrupted = self.split.train
        if self.spec.sampling == "balanced":
            half = count // 2
            rows = np.concatenate([random.choice(clean, half), random.choice(corrupted, count - half)])
            return rows, (np.arange(count) >= half).astype(np.float32)
        pick = random.integers(len(clean) + len(corrupted), size=count)
        return np.concatenate([clean, corrupted])[pick], (pick >= len(clean)).astype(np.float32)

    def loss(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        """Mean cross-entropy of equation 3.1."""
        spec = self.spec
        rows, labels = self.draw(nimg)
        levels = randomness.torch_generator("cpu", "classifier-sigma", spec.seed, nimg)
        sigma = lognormal(len(rows), spec.noise.P_mean, spec.noise.P_std, levels)
        generator = randomness.torch_generator(self.where, "classifier-noise", spec.seed, nimg)
        images, condition = self.points.visited(rows, "classifier", spec.seed, nimg).to(self.where), {}
        if spec.augment.transforms:
            images, condition["augment"] = augment(images, generator, spec.augment.p, spec.augment.transforms)
        if spec.nuisances:
            images = varied(images, randomness.torch_generator(
                self.where, "classifier-nuisance", spec.seed, nimg), spec.nuisances)
        sigma = sigma.to(images)
        z = torch.randn(images.shape, generator=generator, device=self.where)
        x = images + sigma.reshape(-1, 1, 1, 1) * z
        if spec.crop is not None:  # the classifier sees nothing else, of image or noise
            positions = randomness.torch_generator(self.where, "classifier-crop", spec.seed, nimg)
            x = x * crops.random_squares(len(x), x.shape[-1], spec.crop, positions)
        mine = share.rows(len(x))
        with autocast(spec.optimiser.precision, self.where):
            logits = self.network(x[mine], sigma[mine], rows_of(condition, mine), share.masks(generator))
        return cross_entropy(logits, torch.from_numpy(labels[mine]).to(logits))

    @torch.no_grad()
    def calibration(self, weights: dict[str, Tensor]) -> list[dict]:
        """Held-out behaviour at fixed levels: for clean and corrupted images, the mean P(clean).

        `cross_entropy` is the mean of both classes' (balanced), ln 2 = 0.693 if they can't be told
        apart; `accuracy` is balanced too. `weight` is the training density of the level, `offset` what
        `recalibrate` adds to the logit there (all numbers are after it).
        """
        before = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(weights)
        self.network.eval()
        noise = self.spec.noise
        normal = torch.linspace(-2.5, 2.5, LEVELS, dtype=torch.float64)
        density = torch.softmax(-(normal**2) / 2, dim=0)
        report = []
        for z, weight in zip(normal.tolist(), density.tolist(), strict=True):
            sigma = float(np.exp(noise.P_mean + noise.P_std * z))
            logits = [self.held_out_logits(kind, sigma) for kind in (0, 1)]
            offset = held_out_offset(*logits) if self.spec.recalibrate == "bias" else 0.0
            logits = [values + offset for values in logits]
            losses = [cross_entropy(v, torch.full_like(v, kind)) for kind, v in enumerate(logits)]
            right = [(logits[0] < 0).float().mean(), (logits[1] > 0).float().mean()]
            report.append({
                "sigma": sigma, "weight": weight, "offset": offset,
                "p_clean_of_clean": torch.sigmoid(-logits[0]).mean().item(),
                "p_clean_of_corrupted": torch.sigmoid(-logits[1]).mean().item(),
                "cross_entropy": (sum(losses) / 2).item(), "accuracy": (sum(right) / 2).item()})
        self.network.load_state_dict(before)
        self.network.train()
        return report

    def held_out_logits(self, kind: int, sigma: float) -> Tensor:
        """Logits of the held-out images of a class at a level; few images get several draws."""
        rows = self.split.held_out[kind]
        rows = rows[:HELD_OUT_DRAWS // 4]
        rows = np.repeat(rows, max(1, min(16, HELD_OUT_DRAWS // 4 // len(rows))))
        generator = randomness.torch_generator("cpu", "held-out", self.spec.seed, kind, sigma)
        x = self.points.fixed(rows, self.spec.seed) + sigma * torch.randn(
            (len(rows), *self.points.shape), generator=generator)
        if self.spec.crop is not None:
            x = x * crops.random_squares(len(x), x.shape[-1], self.spec.crop, generator)
        with autocast(self.spec.optimiser.precision, self.where):
            return torch.cat([self.network(part.to(self.where), torch.full((len(part),), sigma,
                                                                          device=self.where))
                              for part in x.split(256)])


def held_out_offset(clean: Tensor, corrupted: Tensor) -> float:
    """The number to add to logits so that their balanced cross-entropy is least on held-out images.

    At its minimum the mean of P(corrupted) over both classes is 1/2 (its derivative is that mean minus
    1/2, and rises). A classifier that has memorised its few clean images takes new ones for corrupted:
    without the shift P(clean) settles below tau at noise levels where nothing can be told apart.
    Searched in [-10, 10] by bisection.
    """
    low, high = -10.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        mean = (torch.sigmoid(clean + middle).mean() + torch.sigmoid(corrupted + middle).mean()) / 2
        low, high = (middle, high) if mean < 0.5 else (low, middle)
    return (low + high) / 2
