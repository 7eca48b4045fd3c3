"""The brightness of a picture, which most of its sharpness and of its damage can be told by."""

from __future__ import annotations

import numpy as np

WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG


def luma(image: np.ndarray) -> np.ndarray:
    """uint8 (C, H, W) -> float64 (H, W) in [0, 255]: 0.299 R + 0.587 G + 0.114 B, or the one channel."""
    if len(image) == 1:
        return image[0].astype(np.float64)
    return np.tensordot(WEIGHTS, image.astype(np.float64), 1)
