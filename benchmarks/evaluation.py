"""Scoring: the distance against scipy's general square root, the route against clean-fid's image folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from cleanfid import fid
from PIL import Image
from scipy.linalg import sqrtm

from ambient.evaluation import features
from ambient.evaluation.detectors import inception
from ambient.evaluation.frechet import Moments, frechet_distance, moments
from ambient.specs import DetectorSpec
from ambient.storage.files import sha256
from benchmarks.timing import Pair, paired


def by_sqrtm(first: Moments, second: Moments) -> float:
    """The textbook formula, as FID programs have it."""
    gap = first.mean - second.mean
    cross = np.trace(sqrtm(first.covariance @ second.covariance)).real
    return float(gap @ gap + np.trace(first.covariance) + np.trace(second.covariance) - 2 * cross)


def distance(dimensions: int, repeats: int) -> Pair:
    """Two random sets of moments of twice as many samples as dimensions; both must agree."""
    draws = np.random.default_rng(0)
    sets = []
    for _ in range(2):
        drawn = draws.standard_normal((2 * dimensions, dimensions)) * np.geomspace(1, 0.01, dimensions)
        sets.append(Moments(drawn.mean(0), np.cov(drawn, rowvar=False), len(drawn)))
    found, expected = frechet_distance(*sets), by_sqrtm(*sets)
    if abs(found - expected) > 1e-6 * max(abs(expected), 1):
        raise ArithmeticError(f"the two distances differ: {found} and {expected}")
    return paired(f"Frechet distance, {dimensions} dimensions", "distances", 1,
                  lambda: by_sqrtm(*sets), lambda: frechet_distance(*sets), repeats)


class Means(torch.nn.Module):
    """In Inception's place: 2,048 copies of the channel means. Costs nothing, so that the route is timed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                                          torch.nn.Linear(3, inception.FEATURES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers((x - 128) / 128)


def route(count: int, repeats: int) -> Pair:
    """From uint8 samples to their distance: clean-fid's folder of images against arrays.

    Both end in the same features, and in clean-fid's and our distance at 2,048 dimensions.
    """
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    network, spec = Means().eval(), DetectorSpec("inception")
    target = moments(np.random.default_rng(1).standard_normal((2 * inception.FEATURES, inception.FEATURES)))
    with tempfile.TemporaryDirectory() as name:
        weights = Path(name, "stand-in.pt")
        torch.jit.script(network).save(weights)
        known = mock.patch.object(inception, "INCEPTION_SHA256", sha256(weights))  # no other file is run

        def by_folder() -> float:
            with tempfile.TemporaryDirectory(dir=name) as folder:
                for number, image in enumerate(images):
                    Image.fromarray(image.transpose(1, 2, 0)).save(Path(folder, f"{number:06}.png"))
                found = fid.get_folder_features(folder, network, num_workers=torch.get_num_threads(),
                                                device=torch.device("cpu"), verbose=False)
            made.append(found)
            return fid.frechet_distance(found.mean(0), np.cov(found, rowvar=False), target.mean,
                                        target.covariance)

        def by_arrays() -> float:
            with known:
                found = features.extract(spec, weights, images)
            made.append(found)
            return frechet_distance(moments(found), target)

        made: list[np.ndarray] = []
        one, other = by_folder(), by_arrays()
        np.testing.assert_allclose(*made, atol=1e-4)
        if abs(one - other) > 1e-3 * abs(one):
            raise ArithmeticError(f"the two distances differ: {one} and {other}")
        return paired(f"samples to distance, {count:,} images, stand-in network", "images", count, by_folder,
                      by_arrays, repeats)
