"""How far samples are from their nearest training image, and from the nearest of as many unseen images.

The nearest of many images is nearer than that of few. So both sets are cut into parts of the same number of
images, drawn at random, and a distance is to the nearest image of a part, in the mean over parts. A denoiser
that memorises nothing has samples as near to the one set as to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch

from ambient.diffusion import randomness
from ambient.jobs.shards import collect
from ambient.jobs.state import State
from ambient.storage.arrays import Array

BATCH = 250
SHARD = 4 * BATCH  # images that are compared, and saved, together
NONE = -1  # the part of an image that is in none

Features = Callable[[np.ndarray], np.ndarray]  # uint8 images (N, C, H, W) -> numbers (N, D)


def parts_of(ids: np.ndarray, size: int, seed: int, stream: str) -> np.ndarray:
    """The part (N,) of each image, of floor(N / size) parts of `size` images: a function of (seed, id)."""
    order = np.argsort(randomness.uniform(f"neighbours-{stream}", seed, ids), kind="stable")
    part = np.full(len(ids), NONE)
    used = len(ids) // size * size
    part[order[:used]] = np.arange(used) // size
    return part


def distances(samples: np.ndarray, images: Array, rows: np.ndarray, part: np.ndarray, features: Features,
              where: torch.device, name: str, state: State) -> np.ndarray | None:
    """The Euclidean distance (S, P) of each sample (S, D) to the nearest image of each part.

    `rows` are places of images in `images`, of which `part` (as many) says the part. They are compared in
    shards (`ambient.jobs.shards`), whose pieces begin with `name`; None but on the first rank.
    """
    kept, count = np.flatnonzero(part != NONE), int(part.max(initial=NONE)) + 1
    a = torch.from_numpy(samples).to(where, torch.float64)
    shards = [kept[first:first + SHARD] for first in range(0, len(kept), SHARD)]

    def make(number: int) -> dict[str, np.ndarray]:
        least = torch.full((len(a), count), torch.inf, dtype=torch.float64, device=where)
        for first in range(0, len(shards[number]), BATCH):
            chosen = shards[number][first:first + BATCH]
            b = torch.from_numpy(features(images[rows[chosen]])).to(where, torch.float64)
            index = torch.from_numpy(part[chosen]).to(where).expand(len(a), -1)
            least = least.scatter_reduce(1, index, squared_distances(a, b), "amin")
        return {"least": least.cpu().numpy()}

    pieces = [(f"{name}-{number}", len(shard)) for number, shard in enumerate(shards)]
    found = collect(f"neighbours: {name}", state, pieces, make)
    return None if found is None else np.sqrt(reduce(np.minimum, (piece["least"] for piece in found)))


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """|a - b|^2 = |a|^2 - 2 a.b + |b|^2 of each row of a (S, D) to each of b (B, D), float64, (S, B).

    Of near copies it is a small difference of large numbers, which float32 would lose.
    """
    return ((a**2).sum(dim=1, keepdim=True) - 2 * a @ b.T + (b**2).sum(dim=1)).clamp(min=0)


def compared(train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """What the distances (S, P) to training images and those (S, Q) to unseen ones say.

    Means over samples and parts, with standard errors over samples; the share of the pairs of parts in which
    a sample is nearer to the training images, 0.5 where nothing is memorised.
    """
    to_train, to_test = train.mean(axis=1), test.mean(axis=1)
    nearer = (train[:, :, None] < test[:, None, :]).mean(axis=(1, 2))
    found = {}
    for key, values in (("train", to_train), ("test", to_test), ("difference", to_test - to_train),
                        ("nearer_to_train", nearer)):
        found |= {key: values.mean(), f"{key}_stderr": values.std(ddof=1) / np.sqrt(len(values))}
    return found
