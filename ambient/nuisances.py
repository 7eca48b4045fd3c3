"""Changes of an image that a classifier must not go by: what it shows, not how sharp it is.

A noise classifier of few clean images soon knows them by their colours, and takes every other image for
corrupted. None of these changes resamples, so blur and noise stay what they are. Leave out what the
corruption itself changes: brightness and contrast, of a contrast shift; transpose, of motion blur along
one axis. JPEG is told by its steps and its colours: negate and transpose leave them alone, the others
do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BRIGHTNESS_STD = 0.5  # of the number added to a channel, images lying in [-1, 1]
CONTRAST_LOG2_STD = 0.5  # of the base-2 logarithm of the factor


def varied(images: Tensor, generator: torch.Generator, names: Sequence[str]) -> Tensor:
    """Images (B, C, H, H) with each change in `names` drawn anew for each image; same shape and device.

    channels: their order, uniform. negate: x or -x, a fair coin. brightness: plus 0.5 w for each channel.
    contrast: times 2^(0.5 w). transpose: rows for columns, a fair coin. All w are standard normal. Those left
    out draw their random numbers all the same, so that the rest do not change.
    """
    batch, channels = images.shape[:2]
    order = torch.rand(batch, channels, generator=generator, device=images.device).argsort(dim=1)
    coins = torch.rand(batch, 2, 1, 1, 1, generator=generator, device=images.device) < 0.5
    shift = torch.randn(batch, channels, 1, 1, generator=generator, device=images.device)
    gain = torch.randn(batch, 1, 1, 1, generator=generator, device=images.device)
    if "channels" in names:
        images = images.gather(1, order[:, :, None, None].expand_as(images))
    if "negate" in names:
        images = torch.where(coins[:, 0], -images, images)
    if "brightness" in names:
        images = images + BRIGHTNESS_STD * shift
    if "contrast" in names:
        images = images * (CONTRAST_LOG2_STD * gain).exp2()
    if "transpose" in names:
        images = torch.where(coins[:, 1], images.transpose(2, 3), images)
    return images
