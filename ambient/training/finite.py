"""The first step of a training whose gradient is not finite, noted where the training computes.

To look at every step, the host would wait for its GPU in every step. So the GPU keeps the note, and the host
reads it where it waits anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor

EVERY = 256  # steps between two readings, at most: as many are computed in vain after such a gradient


class FirstNotFinite:
    """A note of the first gradient norm that is NaN or infinite."""

    def __init__(self, device: torch.device) -> None:
        self.noted = torch.full((3,), -1.0, dtype=torch.float64, device=device)  # nimg, norm, loss
        self.unread = 0  # steps since the note was read

    def note(self, nimg: int, norm: Tensor, loss: Tensor) -> None:
        """Of the step that begins after `nimg` images: the norm of its gradient and its loss, shape ()."""
        step = torch.stack([torch.full_like(norm, nimg, dtype=torch.float64), norm.double(), loss.double()])
        first = ~torch.isfinite(norm) & (self.noted[0] < 0)
        self.noted = torch.where(first, step, self.noted)
        self.unread += 1

    def read(self) -> None:
        """Raise `FloatingPointError` naming the first step whose gradient was not finite, if there was one.

        A repair of the gradient would hide the reason.
        """
        self.unread = 0
        nimg, norm, loss = self.noted.tolist()
        if nimg >= 0:
            raise FloatingPointError(
                f"after {nimg:.0f} images the gradient norm is {norm} (loss {loss:.4g}): "
                "lower lr, or set loss.buffer so that no sigma comes too close to its sigma_min")
