"""Small networks that learn in the workflow, several as one detector: their layers, training and file.

A detector that learns something else than classes takes `build`, `learn`, `save` and `features` as they are,
and brings its own loss in the place of `ClassBatches`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ambient.data.datasets import to_float
from ambient.diffusion import randomness
from ambient.diffusion.augment import augmented, numbers
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.networks.operators import Pool
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import DetectorSpec, OptimiserSpec
from ambient.storage.arrays import Array
from ambient.storage.files import naming
from ambient.training import shares
from ambient.training.hardware import autocast, device, sent
from ambient.training.loop import LossOf, fit
from ambient.training.weights import read_description, read_weights, save_weights

AUGMENT = ("scale", "rotate", "translate")
SHAPE = ("members", "channels_in", "channels", "features", "classes")  # of `SmallNets`, in its file's words


class SmallNet(nn.Module):
    """A small residual-free CNN: three stride-2 blocks, then a `features`-wide layer, then `outputs`.

    The activations before the last layer are the features.
    """

    def __init__(self, channels_in: int, channels: int, features: int, outputs: int) -> None:
        super().__init__()
        layers, width = [], channels_in
        for out in (channels, 2 * channels, 4 * channels):
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU(),
                       nn.Conv2d(out, out, 3, padding=1), nn.GroupNorm(8, out), nn.SiLU(),
                       nn.AvgPool2d(2)]
            width = out
        self.body = nn.Sequential(*layers, Pool(2), nn.Flatten(),
                                  nn.Linear(4 * width, features))
        self.head = nn.Linear(features, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, outputs) for images (B, C, H, W) in [-1, 1]."""
        return self.head(torch.nn.functional.silu(self.body(x)))


class SmallNets(nn.Module):
    """Several `SmallNet`s that differ in their initial weights, as one detector.

    Networks that class images equally well see different things in them: a distance by one of them is a draw
    that can exchange the order of methods. The features are those of all M members side by side, divided by
    sqrt(M), so that a squared distance of means is the members' average.
    """

    def __init__(self, members: int, *shape: int) -> None:
        super().__init__()
        self.shape = (members, *shape)  # as `SHAPE` has it
        self.members = nn.ModuleList(SmallNet(*shape) for _ in range(members))

    def features(self, x: Tensor) -> Tensor:
        """(B, M D) for images (B, C, H, W) in [-1, 1]."""
        return torch.cat([member.body(x) for member in self.members], dim=1) / len(self.members) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Each member's outputs, (M, B, outputs)."""
        return torch.stack([member(x) for member in self.members])


def build(spec: DetectorSpec, channels_in: int, outputs: int) -> SmallNets:
    """Networks of a specification before training; their weights are drawn by its seed."""
    network = SmallNets(spec.members, channels_in, spec.channels, spec.features, outputs)
    generator = randomness.torch_generator("cpu", "init", spec.seed)
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    return network


class ClassBatches:
    """The members' summed cross-entropy on augmented training images, a function of images seen.

    Images are uint8 (N, C, H, W), labels int64 (N,).
    """

    def __init__(self, spec: DetectorSpec, network: SmallNets, images: Array,
                 labels: np.ndarray) -> None:
        self.spec, self.network, self.processor = spec, network, device()
        self.images, self.labels = images, torch.from_numpy(labels)

    def logits(self, nimg: int, share: shares.Share) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (M, B, classes) of a share of the batch that begins after `nimg` images, labels, index)."""
        drawn = Blocks(share.rows(self.spec.batch), "cpu", "detector", self.spec.seed, nimg)
        index = drawn.integers(len(self.images))
        x = torch.from_numpy(to_float(self.images[index.numpy()]))
        images, _ = augmented(x, drawn.draw(numbers), 0.5, AUGMENT)
        with autocast("bfloat16", self.processor):
            logits = self.network(sent(images, self.processor)).float()
        return logits, sent(self.labels[index], self.processor), index

    def __call__(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        logits, labels, _ = self.logits(nimg, share)
        return len(logits) * cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))


class FoldBatches(ClassBatches):
    """The loss of `ClassBatches`, where member k learns nothing from the images of fold k.

    folds: int64 (N,) in [0, M), of each image. Each member's loss is a sum over the rows that it may see,
    over the number of them that is expected: so it does not depend on how a batch is shared out.
    """

    def __init__(self, spec: DetectorSpec, network: SmallNets, images: Array, labels: np.ndarray,
                 folds: np.ndarray) -> None:
        super().__init__(spec, network, images, labels)
        self.folds = torch.from_numpy(folds)

    def __call__(self, nimg: int, share: shares.Share = shares.WHOLE) -> Tensor:
        logits, labels, index = self.logits(nimg, share)
        members, count, _ = logits.shape
        losses = cross_entropy(logits.flatten(0, 1), labels.repeat(members), reduction="none")
        seen = sent(torch.arange(members)[:, None] != self.folds[index], self.processor)
        return (losses.reshape(members, count) * seen).sum() / (count * (1 - 1 / members))


def learn(spec: DetectorSpec, network: SmallNets, loss: LossOf, state: State) -> None:
    """Train the networks of `build`, on the device, by a loss that is the sum over members."""
    network.to(device())
    optimiser = OptimiserSpec(nimg=spec.nimg, batch=spec.batch, lr=spec.lr, ramp_nimg=0,
                              decay="cosine", clip=spec.members**0.5, ema_halflife_nimg=spec.batch,
                              ema_ramp=1.0, precision="bfloat16")
    fit("detector", network, optimiser, loss, state, (), lambda nimg, averages: None)
    network.eval()


@torch.no_grad()
def accuracy(network: SmallNets, images: Array, labels: np.ndarray) -> float:
    """Share of the images whose class is right, in the mean over members."""
    known, right = torch.from_numpy(labels), 0
    for first in range(0, len(images), 500):
        part = slice(first, first + 500)
        x = torch.from_numpy(to_float(images[part])).to(device())
        right += (network(x).argmax(2).cpu() == known[part]).sum().item()
    return right / len(images) / len(network.members)


@torch.no_grad()
def log_probabilities(network: SmallNets, images: np.ndarray) -> np.ndarray:
    """ln p (M, N, classes), float32, of each member for uint8 images (N, C, H, W), as they are."""
    parts = [network(torch.from_numpy(to_float(images[first:first + 500])).to(device())).log_softmax(2).cpu()
             for first in range(0, len(images), 500)]
    return torch.cat(parts, dim=1).numpy()


def save(path: Path, network: SmallNets) -> None:
    """Write the networks' weights, with the shape to build them again."""
    patiently(save_weights, path, network.state_dict(), dict(zip(SHAPE, network.shape, strict=True)))


def load(path: Path) -> SmallNets:
    """The networks of a file, on the device."""
    about = read_description(path)
    with naming(path):
        network = SmallNets(*(about[key] for key in SHAPE))
        network.load_state_dict(read_weights(path))
    return network.to(device()).eval()


def features(path: Path) -> Callable[[np.ndarray], Tensor]:
    """Features of uint8 images (N, C, H, W) by the networks of a file; it takes images as they are."""
    network = load(path)
    return lambda images: network.features(torch.from_numpy(to_float(images)).to(device()))
