"""Whether a picture is neither too dark nor too bright."""

from __future__ import annotations

import numpy as np

DARK, BRIGHT = 2, 253  # values from which on a camera or its JPEG has clipped


def score(image: np.ndarray) -> float:
    """Exposure E = 1 - |2 m - 1| - c, in [-1, 1]; photographs have 0.5 to 1.

    m in [0, 1] is the mean of all values over 255, and c the share of values that are clipped: at most 2 or
    at least 253. A subject before a black or white background scores low, too.
    """
    mean = image.mean() / 255
    clipped = ((image <= DARK) | (image >= BRIGHT)).mean()
    return 1 - abs(2 * mean - 1) - clipped
