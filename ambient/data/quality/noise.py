"""How noisy a picture is where it has the least structure."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MASK = np.outer([1, -2, 1], [1, -2, 1])  # a second difference along lines of one along columns
NORM = 6  # of the mask: divided by it, noise keeps its standard deviation
WINDOW_PX = 5
FLATTEST = 0.05


def score(image: np.ndarray) -> float:
    """Minus the noise of the flattest places, in grey levels of 255; 0 at best, -340 at worst.

    Noise is the root of the 5 % quantile, over all windows of 5x5 pixels, of the mean square of M * x / 6
    over the window and the channels. M is the mask of Immerkaer 1996, "Fast noise variance estimation", which
    removes whatever is linear along lines or along columns. He takes the mean over the picture, in which
    texture counts as noise; in the flattest windows there is little. White noise on an empty picture reads as
    0.77 of its standard deviation.
    """
    channels = image.astype(np.float64)
    power = np.mean([ndimage.convolve(channel, MASK) ** 2 for channel in channels], axis=0)
    edge = 1 + WINDOW_PX // 2  # pixels whose window would leave the picture
    windows = ndimage.uniform_filter(power, WINDOW_PX)[edge:-edge, edge:-edge]
    return -np.sqrt(max(np.quantile(windows, FLATTEST), 0)) / NORM
