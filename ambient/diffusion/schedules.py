"""How fast weights change over a training, and how much of each step is in their average.

Each is a function of the images seen, never of what was computed before. Factors are relative to the full
learning rate; a beta is the weight of the old average, (1 - beta) that of the new weights.
"""

from __future__ import annotations

import math

import numpy as np


def ramped(rate: float, nimg: int, ramp_nimg: int) -> float:
    """rate nimg / ramp_nimg over the first `ramp_nimg` images, then rate."""
    return rate * nimg / ramp_nimg if nimg < ramp_nimg else rate


def cosine(nimg: int, first: int, last: int, floor: float) -> float:
    """floor + (1 - floor) (1 + cos(pi p)) / 2, where p goes from 0 at `first` images to 1 at `last`.

    1 up to `first`, `floor` from `last` on. Source: Loshchilov and Hutter 2017 (arXiv:1608.03983),
    equation 5, without restarts.
    """
    part = min(max(nimg - first, 0) / max(last - first, 1), 1)
    return floor + (1 - floor) * (1 + math.cos(math.pi * part)) / 2


def inverse_sqrt(nimg: int, reference: int) -> float:
    """1 / sqrt(max(nimg / reference, 1)): constant up to `reference` images.

    Source: Karras et al. 2024 (arXiv:2312.02696), whose t_ref counts batches.
    """
    return 1 / math.sqrt(max(nimg / reference, 1))


def halflife_beta(nimg: int, batch: int, halflife: float, ramp: float) -> float:
    """0.5^(batch / h), h = min(halflife, ramp nimg): after h images half of the average is new.

    `nimg` counts the images seen with this step. Source: Karras et al. 2022, released settings.
    """
    return 0.5 ** (batch / max(min(halflife, ramp * nimg), 1e-8))


def late_beta(nimg: int, batch: int, halflife: float, start: int) -> float:
    """0 up to the first step at whose end `start` images were seen, then 0.5^(batch / halflife).

    While it is 0, the average is the weights themselves. `nimg` counts the images seen with this step.
    Source: the public settings of Sehwag et al. 2024 (arXiv:2407.15811), whose s = 0.99975 of a step of 2048
    images is a half-life of 5.68 million images.
    """
    return 0.0 if nimg - batch < max(start, 1) else 0.5 ** (batch / halflife)


def power_beta(nimg: int, batch: int, gamma: float) -> float:
    """(1 - batch / nimg)^(gamma + 1): the average of theta(t) with weights proportional to t^gamma.

    `nimg` counts the images seen with this step, so that the first step's beta is 0. Source: Karras et al.
    2024, equation 127. Raises `ValueError` where fewer images were seen than the step has.
    """
    if not 0 < batch <= nimg:
        raise ValueError(f"batch: got {batch} at {nimg} images seen, allowed: 1 to {nimg}")
    return (1 - batch / nimg) ** (gamma + 1)


def power_gamma(std: float) -> float:
    """The exponent whose weights have the standard deviation `std`, as a fraction of the training's length.

    The largest root of g^3 + 7 g^2 + (16 - std^-2) g + 12 - std^-2 = 0, which follows from
    std^2 = (g + 1) / ((g + 2)^2 (g + 3)). Source: Karras et al. 2024, equations 123 and 126.

    Raises `ValueError` for a `std` that is not in (0, 1 / sqrt(12)]: of no such width do weights rise with t.
    """
    if not 0 < std <= 12**-0.5:
        raise ValueError(f"width of an average: got {std}, allowed: (0, 1 / sqrt(12)], which is 0.2887")
    square = std**-2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())
