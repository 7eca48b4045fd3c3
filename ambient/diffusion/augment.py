"""Non-leaky augmentation: geometric transforms of which the network is told, so that samples have none.

Source: Karras et al. 2020 (arXiv:2006.06676) and 2022 (arXiv:2206.00364, appendix F.2). Every random number
comes from the generator given, or is given; a batch is transformed at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

LABELS = 9  # xflip, yflip, scale, cos - 1 and sin of the rotation, anisotropy (2), translation (2)
LOG2_SCALE_STD = 0.2  # of the isotropic and of the anisotropic scale factor
TRANSLATION_STD = 0.125  # of the image's side
TRANSFORMS = ("xflip", "yflip", "scale", "rotate", "aniso", "translate")
ANISOTROPY_ROTATED = 0.5  # probability that the anisotropic axis is not the image's own

# Low-pass filter of the sym6 wavelet (Daubechies). Its even shifts are orthonormal, so that doubling by it
# and halving by its adjoint is exactly the identity: only real warps cost sharpness.
SYM6 = (0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
        0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
        -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148)
# The filter's centre of mass is off the middle of its taps, so a doubled image is shifted a little, in pixels
# of the image, along both axes.
DELAY = (sum(i * tap for i, tap in enumerate(SYM6)) / sum(SYM6) - (len(SYM6) - 1) / 2) / 2


def matrices(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(B, 2, 2) matrices [[a, b], [c, d]]."""
    return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)


