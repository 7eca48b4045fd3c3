"""Procedural images: random programs of layered noise, trigonometric warps and palettes.

They stand in for published shader images as data of another distribution (Table 2b): no photograph is
in them, but edges, textures and gradients at many scales are.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from ambient.diffusion import randomness

BATCH = 256  # images made together: position, not batch, decides an image
LAYERS, WAVES = 3, 4


def spectral_noise(random: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Layers (B, L, H, H) of noise with spectral density 1 / f^slope, unit variance, from white `random`."""
    side = random.shape[-1]
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    f[0, 0] = np.inf  # no mean
    gain = f ** (-slope[..., None, None] / 2)
    layers = fft.irfft2(fft.rfft2(random, axes=(-2, -1)) * gain.astype(np.float32), s=(side, side))
    return layers / layers.std(axis=(-2, -1), keepdims=True)


def programs(count: int, u: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Images (B, 3, H, H) in [0, 1] from uniforms `u` (B, P) and white noise (B, LAYERS, H, H).

    Coordinates are rotated, scaled and warped by noise; a sum of waves of them, folded, plus noise gives a
    scalar field and a second one; a cosine palette colours both.
    """
    side = white.shape[-1]
    take = iter(np.split(u, u.shape[1], axis=1))

    def draw(low: float, high: float, *shape: int) -> np.ndarray:
        cells = np.concatenate([next(take) for _ in range(int(np.prod(shape, dtype=int)))], axis=1)
        return (low + (high - low) * cells.reshape(count, *shape, 1, 1)).astype(np.float32)

    noise = spectral_noise(white, draw(2.0, 5.0, LAYERS)[..., 0, 0])
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    angle, zoom, warp = draw(0, 2 * np.pi, 1), np.exp(draw(-1.0, 1.5, 1)), draw(0, 0.6, 1) ** 2
    p = zoom * (x * np.cos(angle) - y * np.sin(angle)) + warp * noise[:, :1]
    q = zoom * (x * np.sin(angle) + y * np.cos(angle)) + warp * noise[:, 1:2]
    radius = np.hypot(p, q)
    spin, fold = draw(-2, 2, 1), draw(0, 1, 1)
    p, q = p * np.cos(spin * radius) - q * np.sin(spin * radius), p * np.sin(spin * radius) + q * np.cos(
        spin * radius)
    kx, ky, phase, height = (draw(-4, 4, WAVES), draw(-4, 4, WAVES), draw(0, 2 * np.pi, WAVES),
                             draw(0.2, 1, WAVES))
    waves = (height * np.sin(kx * p + ky * q + phase)).sum(axis=1, keepdims=True)
    field = np.where(fold < 0.5, waves, np.abs(waves)) + draw(0, 1, 1) * noise[:, 2:3]
    levels = np.floor(draw(2, 8, 1))
    field = np.where(draw(0, 1, 1) < 0.25, np.round(field * levels) / levels, field)  # flat regions
    base, depth = draw(0.2, 0.8, 3), draw(0.1, 0.5, 3)
    pitch, shift = draw(0.2, 1.2, 3), draw(0, 1, 3)
    shade = 1 - draw(0, 0.4, 1) * radius / (1 + radius)
    return np.clip((base + depth * np.cos(2 * np.pi * (pitch * field / 2 + shift))) * shade, 0, 1)


NUMBERS = LAYERS + 3 + 2 + 4 * WAVES + 3 + 12 + 1  # uniforms that a program takes


def make(ids: np.ndarray, side: int, channels: int, seed: int) -> np.ndarray:
    """uint8 images (N, channels, side, side); image i is a function of (seed, i) only."""
    images = np.empty((len(ids), channels, side, side), np.uint8)
    for first in range(0, len(ids), BATCH):
        chunk = ids[first:first + BATCH]
        u = np.stack([randomness.numpy_generator("program", seed, int(i)).random(NUMBERS) for i in chunk])
        white = randomness.normal("program-noise", seed, chunk, (LAYERS, side, side))
        rgb = programs(len(chunk), u, white)
        if channels == 1:
            rgb = rgb.mean(axis=1, keepdims=True)
        images[first:first + BATCH] = np.rint(rgb * 255)
    return images
