"""What a detector's distance is for images that are known, beside which a score of samples is read.

A distance has no unit, and grows as fewer images are compared. So it says little until one knows what good
images that are held out would score (the floor), and what the bad ones do.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ambient.diffusion import randomness
from ambient.evaluation.frechet import Moments, frechet_distance, moments, without
from ambient.specs import LandmarksSpec

GOOD, MIXED, BAD = "good, held out", "good and bad as mixed", "bad"


def drawn(spec: LandmarksSpec, good: int, bad: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The rows of the images that are compared in each draw: good ones that are held out, and bad ones.

    Of each `num_samples`, or fewer: at most half of the good ones, and as many bad ones as there are.
    """
    count = min(spec.num_samples, good // 2)
    found = []
    for draw in range(spec.draws):
        rng = randomness.numpy_generator("landmarks", spec.seed, draw)
        found.append((rng.permutation(good)[:count], rng.permutation(bad)[:count]))
    return found


def distances(whole: Moments, held: np.ndarray, worse: np.ndarray,
              share: float) -> list[tuple[str, float, int, int]]:
    """(which images, distance, how many, of how many others) for one draw.

    `whole`: moments of all good images. held (n, D) are the features of those that are held out, worse (m, D)
    those of bad ones, `share` is that of the bad ones in the mixture. Distances are to the good images that
    are not held out. Each set has n images, or fewer where there are not so many bad ones.
    """
    rest = without(whole, moments(held))
    mixed = min(len(held), int(len(worse) / share + 1e-9))  # of its proportion, as far as bad ones go
    added = round(share * mixed)
    sets = {GOOD: held, MIXED: np.concatenate([held[:mixed - added], worse[:added]]), BAD: worse}
    return [(name, frechet_distance(moments(some), rest), len(some), rest.count)
            for name, some in sets.items() if len(some) > 1]


def rows(spec: LandmarksSpec, whole: Moments, draws: Iterable[tuple[np.ndarray, np.ndarray]],
         share: float) -> pd.DataFrame:
    """A row for each set of images: mean and standard deviation of its distance over draws.

    `draws`: the features of the images of each draw, in the order of `drawn`.
    """
    found = [(draw, *one) for draw, (held, worse) in enumerate(draws)
             for one in distances(whole, held, worse, share)]
    table = pd.DataFrame(found, columns=["draw", "images", "value", "num_images", "reference_images"])
    means = table.groupby("images", sort=False).agg(
        value=("value", "mean"), value_std=("value", "std"), num_images=("num_images", "first"),
        reference_images=("reference_images", "first"), draws=("draw", "count")).reset_index()
    means.insert(1, "metric", spec.metric)
    return means
