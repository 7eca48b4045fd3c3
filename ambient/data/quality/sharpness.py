"""How much of a picture's fine structure would be lost if it were blurred."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ambient.data.luma import luma

BLUR_PX = 0.7
SLIGHT = 0.1  # grey levels: an empty picture has no structure to lose, and scores 0


def score(image: np.ndarray) -> float:
    """Sharpness S = 1 - (D(G * Y) + 0.1) / (D(Y) + 0.1), a share in [0, 1]; photographs have 0.28 to 0.45.

    Y is the luma in [0, 255], G a Gaussian of 0.7 pixels, and D the mean absolute difference of neighbours,
    along lines plus along columns. A picture that is blurred already loses little to another blur. Contrast
    cancels out. Noise counts as sharp.

    The idea is that of Crete, Dolmiere, Ladret, Nicolas 2007, "The blur effect: perception and estimation
    with a new no-reference perceptual blur metric". Their box of 9 pixels is too wide for pictures of 32 to
    128 pixels (docs/quality.md).
    """
    picture = luma(image)
    blurred = ndimage.gaussian_filter(picture, BLUR_PX, mode="reflect")
    return 1 - (differences(blurred) + SLIGHT) / (differences(picture) + SLIGHT)


def differences(picture: np.ndarray) -> float:
    """D: the mean absolute difference of neighbours along lines, plus that along columns."""
    return sum(np.abs(np.diff(picture, axis=axis)).mean() for axis in (0, 1))
