"""PNG files that say which sample they are, so that a folder of them can be completed and never mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ambient.report.drawing import sheet
from ambient.storage.files import atomic

KEY = "ambient"  # the text in a PNG that says which sample it is
LEAST = 64  # pixels of an image's side on a contact sheet


def write_png(path: Path, image: np.ndarray, key: str | None = None) -> None:
    """Write a uint8 image (C, H, W), C 1 or 3, atomically; `key` says which sample it is."""
    info = PngInfo()
    if key is not None:
        info.add_text(KEY, key)
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    with atomic(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info)


def sample_at(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """The sample of this key, uint8 (C, H, W), from its file; None where there is none, or it is damaged.

    Raises `ValueError` for any other file, which must not be written over.
    """
    said = None
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            said = picture.info.get(KEY)
            if said == key:
                image = pixels_of(picture)
                return image if image.shape == shape else None
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError):
        if said == key:
            return None
    raise ValueError(f"{path}: is there and is not this sample: give another --out, or take the file away")


def contact_sheet(path: Path, images: np.ndarray) -> None:
    """Write uint8 images (N, C, H, H) side by side, as a square or nearly so.

    Small ones are enlarged by a whole number, so that each pixel stays a square.
    """
    table = sheet(images, int(np.ceil(len(images) ** 0.5)))
    times = max(-(-LEAST // images.shape[-1]), 1)
    write_png(path, table.repeat(times, axis=0).repeat(times, axis=1).transpose(2, 0, 1))


def pixels_of(picture: Path | Image.Image) -> np.ndarray:
    """A picture, grey or RGB, as uint8 (C, H, W)."""
    pixels = np.asarray(Image.open(picture) if isinstance(picture, Path) else picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
