"""What a step of Ambient-o draws, and its loss: each sample at the noise levels its annotation allows.

For each image of a batch: sigma is drawn first, then a uniformly drawn eligible sample, which is
noised to its own sigma_min with its one fixed noise realisation Z_i, and from there to sigma.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset
from ambient.data.text_states import Told
from ambient.data.texts import NONE
from ambient.diffusion.augment import augmented, flipped, numbers
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.denoiser import Denoiser, per_sample
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.diffusion.noise import added_variance, lognormal
from ambient.diffusion.objective import ambient_loss, uncertain
from ambient.diffusion.patches import kept_patches, patch_mean
from ambient.specs import TrainingSpec
from ambient.training import shares
from ambient.training.ahead import Ahead, Key
from ambient.training.hardware import autocast, sent
from ambient.training.points import FixedNoise, Points


class AmbientBatches:
    """The loss of each step of a run: `loss(nimg)` is a function of (specification, nimg) only."""

    def __init__(self, spec: TrainingSpec, data: Dataset, points: Points, annotations: Annotations,
                 denoiser: Denoiser, where: torch.device, told: Told | None = None) -> None:
        """`told`: the states of the images' captions, for a network that is told them."""
        self.told = told
        self.spec, self.points, self.denoiser, self.where = spec, points, denoiser, where
        rows = annotations.of(data.ids)
        self.admission = Admission(spec.loss.buffer, spec.loss.margin)
        self.eligible = EligibleSampler(rows.sigma_min, rows.sigma_max, self.admission)
        self.labels = torch.from_numpy(data.labels)
        self.classes = data.num_classes
        self.sigma_min = torch.from_numpy(rows.sigma_min)
        # Z_i is needed only where a sample is noised to a positive, finite level of its own.
        noised = np.flatnonzero((rows.sigma_min > 0) & np.isfinite(rows.sigma_min))
        self.fixed = FixedNoise(spec.seed, data.ids, points.shape, noised)
        self.ahead = Ahead(self.read)

    def drawn(self, rows: slice, where: torch.device | str, stream: str, nimg: int) -> Blocks:
        """The random numbers of a stream for rows of the batch after `nimg` images of this phase."""
        return Blocks(rows, where, stream, self.spec.seed, self.spec.seen + nimg)

    def draw(self, nimg: int, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """(sigma, sample index, sigma_tn), each (B,), levels float64, of `rows` of the batch after `nimg`.

        sigma_tn = sigma_min where the sample is used above it; 0 where it is used below its
        sigma_max, with the ordinary objective (equation 3.4), or where `loss.sigma_tn` says zero.
        """
        noise, drawn = self.spec.noise, self.drawn(rows, "cpu", "batch", nimg)
        sigma = drawn.draw(partial(lognormal, P_mean=noise.P_mean, P_std=noise.P_std))
        u = drawn.uniform(dtype=torch.float64)
        index = torch.from_numpy(self.eligible.draw(sigma.numpy(), u.numpy()))
        level = self.sigma_min[index]
        noised = self.admission.above(sigma, level) & (self.spec.loss.sigma_tn == "sigma_min")
        return sigma, index, torch.where(noised, level, 0.0)

    def clean(self, index: Tensor, nimg: int, rows: slice) -> Tensor:
        """x_0 of images at `rows` of a batch. A latent is drawn from its posterior."""
        if self.spec.posterior == "fixed":
            return self.points.fixed(index.numpy(), self.spec.seed)
        return self.points.visited(index.numpy(), rows, self.spec.seed, self.spec.seen + nimg)

    def read(self, key: Key) -> tuple[Tensor, ...]:
        """(sigma, sample index, sigma_tn, x_0, Z) of some rows of a batch, and states of captions where the
        network is told them. All of it is computed on the CPU."""
        nimg, *rows = key
        sigma, index, sigma_tn = self.draw(nimg, slice(*rows))
        text = () if self.told is None else (self.captions(index, nimg, slice(*rows)),)
        return sigma, index, sigma_tn, self.clean(index, nimg, slice(*rows)), self.fixed[index.numpy()], *text

    def captions(self, index: Tensor, nimg: int, rows: slice) -> Tensor:
        """States (B, T, D) of the captions of images, float16: zeros, the null caption, of those dropped."""
        u = self.drawn(rows, "cpu", "caption", nimg).uniform()
        return torch.from_numpy(self.told[index.numpy()]) * (u >= self.spec.caption_dropout)[:, None, None]

    def patches(self, side: int, nimg: int, rows: slice) -> Tensor:
        """Places (B, K) of the patches that stay, of images of so many numbers along a side."""
        count = (side // self.spec.network.patch) ** 2
        scores = self.drawn(rows, self.where, "patches", nimg).uniform(count)
        return kept_patches(scores, self.spec.mask)

    def following(self, nimg: int, share: shares.Share) -> Key | None:
        """The rows that this rank will want after a share of the batch after `nimg`; None: there are none."""
        batch, more = self.spec.optimiser.batch, share.number + 1 < share.parts
        if not more and nimg + batch >= self.spec.optimiser.nimg:
            return None
        rows = shares.Share(share.number + 1 if more else 0, share.parts).rows(batch)
        return nimg if more else nimg + batch, rows.start, rows.stop

    def views(self, images: Tensor, fixed: Tensor, index: Tensor, sigma_tn: Tensor,
              drawn: Blocks) -> tuple[Tensor, dict[str, Tensor]]:
        """(x_tn, condition): augmented images at their own level, A(x_i) + sigma_tn Z_i, and their condition.

        Z_i is flipped with its image, so that all flips of a sample are of one noisy image: with noise in
        place their mean would have half the noise's variance, less than the sample's annotation demands.
        The other transforms resample: noise moved by them would be neither white nor of its level, which
        the loss takes it to be. There Z_i stays in place.
        """
        augmentation, condition = self.spec.augment, {}
        images, fixed = sent(images, self.where), sent(fixed, self.where)
        if augmentation.transforms:
            images, labels = augmented(images, drawn.draw(numbers), augmentation.p, augmentation.transforms)
            fixed, condition["augment"] = flipped(fixed, labels), labels
        if self.spec.told_classes:
            condition["classes"] = sent(one_hot(self.labels[index], self.classes).float(), self.where)
        return images + per_sample(sent(sigma_tn.float(), self.where)) * fixed, condition

    def loss(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        """The ambient loss of some rows: its mean over samples, of sums or means over pixels."""
        spec = self.spec
        rows = share.rows(spec.optimiser.batch)
        sigma, index, sigma_tn, images, fixed, *text = self.ahead(
            (nimg, rows.start, rows.stop), self.following(nimg, share))
        drawn = self.drawn(rows, self.where, "noise", nimg)
        x_tn, condition = self.views(images, fixed, index, sigma_tn, drawn)
        if text:
            condition["text"] = sent(text[0], self.where).to(x_tn)
        if spec.mask:
            condition["patches"] = self.patches(x_tn.shape[-1], nimg, rows)
        extra = added_variance(sigma, sigma_tn).sqrt().float()  # of levels in float64: admitted, so positive
        x_t = x_tn + per_sample(sent(extra, self.where)) * drawn.normal(*x_tn.shape[1:])
        sigma, sigma_tn = sent(sigma, self.where), sent(sigma_tn, self.where)
        with autocast(spec.optimiser.precision, self.where):
            denoised = self.denoiser(x_t, sigma, condition, drawn.bernoulli)
        loss = ambient_loss(denoised, x_t, x_tn, sigma, sigma_tn, spec.sigma_data,
                            spec.loss.weight == "ambient", spec.loss.weight_clip)
        if (log_variance := self.denoiser.log_variance(sigma)) is not None:
            loss = uncertain(loss, log_variance)
        return self.reduced(loss, condition.get("patches"))

    def reduced(self, loss: Tensor, patches: Tensor | None) -> Tensor:
        """The mean over samples of the loss (B, C, S, S), of each the sum or the mean over its numbers.

        Where patches were left out the mean is that of those that stayed, and the sum as many numbers times
        that mean as the whole sample has.
        """
        if patches is None and self.spec.loss.reduction == "sum":
            return loss.sum() / len(loss)
        means = loss.flatten(1).mean(1) if patches is None else patch_mean(
            loss, self.spec.network.patch, patches)
        return means.mean() * (loss[0].numel() if self.spec.loss.reduction == "sum" else 1)


def classes(data: Dataset, annotations: Annotations) -> list[int]:
    """The classes of the images that some noise level admits, rising: those that can be asked for.

    A subset of a dataset keeps its labels, so there may be gaps in 0 to `num_classes` - 1.
    """
    rows = annotations.of(data.ids)
    usable = np.isfinite(rows.sigma_min) | (rows.sigma_max > 0)
    return np.unique(data.labels[usable & (data.labels >= 0)]).tolist()


def check(spec: TrainingSpec, data: Dataset) -> None:
    """Refuse a dataset that the specification can't be trained on, before compute is spent."""
    if spec.told_classes and (data.labels < 0).any():
        raise ValueError("network.conditional is true, but the dataset has images without a label: "
                         "give labels to all, or set conditional: false")
    rows = np.full(len(data.ids), NONE) if data.captions is None else data.captions.rows
    if spec.told_captions and len(without := data.ids[rows == NONE]):
        raise ValueError(f"network.conditional is true, but image {without[0]} has no caption, nor have "
                         f"{len(without) - 1} others: give captions to all, or set conditional: false")
