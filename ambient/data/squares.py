"""Square images of one size from images of any shape: the ways of cropping, by name."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image


def resized(image: Image.Image, side: int) -> Image.Image:
    """A square image at another size: area means where `side` divides its own, else Lanczos."""
    if image.width == side:
        return image
    if image.width % side == 0:
        return image.reduce(image.width // side)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def centre(image: Image.Image, side: int) -> Image.Image:
    """The square in the middle, as large as the shorter side, resized."""
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    return resized(image.crop((left, top, left + short, top + short)), side)


def pad(image: Image.Image, side: int) -> Image.Image:
    """The whole image in the middle of a black square, as large as the longer side, resized."""
    long = max(image.size)
    square = Image.new(image.mode, (long, long))
    square.paste(image, ((long - image.width) // 2, (long - image.height) // 2))
    return resized(square, side)


def adm(image: Image.Image, side: int) -> Image.Image:
    """The crop of ADM (Dhariwal and Nichol 2021), which ImageNet's published numbers are of.

    Halved by area means while the shorter side is at least 2 `side`, then resized (bicubic) so that the
    shorter side is `side`, then the middle is cut out.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return bicubic(image, side)


def bicubic(image: Image.Image, side: int) -> Image.Image:
    """The crop of MicroDiT's data (Sehwag et al. 2024): the middle, at a shorter side of `side`.

    Bicubic, in one step. Pillow's filter covers all pixels of the larger image.
    """
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


CROPS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "centre": centre, "pad": pad, "adm": adm, "bicubic": bicubic}
