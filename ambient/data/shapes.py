"""Flat shapes that are drawn from formulas: what scenes with captions are made of, without data from outside.

A shape is a region of the plane around (0, 0), about as large as the unit circle. Each one is turned,
stretched, sheared, moved and shaded by numbers in [0, 1), so that no two look alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

FINER = 3  # points of a pixel's side at which it is asked whether it is inside
NUMBERS = 9  # uniforms that a shape takes
GREY = 128  # of the background, in [0, 255]
# Names as in GenEval, where all but these six occur that are near another one or the grey of the background.
COLOURS = {"red": (208, 36, 40), "yellow": (236, 208, 40), "green": (36, 150, 60), "blue": (36, 76, 212),
           "purple": (142, 40, 168), "white": (248, 248, 248)}

Region = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # (x, y downwards, a number) -> inside


def circle(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """x^2 + y^2 < 0.9^2."""
    return np.hypot(x, y) < 0.9


def square(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """|x| and |y| < 0.78."""
    return np.maximum(np.abs(x), np.abs(y)) < 0.78


def triangle(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """A point above, a side below."""
    return (y < 0.75) & (np.abs(x) < (0.8 + 0.2 * p) * (y + 0.95) / 1.7)


def star(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Five points at radius 1, with the corners between them at 0.36 to 0.48."""
    inner, angle = 0.36 + 0.12 * p, np.arctan2(x, -y)
    folded = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)  # from the nearest point's direction
    u, v = np.hypot(x, y) * np.cos(folded), np.hypot(x, y) * np.sin(folded)
    u_inner, v_inner = inner * np.cos(np.pi / 5), inner * np.sin(np.pi / 5)
    return (u_inner - 1) * v - v_inner * (u - 1) > 0  # on the inner side of the line between two corners


def cross(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Two bars of half width 0.22 to 0.34."""
    thin, far = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
    return (thin < 0.22 + 0.12 * p) & (far < 0.92)


def ring(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """A circle with a hole of radius 0.42 to 0.56."""
    radius = np.hypot(x, y)
    return (radius < 0.92) & (radius > 0.42 + 0.14 * p)


def heart(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(u^2 + v^2 - 1)^3 < u^2 v^3 with u = 1.25 x and v = 0.1 - 1.25 y."""
    u, v = 1.25 * x, 0.1 - 1.25 * y
    return (u**2 + v**2 - 1)**3 < u**2 * v**3


def moon(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """A circle without another one of radius 0.78 at its right, whose centre is at 0.4 to 0.55."""
    return (np.hypot(x, y) < 0.95) & (np.hypot(x - 0.4 - 0.15 * p, y) > 0.78)


def arrow(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """To the right: a shaft of half width 0.16 to 0.26, and a head."""
    shaft = (np.abs(y) < 0.16 + 0.1 * p) & (x > -0.95) & (x < 0.2)
    return shaft | ((x > 0.0) & (np.abs(y) < 0.85 * (0.95 - x)))


def diamond(x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """|x| / a + |y| < 1 with a from 0.5 to 0.65."""
    return np.abs(x) / (0.5 + 0.15 * p) + np.abs(y) < 1


REGIONS: tuple[Region, ...] = (circle, square, triangle, star, cross, ring, heart, moon, arrow, diamond)
SHAPES = tuple(region.__name__ for region in REGIONS)


def coverage(shape: np.ndarray, u: np.ndarray, side: int, smooth: float = 0.0) -> np.ndarray:
    """How much of each pixel is covered, float32 (N, side, side) in [0, 1].

    shape (N,) are places in `SHAPES`, u (N, NUMBERS) in [0, 1). A shape is turned by up to 20 degrees,
    stretched by up to 1.2, sheared by up to 0.15, and has 0.36 to 0.46 of the side as its radius. `smooth`:
    the standard deviation of a Gaussian, as a share of the side, that rounds its outline: what is thinner is
    lost.
    """
    fine = FINER * side
    axis = ((np.arange(fine) + 0.5) / fine * 2 - 1).astype(np.float32)

    def between(column: int, low: float, high: float) -> np.ndarray:
        return (low + (high - low) * u[:, column, None, None]).astype(np.float32)

    angle, stretch, radius = between(0, -0.35, 0.35), np.exp(between(1, -0.18, 0.18)), between(2, 0.72, 0.92)
    x = axis[None, None, :] - between(3, -1, 1) * (0.95 - radius)
    y = axis[None, :, None] - between(4, -1, 1) * (0.95 - radius)
    turned_x = (np.cos(angle) * x + np.sin(angle) * y) / radius * stretch
    turned_y = (np.cos(angle) * y - np.sin(angle) * x) / radius / stretch
    turned_x = turned_x + between(5, -0.15, 0.15) * turned_y
    inside = np.empty((len(u), fine, fine), np.float32)
    for kind in np.unique(shape):
        rows = shape == kind
        inside[rows] = REGIONS[kind](turned_x[rows], turned_y[rows], between(6, 0, 1)[rows])
    if smooth:
        rounded = ndimage.gaussian_filter(inside, (0, smooth * fine, smooth * fine), mode="constant")
        inside = np.clip(4 * rounded - 1.5, 0, 1)  # an edge again, a quarter as steep as the rounded value
    return inside.reshape(len(u), side, FINER, side, FINER).mean(axis=(2, 4))


def shaded(colour: np.ndarray, u: np.ndarray, side: int) -> np.ndarray:
    """Colours (N, 3, side, side) in [0, 255]: of each shape's colour (N,), a place in `COLOURS`, darkened by
    up to a fifth towards some direction."""
    axis = ((np.arange(side) + 0.5) / side).astype(np.float32)
    angle = 2 * np.pi * u[:, 7, None, None].astype(np.float32)
    along = 0.5 + (np.cos(angle) * (axis[None, None, :] - 0.5) + np.sin(angle) * (axis[None, :, None] - 0.5))
    dark = 0.2 * u[:, 8, None, None].astype(np.float32) * np.clip(along, 0, 1)
    palette = np.array(list(COLOURS.values()), np.float32)
    return palette[colour][:, :, None, None] * (1 - dark)[:, None]
