"""One image file of whatever kind, as plain pixels: grey or RGB, 8 bits, upright, one frame."""

from __future__ import annotations

import io

import numpy as np
import PIL
from PIL import Image, ImageOps, features

# Formats that are read, by their files' names; by content Pillow's other readers are not asked.
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".webp": "WEBP", ".bmp": "BMP",
           ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF"}
# Images that need a reader of their own. Whoever has them can convert them.
UNREAD = (".heic", ".heif", ".avif", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".psd",
          ".svg", ".jxl", ".jp2")
ORIENTATION = 0x0112  # EXIF: how to turn the picture
REDUCED = "reduced from 16 bits to 8"
JPEGS = ("JPEG", "MPO")  # MPO: a JPEG with more pictures behind the first, as some phones write
DECODERS = {"pillow": PIL.__version__, "codec": f"libjpeg-turbo {features.version('libjpeg_turbo')}"}
DRAFT = 4  # a JPEG is decoded no smaller than so many times the size that is asked for


class Unreadable(ValueError):
    """An image file that holds no picture that can be used. The message is the reason, in a few words."""


def opened(content: bytes) -> Image.Image:
    """An image, not decoded yet. Raises `Unreadable`."""
    try:
        image = Image.open(io.BytesIO(content), formats=tuple(dict.fromkeys(FORMATS.values())))
    except Image.DecompressionBombError:  # Pillow's own refusal, at twice the size that is allowed here
        image = None
    except Exception:  # whatever a damaged head makes a format's reader raise
        raise Unreadable("damaged, or of another format than their name says") from None
    if image is None or image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Unreadable(f"of more than {Image.MAX_IMAGE_PIXELS:,} pixels")
    return image


def plain(content: bytes, channels: int, side: int | None,
          upright: bool = True) -> tuple[Image.Image, list[str]]:
    """The picture of a file in the mode L (`channels` 1) or RGB (3), and what was done to it, in words.

    A JPEG that is far larger than `side` is decoded at an eighth, a quarter or half of its size: the decoder
    averages as it goes, which takes a fraction of the time. `side` None: it is decoded as it is. `upright`:
    turned as its EXIF orientation says. Raises `Unreadable`.
    """
    image, done = opened(content), []
    try:
        if getattr(image, "n_frames", 1) > 1:  # GIF and TIFF look for all frames: a cut file fails here
            done.append("the first of several frames")
        if image.format in JPEGS and side is not None:
            image.draft(None, (DRAFT * side, DRAFT * side))
        if image.mode[0] != "I" and any(";16" in str(tile.args) for tile in image.tile):
            done.append(REDUCED)  # of several channels: Pillow takes their upper 8 bits itself
        turned = image.format == "TIFF" and image.getexif().get(ORIENTATION, 1) in range(2, 9)
        image.load()  # which turns a TIFF, and says nothing of it
        turn = image.getexif().get(ORIENTATION, 1)
        if turned:
            done.append("turned as their EXIF orientation says")
        elif turn in range(2, 9) and upright:
            image = ImageOps.exif_transpose(image)
            done.append("turned as their EXIF orientation says")
        elif turn in range(2, 9):
            done.append("not turned, though their EXIF orientation says so")
        if "icc_profile" in image.info:
            done.append("with a colour profile, taken as they are")
        image = eight_bits(image, done)
        image = opaque(image, done)
        return in_mode(image, "RGB" if channels == 3 else "L", done), done
    except Unreadable:
        raise
    except Exception:
        raise Unreadable("damaged or cut short") from None


def eight_bits(image: Image.Image, done: list[str]) -> Image.Image:
    """An image of one channel with more than 8 bits, by its upper 8 bits; others as they are."""
    if image.mode == "F":
        raise Unreadable("of floating-point values")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise Unreadable("of more than 16 bits")
    if values.max() < 2**8:  # taken as the others they would be black
        raise Unreadable("of 16 bits or more, with values of 8 alone: save them with 8")
    done.append(REDUCED)
    return Image.fromarray((values >> 8).astype(np.uint8))


def opaque(image: Image.Image, done: list[str]) -> Image.Image:
    """An image with transparency, laid on white, grey where it was grey; others as they are."""
    if not image.has_transparency_data:
        return image
    mode = "L" if is_grey(image) else "RGB"
    image = image.convert("RGBA")
    if image.getextrema()[3][0] < 255:  # of the alpha channel: some pixel is not opaque
        done.append("laid on white where they are transparent")
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image).convert(mode)


def is_grey(image: Image.Image) -> bool:
    """Whether an image's kind has no colours: one channel, or a palette of greys alone."""
    if image.mode == "P":
        palette = np.array(image.getpalette(), int).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA")


def in_mode(image: Image.Image, mode: str, done: list[str]) -> Image.Image:
    """An image as grey (L) or RGB."""
    grey = is_grey(image)
    if image.mode not in ("1", "L", "P", "RGB"):
        done.append(f"converted from {image.mode}")
        image = image.convert("RGB")
    if grey and mode == "RGB":
        done.append("grey, taken as colour")
    elif not grey and mode == "L":
        done.append("colour, made grey")
    return image.convert(mode)
