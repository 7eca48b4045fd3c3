"""Whether a picture has steps between blocks of 8x8 pixels, as strong JPEG compression makes them."""

from __future__ import annotations

import numpy as np

from ambient.data.luma import luma

BLOCK_PX = 8  # of JPEG, counted from the upper left corner


def score(image: np.ndarray) -> float:
    """Minus the logarithm of how much steeper steps are between blocks: -ln((B + 1) / (A + 1)).

    0 where there is no grid; about -0.3 at JPEG quality 50, -1 at quality 10. With d_k = Y_{k+1} - Y_k along
    lines or columns, a step is |d_k - (d_{k-1} + d_{k+1}) / 2| in grey levels: what the slopes on both sides
    don't explain. B is the mean step between blocks, A within them, each along lines plus along columns.

    The step is the difference of slopes of Minami and Zakhor 1995, "An optimization approach for removing
    blocking effects in transform coding". The grid is where JPEG has it: a picture that was resized or
    cropped after it was compressed has lost it.
    """
    along = [steps(picture) for picture in (luma(image), luma(image).T)]
    between, within = np.sum(along, axis=0)
    return -np.log((between + 1) / (within + 1))


def steps(picture: np.ndarray) -> tuple[float, float]:
    """The mean step along lines (between blocks, within blocks)."""
    slope = np.diff(picture, axis=1)
    step = np.abs(slope[:, 1:-1] - (slope[:, :-2] + slope[:, 2:]) / 2).mean(axis=0)
    between = np.arange(1, len(step) + 1) % BLOCK_PX == BLOCK_PX - 1
    return step[between].mean(), step[~between].mean()
