"""The rule of quality: which images are the best of a dataset, and below which noise their patches train.

Ranks are counted from 0, the best image's. Of equal scores the one with the lower place is better, which in a
dataset is the one with the lower id. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ambient.diffusion.wholes import floor_of
from ambient.specs.scores import BestSpec

# Released map: side of a patch, pixels of a 512-pixel image -> sigma_max. The level is found on latents, of
# which each side is an eighth: 4, 8, 16, 32 and 64 of them.
RELEASED = {32: 0.1, 64: 0.175, 128: 0.2, 256: 1.0, 512: 200.0}


def count(total: int, share: float) -> int:
    """floor(total share), but for the rounding of the share: 0.1 of 90 are 9, and 1 - 0.9 of 90, too.

    Raises `ValueError` for a share that is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: got {share}, allowed: [0, 1]")
    return floor_of(total, share)


def groups_of(labels: np.ndarray, within: str) -> np.ndarray:
    """The group (N,) in which each image is ranked: its class, or one for `all`.

    Raises `ValueError` where an image has no class to be ranked in.
    """
    if within == "all":
        return np.zeros(len(labels), np.int64)
    if (labels < 0).any():
        raise ValueError(f"{int((labels < 0).sum())} of {len(labels)} images have no class, allowed for "
                         "within: class: datasets whose images all have one; set within: all")
    return labels


def counts(groups: np.ndarray, share: float) -> np.ndarray:
    """(N,): how many images of each image's group are good, floor(n share) of the n in it."""
    _, place, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.array([count(int(size), share) for size in sizes])[place]


def ranks(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The rank (N,) of each image in its group by falling score: the inverse of the sorting permutation.

    Raises `ValueError` for a score that is no finite number.
    """
    scores = np.asarray(scores)
    for place in np.flatnonzero(~np.isfinite(scores))[:1]:
        raise ValueError(f"scores: got {scores[place]} at place {place}, allowed: finite numbers")
    # Stable: of equal scores the lower place comes first.
    order = np.lexsort((-scores.astype(np.float64), groups))
    known = groups[order]
    first = np.flatnonzero(np.r_[True, known[1:] != known[:-1]])
    start = np.repeat(first, np.diff(np.r_[first, len(known)]))
    found = np.empty(len(scores), np.int64)
    found[order] = np.arange(len(scores)) - start
    return found


def best(scores: np.ndarray, labels: np.ndarray, share: float, within: str) -> np.ndarray:
    """Whether each image (N,) is among the exact share with the highest scores, of all or of its class."""
    groups = groups_of(labels, within)
    return ranks(scores, groups) < counts(groups, share)


def places_of_best(scores: np.ndarray, labels: np.ndarray, wanted: BestSpec, where: Path) -> np.ndarray:
    """The places of the best images of a dataset. Raises `ValueError` naming its file where it has none."""
    places = np.flatnonzero(best(scores, labels, wanted.share, wanted.within))
    if not len(places):
        raise ValueError(f"{where}: best.share: got {wanted.share:g}, of which {len(scores)} images "
                         + "of several classes " * (wanted.within == "class")
                         + "leave none, allowed: a share of one image or more")
    return places


def released_ranks(scores: np.ndarray) -> np.ndarray:
    """What the released code takes for the ranks: the sorting permutation itself, not its inverse.

    Entry i is the place of the image with rank i. So the images that count as good are a random share.
    """
    return np.lexsort((-scores,))


def sigma_max(by_side: Mapping[int, np.ndarray], good: np.ndarray, groups: np.ndarray,
              levels: Mapping[int, float]) -> np.ndarray:
    """sigma_max (N,) by the scores (N,) of images' patches, for each side of a patch.

    An image that is among the best `good` (N,) of its group by the patches of a side gets that side's level.
    A larger side's level takes the place of a smaller one's. Raises `ValueError` for a side without scores.
    """
    found = np.zeros(len(good))
    for side in sorted(levels):
        if side not in by_side:
            raise ValueError(f"there are no scores of patches of {side} pixels, allowed: "
                             + (", ".join(map(str, sorted(by_side))) or "none, the scorer has no patches"))
        found[ranks(by_side[side], groups) < good] = levels[side]
    return found
