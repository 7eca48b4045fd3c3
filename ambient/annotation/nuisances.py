"""Changes of an image that a classifier must not go by: what it shows, not how sharp it is.

A noise classifier of few clean images soon knows them by their colours, and takes every other image for
corrupted. None of these changes resamples, so blur and noise stay what they are. Leave out what the
corruption itself changes: brightness and contrast, of a contrast shift; transpose, of motion blur along
one axis. JPEG is told by its steps and its colours: negate and transpose leave them alone, the others
do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BRIGHTNESS_STD = 0.5  # of the number added to a channel, images lying in [-1, 1]
CONTRAST_LOG2_STD = 0.5  # of the base-2 logarithm of the factor


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch (B, C, H, H), all drawn whichever change uses them."""

    order: Tensor  # (B, C), the channels in a random order
    coins: Tensor  # (B, 2, 1, 1, 1), fair
    shift: Tensor  # (B, C, 1, 1), standard normal
    gain: Tensor  # (B, 1, 1, 1), standard normal

    @classmethod
    def of(cls, numbers: Tensor) -> Draws:
        """From the numbers (B, 2 C + 3) of `numbers`."""
        channels = (numbers.shape[1] - 3) // 2
        order, coins, shift, gain = numbers.split([channels, 2, channels, 1], dim=1)
        return cls(order.argsort(dim=1), coins[:, :, None, None, None] < 0.5, shift[:, :, None, None],
                   gain[:, :, None, None])


def channels(images: Tensor, drawn: Draws) -> Tensor:
    """The channels in another order, uniform."""
    return images.gather(1, drawn.order[:, :, None, None].expand_as(images))


def negate(images: Tensor, drawn: Draws) -> Tensor:
    """x or -x."""
    return torch.where(drawn.coins[:, 0], -images, images)


def brightness(images: Tensor, drawn: Draws) -> Tensor:
    """Plus 0.5 w for each channel, w standard normal."""
    return images + BRIGHTNESS_STD * drawn.shift


def contrast(images: Tensor, drawn: Draws) -> Tensor:
    """Times 2^(0.5 w), w standard normal."""
    return images * (CONTRAST_LOG2_STD * drawn.gain).exp2()


def transpose(images: Tensor, drawn: Draws) -> Tensor:
    """Rows for columns, or not."""
    return torch.where(drawn.coins[:, 1], images.transpose(2, 3), images)


CHANGES: dict[str, Callable[[Tensor, Draws], Tensor]] = {f.__name__: f for f in (
    channels, negate, brightness, contrast, transpose)}


def numbers(batch: int, channels: int, generator: torch.Generator) -> Tensor:
    """The random numbers of a batch, (B, 2 C + 3): C + 2 uniform on [0, 1), then C + 1 standard normal."""
    where = generator.device
    return torch.cat([torch.rand(batch, channels + 2, generator=generator, device=where),
                      torch.randn(batch, channels + 1, generator=generator, device=where)], dim=1)


def varied(images: Tensor, drawn: Tensor, names: Sequence[str]) -> Tensor:
    """Images (B, C, H, H) with each change in `names`, in that order, by the random numbers `drawn` of
    `numbers`, each image's own; same shape.

    Those left out have random numbers all the same, so that the rest do not change.
    """
    draws = Draws.of(drawn)
    for name in names:
        images = CHANGES[name](images, draws)
    return images
