"""What a noise classifier is trained on, and how well it does on images that it was not trained on.

With `crop` it sees a square at a random place of each image, zeros elsewhere (section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from ambient.annotation import nuisances
from ambient.annotation.classifier import NoiseClassifier
from ambient.data.datasets import Dataset
from ambient.diffusion import crops, randomness
from ambient.diffusion.augment import augmented, numbers
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.noise import lognormal
from ambient.specs import ClassifierSpec
from ambient.training import shares
from ambient.training.hardware import autocast, sent
from ambient.training.points import Points


@dataclass(frozen=True)
class Split:
    """Row numbers of a mixture: [clean, corrupted] for training, and held out, in the order of the draw."""

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
        held_out.append(rows[:count])
        train.append(np.sort(rows[count:]))
    return Split(tuple(train), tuple(held_out))


class ClassifierBatches:
    """The loss of each training step, and of the held-out images."""

    def __init__(self, spec: ClassifierSpec, data: Dataset, points: Points, network: NoiseClassifier,
                 where: torch.device) -> None:
        self.spec, self.points, self.network, self.where = spec, points, network, where
        self.split = split(data, spec.holdout, spec.seed)
        self.learnt_from = np.concatenate(self.split.train)  # clean images first

    def draw(self, nimg: int, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """(image, label), (B,) each, of `rows` of the batch after `nimg` images; label 1 is corrupted.

        Balanced: the first half of the batch clean, the second corrupted. Unbalanced: uniform over all.
        """
        u = Blocks(rows, "cpu", "classifier-batch", self.spec.seed, nimg).uniform(dtype=torch.float64).numpy()
        clean, corrupted = (len(images) for images in self.split.train)
        first, count = np.zeros(len(u), np.int64), np.full(len(u), clean + corrupted)
        if self.spec.sampling == "balanced":
            bad = np.arange(rows.start, rows.stop) >= self.spec.optimiser.batch // 2
            first, count = np.where(bad, clean, 0), np.where(bad, corrupted, clean)
        pick = first + np.minimum((u * count).astype(np.int64), count - 1)
        return self.learnt_from[pick], (pick >= clean).astype(np.float32)

    def loss(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        """Mean cross-entropy of equation 3.1."""
        spec = self.spec
        rows = share.rows(spec.optimiser.batch)

        def drawn(what: str, where: torch.device | str = self.where) -> Blocks:
            return Blocks(rows, where, f"classifier-{what}", spec.seed, nimg)

        index, labels = self.draw(nimg, rows)
        sigma = drawn("sigma", "cpu").draw(
            partial(lognormal, P_mean=spec.noise.P_mean, P_std=spec.noise.P_std))
        images = sent(self.points.visited(index, rows, "classifier", spec.seed, nimg), self.where)
        condition = {}
        noise = drawn("noise")
        if spec.augment.transforms:
            images, condition["augment"] = augmented(images, noise.draw(numbers), spec.augment.p,
                                                     spec.augment.transforms)
        if spec.nuisances:
            changes = drawn("nuisance").draw(partial(nuisances.numbers, channels=images.shape[1]))
            images = nuisances.varied(images, changes, spec.nuisances)
        sigma = sent(sigma.float(), self.where)
        x = images + sigma.reshape(-1, 1, 1, 1) * noise.normal(*images.shape[1:])
        if spec.crop is not None:  # the classifier sees nothing else, of image or noise
            x = x * drawn("crop").draw(partial(crops.random_squares, side=x.shape[-1], crop=spec.crop))
        with autocast(spec.optimiser.precision, self.where):
            logits = self.network(x, sigma, condition, noise.bernoulli)
        return cross_entropy(logits, sent(torch.from_numpy(labels), self.where).to(logits))

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
        normal = torch.linspace(-2.5, 2.5, self.spec.LEVELS, dtype=torch.float64)
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
        asked, draws = self.spec.held_out_draws(len(self.split.held_out[kind]))
        rows = np.repeat(np.sort(self.split.held_out[kind][:asked]), draws)
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
