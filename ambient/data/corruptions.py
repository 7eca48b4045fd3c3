"""Corruptions: a registry of pure functions of (image, generator, parameters).

Images are float32 (C, H, W) in [-1, 1] and stay so. Randomness comes only from the generator given.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, features
from scipy import ndimage

from ambient.data.datasets import to_float, to_uint8
from ambient.specs.strict import nearest

SUBSAMPLING = ("4:4:4", "4:2:2", "4:2:0")


def need(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise `ValueError` for a parameter out of range."""
    if not condition:
        raise ValueError(f"{name}: got {value!r}, allowed: {allowed}")


def finite(value: object) -> bool:
    """Whether a parameter is an ordinary number (true and false are not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)


def whole(value: object) -> bool:
    """Whether a parameter is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def gaussian_blur(image: np.ndarray, rng: np.random.Generator, *, sigma_px: float) -> np.ndarray:
    """Gaussian blur of standard deviation `sigma_px` > 0 pixels; reflecting border, cut at 4 sigma."""
    need(finite(sigma_px) and sigma_px > 0, "sigma_px", sigma_px, "a number > 0 pixels")
    return ndimage.gaussian_filter(image, (0, sigma_px, sigma_px), mode="reflect", truncate=4.0)


def jpeg(image: np.ndarray, rng: np.random.Generator, *, quality: int,
         subsampling: str = "4:2:0") -> np.ndarray:
    """JPEG by Pillow in memory; `quality` 1 to 95. The pixels depend on the codec build: see `facts`."""
    need(whole(quality) and 1 <= quality <= 95, "quality", quality, "a whole number, 1 to 95")
    need(subsampling in SUBSAMPLING, "subsampling", subsampling, ", ".join(SUBSAMPLING))
    pixels = to_uint8(image).transpose(1, 2, 0)
    picture = Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=False)
    decoded = np.asarray(Image.open(buffer)).reshape(*image.shape[1:], image.shape[0])
    return to_float(decoded.transpose(2, 0, 1))


