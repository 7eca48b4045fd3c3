"""How much of the range from black to white a picture uses."""

from __future__ import annotations

import numpy as np

from ambient.data.luma import luma


def score(image: np.ndarray) -> float:
    """Contrast (q95 - q05) / 255 of the luma's quantiles, in [0, 1]; photographs have 0.35 to 0.9."""
    low, high = np.quantile(luma(image), (0.05, 0.95))
    return (high - low) / 255
