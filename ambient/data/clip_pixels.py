"""Images as CLIP's networks take them: RGB of one size, with the mean and the spread of CLIP's pixels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of pixels in [0, 1]


def square(image: np.ndarray, side: int) -> np.ndarray:
    """An image, uint8 (1 or 3, H, W), as uint8 (3, side, side).

    Pillow resizes it, bicubic, so that its shorter side is `side`, and the middle is cut out. Of a square
    image nothing is cut off: it is as if it were squashed.
    """
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).convert("RGB")
    short = min(picture.size)
    size = tuple(max(side, int(side * length / short)) for length in picture.size)
    left, top = (round((length - side) / 2) for length in size)
    whole = picture.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(whole.crop((left, top, left + side, top + side))).transpose(2, 0, 1)


def normalised(images: Iterable[np.ndarray], side: int) -> np.ndarray:
    """Images, uint8 (1 or 3, H, W) each, as float32 (N, 3, side, side): (x / 255 - mean) / std."""
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
    squares = np.stack([square(image, side) for image in images])
    return (squares.astype(np.float32) / np.float32(255) - mean) / std
