"""Detector `selfnet`: small networks that learn from the images alone, without classes or outside weights.

Each image of a batch is changed in two ways, and the networks learn to tell which two views are of one image.
For that they have to see what an image shows. They learn from the dataset that distances are to, so from good
images alone: those that learn from bad ones too tell images apart by how bad they are, and see little else.

Source: Chen et al. 2020 (arXiv:2002.05709).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.evaluation.detectors import classifier
from ambient.specs import DetectorSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ambient.evaluation.small_nets import SmallNets
    from ambient.jobs.state import State
    from ambient.storage.arrays import Array
    from ambient.training.loop import LossOf

FEWEST = 20  # images: of these two are kept apart
PROJECTED = 64  # numbers for each view, whose directions are compared
TEMPERATURE = 0.2
LEAST = 1e-4  # of a standard deviation that is divided by
SMALLEST, LARGEST = 8, 32  # pixels of a side that the networks' first layer sees
GEOMETRY = ("scale", "rotate", "aniso", "translate")
CONTRAST, BRIGHTNESS = 0.4, 0.2  # of views: factors of 1 +- 0.4, shifts of +- 0.2


@dataclass(frozen=True)
class Spec(classifier.Spec):
    """`members` networks side by side; `features` and `channels` are each one's. The metric: `fd-<name>`."""

    NEEDS_CLASSES: ClassVar[bool] = False
    GIVES: ClassVar[tuple[str, ...]] = ("features",)
    OBJECTS_BY: ClassVar[tuple[str, ...]] = ()
    VIEWS: ClassVar[int] = 2

    def seen(self, channels: int, resolution: int) -> tuple[int, int]:
        by = factor(resolution)
        return channels * by**2, resolution // by


def make(spec: Spec, record, *, data: Path, weights: None, state: State, out: Path) -> None:
    """Train on the images at `data`. How well views of images kept apart are matched is recorded.

    Where little more than chance is (`accuracy`, `chance`), the networks have learnt little about the images.
    Raises `ValueError` for fewer than FEWEST images.
    """
    from ambient.data.datasets import read
    from ambient.evaluation import small_nets
    from ambient.storage.arrays import selected, some

    images = read(data).images
    if len(images) < FEWEST:
        raise ValueError(f"{data}: has {len(images)} images, a detector of kind selfnet needs {FEWEST} or "
                         "more: it learns by comparing them")
    every = np.arange(len(images))
    train, check = (selected(images, (every % classifier.CHECKED == 0) == kept) for kept in (False, True))
    network = small_nets.build(spec, images.shape[1] * factor(images.shape[-1])**2, PROJECTED)
    small_nets.learn(spec, network, loss_of(spec, network, train), state)
    compared = np.asarray(some(check, spec.batch))
    record.facts |= {"images_seen": spec.nimg, "checked_images": len(compared),
                     "accuracy": matched(spec, network, compared), "chance": 1 / (2 * len(compared) - 1)}
    record.facts |= state.history()
    small_nets.save(out, network)


def loss_of(spec: DetectorSpec, network: SmallNets, images: Array) -> LossOf:
    """The members' summed loss on views of images uint8 (N, C, H, H), a function of images seen.

    Each view is compared with all others of its batch. So every rank computes the whole batch.
    """
    import torch

    from ambient.data.datasets import to_float
    from ambient.diffusion import randomness
    from ambient.training.hardware import autocast, device, sent

    def loss(nimg: int, share: object = None) -> Tensor:
        generator = randomness.torch_generator("cpu", "selfnet", spec.seed, nimg)
        rows = torch.randperm(len(images), generator=generator)[:spec.batch]
        known = torch.from_numpy(to_float(images[rows.numpy()]))
        views = torch.cat([view(known, generator) for _ in range(2)])
        with autocast("bfloat16", device()):
            projected = network(sent(fold(views), device())).float()
        return contrastive(projected)

    return loss


def contrastive(projected: Tensor) -> Tensor:
    """The normalised and temperature-scaled cross-entropy of M members, summed over them, a scalar.

    projected (M, 2 B, P): views k and k + B are of one image. Each number is standardised over the views, as
    batch normalisation does. With s_ij the cosine of views i and j over TEMPERATURE, and p(i) the other view
    of i's image, the loss (equation 1 of Chen et al.) is the sum over members of the mean over i of
    -ln(exp(s_ip(i)) / sum over j other than i of exp(s_ij)).
    """
    from torch.nn.functional import cross_entropy

    similar, partner = similarities(projected)
    return len(similar) * cross_entropy(similar.flatten(0, 1), partner.repeat(len(similar)))


def similarities(projected: Tensor) -> tuple[Tensor, Tensor]:
    """s (M, 2 B, 2 B), -inf for a view and itself; and p (2 B,), as in `contrastive`."""
    import torch
    from torch.nn.functional import normalize

    spread, mean = torch.std_mean(projected, dim=1, correction=0, keepdim=True)
    direction = normalize((projected - mean) / (spread + LEAST), dim=2)
    similar = direction @ direction.mT / TEMPERATURE
    itself = torch.eye(similar.shape[1], dtype=torch.bool, device=similar.device)
    count = len(itself) // 2
    partner = torch.arange(2 * count, device=similar.device).roll(count)
    return similar.masked_fill(itself, -torch.inf), partner


def matched(spec: DetectorSpec, network: SmallNets, images: np.ndarray) -> float:
    """The share of views, two of each image, whose most similar other view is of their own image."""
    import torch

    from ambient.data.datasets import to_float
    from ambient.diffusion import randomness
    from ambient.training.hardware import device

    generator = randomness.torch_generator("cpu", "selfnet-check", spec.seed)
    known = torch.from_numpy(to_float(images))
    with torch.no_grad():
        views = torch.cat([view(known, generator) for _ in range(2)])
        similar, partner = similarities(network(fold(views).to(device())))
    return (similar.argmax(2) == partner).float().mean().item()


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, H) in [-1, 1], each changed at random: moved, turned and stretched
    (`ambient.diffusion.augment`, each with probability 1/2), and of another contrast and brightness.

    None of it blurs an image, adds noise, compresses it or hides a part: to such changes the features should
    not be blind.
    """
    import torch

    from ambient.diffusion.augment import augment

    moved, _ = augment(images, generator, 0.5, GEOMETRY)
    factors, shifts = 2 * torch.rand(2, len(images), 1, 1, 1, generator=generator) - 1
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (1 + CONTRAST * factors) * (moved - mean) + BRIGHTNESS * shifts


def factor(side: int) -> int:
    """By how much each side of an image is folded, so that the networks see at most LARGEST pixels of it."""
    if side <= LARGEST:
        return 1
    return next((by for by in range(2, side // SMALLEST + 1) if side % by == 0 and side // by <= LARGEST), 1)


def fold(images: Tensor) -> Tensor:
    """(B, C, H, H) as (B, C f^2, H / f, H / f) with f = `factor`: each square of pixels becomes channels.

    Nothing is lost, and large images cost little more than small ones.
    """
    from torch.nn.functional import pixel_unshuffle

    return pixel_unshuffle(images, factor(images.shape[-1]))


def features(spec: DetectorSpec, path: Path) -> Callable[[np.ndarray], Tensor]:
    """Features of all members side by side; images are folded and not resized."""
    import torch

    from ambient.evaluation import small_nets

    of = small_nets.features(path)
    return lambda images: of(fold(torch.from_numpy(images)).numpy())
