"""Images as figures show them: a few of a dataset, corrupted as the mixture's are, and noised."""

from __future__ import annotations

import numpy as np

from ambient.data import corruptions
from ambient.data.datasets import Dataset, to_float, to_uint8
from ambient.data.shown import shown
from ambient.diffusion import randomness
from ambient.specs import FigureSpec, MixtureSpec

SCALED = "Noised images are scaled to be seen."


def chosen(spec: FigureSpec, data: Dataset) -> np.ndarray:
    """The rows shown: a few, drawn by id."""
    return shown(data.ids, spec.images, spec.seed)


def corrupted(one: MixtureSpec, data: Dataset, rows: np.ndarray) -> np.ndarray:
    """The images of `rows` under a corruption, uint8, as the `corrupt` stage makes them."""
    return np.stack([to_uint8(corruptions.corrupt(
        to_float(data.images[row]), randomness.numpy_generator("corrupt", one.seed, int(data.ids[row])),
        one.op, one.params)) for row in rows])


def noised(images: np.ndarray, sigma: np.ndarray | float, seed: int) -> np.ndarray:
    """x_0 + sigma z as uint8, scaled by 1 / sqrt(1 + 4 sigma^2) to be seen."""
    z = randomness.normal("shown-noise", seed, range(len(images)), images.shape[1:])
    sigma = np.broadcast_to(np.asarray(sigma, np.float32), len(images))[:, None, None, None]
    return to_uint8((to_float(images) + sigma * z) / np.sqrt(1 + 4 * sigma**2))
