r"""Guidance of one denoiser by another: what the guide does worse is made better still.

D = D_guide + g (D_main - D_guide). With g > 1 the main denoiser's difference from a guide, which is told no
class, say, or was trained for a shorter time, is made larger. A sampler calls it as any other denoiser.

Classifier-free guidance by a caption is `Guided(denoiser, Untold(denoiser, "text"), g)`.

Source: Ho and Salimans 2022 (arXiv:2207.12598), where one network is both; Karras et al. 2024
(arXiv:2312.02696, arXiv:2406.02507), where the guide is a network of its own.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.network import Condition


class Untold(nn.Module):
    """A denoiser that is never told some of the conditions, by their names: the guide of itself."""

    def __init__(self, denoiser: Denoiser, *names: str) -> None:
        super().__init__()
        self.denoiser, self.names = denoiser, names

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """Shapes as those of the denoiser."""
        told = {name: values for name, values in (condition or {}).items() if name not in self.names}
        return self.denoiser(x, sigma, told)


class Guided(nn.Module):
    """D(x, sigma) = D_guide + g (D_main - D_guide), for any g; at g = 1 the guide is not asked.

    Both are told the same condition, of which each takes what it knows: an unconditional guide no class.
    """

    def __init__(self, main: Denoiser, guide: Denoiser | Untold, guidance: float) -> None:
        """Raises `ValueError` for a `guidance` g that is not finite."""
        super().__init__()
        if not math.isfinite(guidance):
            raise ValueError(f"guidance: got {guidance}, allowed: a finite number")
        self.main, self.guide, self.guidance = main, guide, guidance

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Tensor:
        """Shapes as those of the two denoisers."""
        D = self.main(x, sigma, condition)
        if self.guidance == 1:
            return D
        return self.guide(x, sigma, condition).lerp(D, self.guidance)
