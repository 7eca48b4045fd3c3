"""What a detector's distance is for images that are known, beside which a score of samples is read.

A distance has no unit, and grows as fewer images are compared. So it says little until one knows what good
images that are held out would score (the floor), and what the bad ones do.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ambient.diffusion import randomness
from ambient.evaluation.frechet import frechet_distance, moments
from ambient.specs import LandmarksSpec

GOOD, MIXED, BAD = "good, held out", "good and bad as mixed", "bad"


def distances(good: np.ndarray, bad: np.ndarray, share: float, count: int,
              rng: np.random.Generator) -> list[tuple[str, float, int, int]]:
    """(which images, distance, how many, of how many others) for one draw of held-out images.

    good (N, D) and bad (M, D) are features, share is that of the bad ones in the mixture. min(count, N / 2)
    good images are held out, and the distances of all sets are to the N - count others. Each set has as many
    images, or fewer where there are not so many bad ones.
    """
    order = rng.permutation(len(good))
    count = min(count, len(good) // 2)
    held, rest = good[order[:count]], moments(good, order[count:])
    worse = bad[rng.permutation(len(bad))[:count]]
    whole = min(count, int(len(worse) / share + 1e-9))  # of the mixture's proportion, as far as bad ones go
    added = round(share * whole)
    mixed = np.concatenate([held[:whole - added], worse[:added]])
    return [(name, frechet_distance(moments(some), rest), len(some), rest.count)
            for name, some in ((GOOD, held), (MIXED, mixed), (BAD, worse)) if len(some) > 1]


def rows(spec: LandmarksSpec, good: np.ndarray, bad: np.ndarray, share: float) -> pd.DataFrame:
    """A row for each set of images: mean and standard deviation of its distance over draws."""
    drawn = [(draw, *one) for draw in range(spec.draws)
             for one in distances(good, bad, share, spec.num_samples,
                                  randomness.numpy_generator("landmarks", spec.seed, draw))]
    table = pd.DataFrame(drawn, columns=["draw", "images", "value", "num_images", "reference_images"])
    found = table.groupby("images", sort=False).agg(
        value=("value", "mean"), value_std=("value", "std"), num_images=("num_images", "first"),
        reference_images=("reference_images", "first"), draws=("draw", "count")).reset_index()
    found.insert(1, "metric", spec.metric)
    return found
