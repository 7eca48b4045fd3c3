"""Sizes of networks and trainings for own images: what fits their side, and two cores in half an hour."""

from __future__ import annotations

from dataclasses import dataclass

SMALLEST, LARGEST = 16, 256  # pixels: of the images that `new` makes a scale for
BOTTOM = 7  # pixels: a network halves its images to no less


@dataclass(frozen=True)
class Sizes:
    """What depends on the side of the images.

    levels: factors of a network's width, one a level. channels: width of its first level. nimg: images seen
    by a diffusion model, by the noise classifier. batch: images a step.
    """

    levels: tuple[int, ...]
    channels: int
    nimg: int
    classifier_nimg: int
    batch: int


def levels(side: int) -> tuple[int, ...]:
    """Factors of the width: as many levels as the side can be halved to `BOTTOM` or more, four at most."""
    factors = [1]
    while side % 2 == 0 and side // 2 >= BOTTOM and len(factors) < 4:
        side //= 2
        factors.append(min(2 * factors[-1], 4))
    return tuple(factors)


def sizes(side: int) -> Sizes:
    """The sizes for images of a side. Raises `ValueError` for one that no network here fits."""
    factors = levels(side)
    if not SMALLEST <= side <= LARGEST or side // 2 ** (len(factors) - 1) > 64:
        raise ValueError(f"--resolution: got {side}, allowed: {SMALLEST} to {LARGEST} pixels, a number that "
                         "can be halved to 64 or less, such as 32, 48, 64, 96 or 128")
    channels = 32 if side <= 16 else 16
    return Sizes(factors, channels, nimg=64_000, classifier_nimg=32_000, batch=32)
