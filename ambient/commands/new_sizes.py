"""Sizes of networks and trainings for own images: what fits their side, and two cores in half an hour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SMALLEST, LARGEST = 16, 256  # pixels: of the images that `new` makes a scale for
BOTTOM, WIDEST = 7, 64  # pixels: a network halves its images to no less, and to no more
MOST = 4  # levels of a network


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
    """Factors of the width: as many levels as the side can be halved to `BOTTOM` or more, `MOST` at most."""
    factors = [1]
    while side % 2 == 0 and side // 2 >= BOTTOM and len(factors) < MOST:
        side //= 2
        factors.append(min(2 * factors[-1], 4))
    return tuple(factors)


def sizes(side: int) -> Sizes:
    """The sizes for images of a side. Raises `ValueError` for one that no network here fits."""
    factors = levels(side)
    inside = SMALLEST <= side <= LARGEST
    if not inside or len(factors) == 1 or side // 2 ** (len(factors) - 1) > WIDEST:
        fitting = " or ".join(map(str, near(side))) if inside else "32, 48, 64, 96 or 128"
        raise ValueError(f"--resolution: got {side}, allowed: {SMALLEST} to {LARGEST} pixels, an even number "
                         f"that can be halved to {WIDEST} or less, such as {fitting}")
    channels = 32 if side <= 16 else 16
    return Sizes(factors, channels, nimg=64_000, classifier_nimg=32_000, batch=32)


def near(side: int) -> tuple[int, int]:
    """The sides around one that can be halved as often as its size allows, to `BOTTOM` or more."""
    step = 1
    while side // (2 * step) >= BOTTOM and 2 * step < 2**MOST:
        step *= 2
    below = side - side % step
    return below, below + step


def fewer_levels(side: int) -> Iterator[str]:
    """A line for a side that allows fewer levels than its neighbours do."""
    have, (below, above) = len(levels(side)), near(side)
    if side != below:
        yield (f"{side} pixels can be halved to {side >> have - 1} alone, so the network has {have} levels: "
               f"with --resolution {below} or {above} it has {len(levels(below))}")