def motion_kernel(length_px: float, angle_deg: float) -> np.ndarray:
    """A line of `length_px` pixels at `angle_deg` (counter-clockwise from the x axis), summing to 1.

    The line is sampled finely and each point shared among its four nearest pixels (bilinear).
    """
    half = int(np.ceil(length_px / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    t = (np.arange(1000) + 0.5) / 1000 * length_px - length_px / 2
    x, y = half + t * np.cos(np.deg2rad(angle_deg)), half - t * np.sin(np.deg2rad(angle_deg))
    for dx in (0, 1):
        for dy in (0, 1):
            column, line = np.floor(x).astype(int) + dx, np.floor(y).astype(int) + dy
            share = (1 - np.abs(x - column)) * (1 - np.abs(y - line))
            np.add.at(kernel, (line, column), share)
    return kernel / kernel.sum()


def motion_blur(image: np.ndarray, rng: np.random.Generator, *, length_px: float,
                angle_deg: float | None = None) -> np.ndarray:
    """True linear motion blur over `length_px` pixels; `angle_deg` None: random, in [0, 180).

    (The released function of this name is a Gaussian blur that ignores its angle.)
    """
    need(finite(length_px) and length_px > 0, "length_px", length_px, "a number > 0 pixels")
    need(angle_deg is None or finite(angle_deg), "angle_deg", angle_deg, "degrees, or null")
    angle = rng.uniform(0, 180) if angle_deg is None else angle_deg
    kernel = motion_kernel(length_px, angle)
    return ndimage.convolve(image.astype(np.float64), kernel[None], mode="reflect").astype(np.float32)


def random_mask(image: np.ndarray, rng: np.random.Generator, *, prob: float) -> np.ndarray:
    """Each pixel is set to 0 (mid-grey), in all channels, with probability `prob` in [0, 1]."""
    need(finite(prob) and 0 <= prob <= 1, "prob", prob, "[0, 1]")
    return np.where(rng.random(image.shape[1:]) < prob, np.float32(0), image)


def pixelate(image: np.ndarray, rng: np.random.Generator, *, block_px: int) -> np.ndarray:
    """Each block of `block_px` x `block_px` pixels is replaced by its mean (a cut block by its own)."""
    need(whole(block_px) and block_px >= 1, "block_px", block_px, "a whole number >= 1")
    out = np.empty_like(image)
    for y in range(0, image.shape[1], block_px):
        for x in range(0, image.shape[2], block_px):
            block = image[:, y:y + block_px, x:x + block_px]
            out[:, y:y + block_px, x:x + block_px] = block.mean(axis=(1, 2), keepdims=True)
    return out


def additive_noise(image: np.ndarray, rng: np.random.Generator, *, std: float) -> np.ndarray:
    """Gaussian noise of standard deviation `std` >= 0, clipped to [-1, 1]."""
    need(finite(std) and std >= 0, "std", std, "a number >= 0")
    return np.clip(image + std * rng.standard_normal(image.shape, dtype=np.float32), -1, 1)


def colour_shift(image: np.ndarray, rng: np.random.Generator, *, shift: float | list) -> np.ndarray:
    """Adds `shift` (a number, or one a channel) in [-2, 2], clipped to [-1, 1]."""
    shifts = np.broadcast_to(np.asarray(shift, np.float32), image.shape[:1])
    need(bool((np.abs(shifts) <= 2).all()), "shift", shift, "[-2, 2]")
    return np.clip(image + shifts[:, None, None], -1, 1)


def contrast(image: np.ndarray, rng: np.random.Generator, *, factor: float) -> np.ndarray:
    """Scales the distance to the image's mean by `factor` >= 0, clipped to [-1, 1]."""
    need(finite(factor) and factor >= 0, "factor", factor, "a number >= 0")
    mean = image.mean()
    return np.clip(mean + factor * (image - mean), -1, 1)


CORRUPTIONS: dict[str, Callable[..., np.ndarray]] = {f.__name__: f for f in (
    gaussian_blur, jpeg, motion_blur, random_mask, pixelate, additive_noise, colour_shift, contrast)}
LABELS = {  # what figures and the report call a corruption, from its parameters
    "gaussian_blur": "blur, {sigma_px} px", "jpeg": "JPEG, quality {quality}",
    "motion_blur": "motion blur, {length_px} px", "random_mask": "masked, {prob} of the pixels",
    "pixelate": "pixelated, {block_px}x{block_px}", "additive_noise": "noise of {std}",
    "colour_shift": "colour shifted by {shift}", "contrast": "contrast times {factor}"}


def validate(op: str, params: Mapping) -> None:
    """Refuse an unknown op, and unknown, missing or impossible parameters, with one line."""
    if op not in CORRUPTIONS:
        raise ValueError(f"op: got {op!r}{nearest(op, CORRUPTIONS)}")
    known = {name: p for name, p in inspect.signature(CORRUPTIONS[op]).parameters.items()
             if p.kind is inspect.Parameter.KEYWORD_ONLY}
    for name in params:
        if name not in known:
            raise ValueError(f"{op}: unknown parameter {name!r}{nearest(name, known)}")
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in params:
            raise ValueError(f"{op}: missing parameter {name!r}")
    image = np.random.default_rng(1).uniform(-1, 1, (3, 8, 8)).astype(np.float32)
    try:  # a tiny image finds what is out of range
        one, two = (corrupt(image.copy(), np.random.default_rng(0), op, params) for _ in range(2))
    except (TypeError, NameError, AttributeError, IndexError) as error:
        raise ValueError(f"{op}: {type(error).__name__}: {error}") from None
    need(np.array_equal(one, two), op, "another result for the same generator",
         "a function of the image, the generator and the parameters")


def corrupt(image: np.ndarray, rng: np.random.Generator, op: str, params: Mapping) -> np.ndarray:
    """Apply a corruption by name; float32, clipped to [-1, 1] against rounding.

    Raises `ValueError` for an image of whole numbers or another shape, for a parameter out of range, and
    where the corruption gives something else than such an image.
    """
    need(image.ndim == 3 and image.dtype.kind == "f", "image", f"{image.dtype} {image.shape}",
         "floating-point numbers (C, H, W) in [-1, 1]")
    shape = image.shape  # the function may change the image in place
    made = CORRUPTIONS[op](image, rng, **params)
    kind = f"{made.dtype} {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
    need(isinstance(made, np.ndarray) and made.dtype.kind == "f" and made.shape == shape, f"{op} gave", kind,
         f"floating-point numbers {shape} in [-1, 1]")
    need(bool(np.isfinite(made).all()), f"{op} gave", "numbers that are not finite", "numbers in [-1, 1]")
    return np.clip(made, -1, 1).astype(np.float32)


def label(op: str, params: Mapping) -> str | None:
    """What a reader knows a corruption by; None where there are no words for it or a parameter is missing."""
    try:
        return LABELS[op].format(**params)
    except KeyError:
        return None


def facts(op: str) -> dict:
    """What the result depends on beside its parameters: for JPEG the codec's build."""
    if op != "jpeg":
        return {}
    return {"codec": f"libjpeg-turbo {features.version('libjpeg_turbo')}",
            "mozjpeg": bool(features.check_feature("mozjpeg"))}