def rotation(angle: Tensor) -> Tensor:
    """Rotations by `angle` (B,) radians."""
    return matrices(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def doubling(side: int) -> Tensor:
    """(2 side, side): puts zeros between the pixels of a row, then filters it. Its transpose halves."""
    tap = torch.arange(2 * side)[:, None] - 2 * torch.arange(side) + 5
    return torch.where((tap >= 0) & (tap < len(SYM6)), torch.tensor(SYM6)[tap.clamp(0, len(SYM6) - 1)], 0.0)


@cache
def enlarging(side: int, pad: int, where: torch.device) -> Tensor:
    """(2 (side + 2 pad), side): mirrors a row's ends, `pad` pixels each, then doubles it."""
    mirrored = F.pad(torch.eye(side)[None], (0, 0, pad, pad), mode="reflect")[0]
    return (doubling(side + 2 * pad) @ mirrored).to(where)


@cache
def reducing(side: int, margin: int, where: torch.device) -> Tensor:
    """(side, 2 (side + 2 margin)): halves a row, then cuts off `margin` pixels at each end."""
    return doubling(side + 2 * margin).T[margin:-margin].contiguous().to(where)


def warp(images: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Resample: the output at position p (from the centre, pixels) is the input at L^-1 (p - shift).

    images (B, C, H, H), linear (B, 2, 2), shift (B, 2) in pixels, (x, y), all float32. Mirrored beyond the
    border, and 0 beyond its mirror image. Both filters are matrix products along each axis: a convolution of
    one channel is slow.
    """
    side, where = images.shape[-1], images.device
    pad = side - 1  # all that can be mirrored
    rows = enlarging(side, pad, where)
    large = rows @ (images @ rows.T)
    margin = 3  # pixels around the output that the halving filter reads
    out = 2 * (side + 2 * margin)
    inverse = torch.linalg.inv_ex(linear).inverse  # `inv` would have the host look whether there is one
    # grid_sample's own coordinates run from -1 to 1 over the whole of `large`, whose pixels are half as wide.
    unit = 2 / (side + 2 * pad)
    offset = (DELAY - inverse @ (shift[:, :, None] + DELAY))[..., 0] * unit
    axis = ((torch.arange(out, device=where) - (out - 1) / 2) * (unit / 2))[:, None]
    along_x, along_y = axis * inverse[:, None, :, 0], axis * inverse[:, None, :, 1] + offset[:, None]
    grid = along_x[:, None] + along_y[:, :, None]
    sampled = F.grid_sample(large, grid, mode="bilinear", align_corners=False)
    rows = reducing(side, margin, where)
    return rows @ (sampled @ rows.T)


def augment(images: Tensor, generator: torch.Generator, p: float = 0.12,
            transforms: Sequence[str] = TRANSFORMS,
            ) -> tuple[Tensor, Tensor]:
    """Transform images (B, C, H, H) and return them with their labels (B, 9), float32.

    Each transform fires independently with probability `p` (xflip: always tossed); flips are then a
    fair coin. scale 2^(0.2 w); rotation uniform; anisotropic scale 2^(0.2 w) along an axis; translation
    0.125 side (w_x, w_y), all w standard normal. Labels 0 mean an untouched image. `transforms` names
    those in use; the others draw their random numbers all the same, so that the rest do not change. Raises
    `ValueError` for an unknown name, and for a `p` that is no probability.
    """
    return augmented(images, numbers(len(images), generator), p, transforms)


def numbers(batch: int, generator: torch.Generator) -> Tensor:
    """The random numbers of a batch, (B, 14): 10 uniform on [0, 1), then 4 standard normal."""
    where = generator.device
    return torch.cat([torch.rand(batch, 10, generator=generator, device=where),
                      torch.randn(batch, 4, generator=generator, device=where)], dim=1)


def augmented(images: Tensor, drawn: Tensor, p: float, transforms: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What `augment` gives, and raises, for random numbers `drawn` (B, 14) of `numbers`."""
    if unknown := set(transforms) - set(TRANSFORMS):
        raise ValueError(f"transforms: got {sorted(unknown)}, allowed: {', '.join(TRANSFORMS)}")
    if not 0 <= p <= 1:
        raise ValueError(f"p: got {p}, allowed: [0, 1]")
    side = images.shape[-1]
    uniform, normal = drawn.split([10, 4], dim=1)

    def fired(column: int, name: str) -> Tensor:
        return ((uniform[:, column] < p) & (name in transforms)).float()

    tossed = float("xflip" in transforms)
    xflip = (uniform[:, 6] < 0.5).float() * tossed
    yflip = (uniform[:, 7] < 0.5).float() * fired(1, "yflip")
    scale = normal[:, 0] * fired(2, "scale")
    angle = (2 * uniform[:, 8] - 1) * math.pi * fired(3, "rotate")
    aniso = normal[:, 1] * fired(4, "aniso")
    axis = (2 * uniform[:, 9] - 1) * math.pi * (uniform[:, 0] < ANISOTROPY_ROTATED)
    move = normal[:, 2:] * fired(5, "translate")[:, None]
    labels = torch.stack([xflip, yflip, scale, angle.cos() - 1, angle.sin(), aniso * axis.cos(),
                          aniso * axis.sin(), move[:, 0], move[:, 1]], dim=1).to(images)
    out = flipped(images, labels)
    linear, shift = (one.to(out) for one in geometry(scale, angle, aniso, axis, move, side))
    chosen = all_warped if out.is_cuda else some_warped
    return chosen(out, (labels[:, 2:] != 0).any(dim=1), linear, shift), labels


def some_warped(images: Tensor, moved: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """Images (B, C, H, H), warped where `moved` (B,) is true; no others are computed."""
    rows = moved.nonzero()[:, 0]
    if len(rows):
        images[rows] = warp(images[rows], linear[rows], shift[rows])
    return images


def all_warped(images: Tensor, moved: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """What `some_warped` gives, by a warp of every image.

    To learn how many are moved the host would wait for all that its GPU has still to do.
    """
    return torch.where(moved[:, None, None, None], warp(images, linear, shift), images)


def flipped(images: Tensor, labels: Tensor) -> Tensor:
    """Images (B, C, H, H) with the flips alone of their augmentation, given its labels (B, 9)."""
    out = torch.where(labels[:, 0, None, None, None] == 1, images.flip(3), images)
    return torch.where(labels[:, 1, None, None, None] == 1, out.flip(2), out)


def geometry(scale: Tensor, angle: Tensor, aniso: Tensor, axis: Tensor, move: Tensor,
             side: int) -> tuple[Tensor, Tensor]:
    """The linear map (B, 2, 2) and shift (B, 2), pixels, of all transforms but the flips."""
    zero, stretch = torch.zeros_like(scale), (LOG2_SCALE_STD * aniso).exp2()
    anisotropic = rotation(axis) @ matrices(stretch, zero, zero, 1 / stretch) @ rotation(-axis)
    linear = anisotropic @ rotation(angle) * (LOG2_SCALE_STD * scale).exp2()[:, None, None]
    return linear, TRANSLATION_STD * side * move
