r"""Principal components of blocks of pixels as an encoder.

A block x of d numbers in [-1, 1] has the covariance C = V diag(l) V^T, l falling. Its latent is
z = H V_k^T (x - mean), with the k first columns of V and H = Hadamard(k) / sqrt(k). H is a rotation after
which all k numbers have the same variance, sum l / k: so an encoder that standardises each number keeps the
proportion of large and small components, as pixels have it. Decoding is mean + V_k H^T z, the nearest image
that has such a latent.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ambient.data.datasets import to_float
from ambient.storage.arrays import Array

TOGETHER = 1000  # images whose blocks are in memory at once


class PrincipalBlocks(nn.Module):
    """An `ambient.training.encoding.Coder` without learnt weights."""

    def __init__(self, block: int, numbers: int, channels: int) -> None:
        super().__init__()
        self.block, size = block, channels * block**2
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(numbers, size))

    def blocks(self, images: np.ndarray) -> Tensor:
        """(N, C block^2, h, h) of uint8 images (N, C, H, H), float32 in [-1, 1]."""
        return pixel_unshuffle(torch.from_numpy(to_float(images)).to(self.mean.device), self.block)

    @torch.no_grad()
    def fit(self, images: Array) -> float:
        """Take the components of all blocks of images; returns the share of the variance that they keep."""
        size, numbers = self.mean.numel(), len(self.basis)
        count, total, squares = 0, torch.zeros(size).double(), torch.zeros(size, size).double()
        for first in range(0, len(images), TOGETHER):
            rows = self.blocks(images[first:first + TOGETHER]).transpose(0, 1).flatten(1).T.double().cpu()
            count, total, squares = count + len(rows), total + rows.sum(dim=0), squares + rows.T @ rows
        mean = total / count
        values, vectors = torch.linalg.eigh(squares / count - torch.outer(mean, mean))
        largest = vectors[:, -numbers:].flip(1)
        largest = largest * torch.sign(largest[largest.abs().argmax(dim=0), torch.arange(numbers)])
        rotation = torch.from_numpy(hadamard(numbers) / math.sqrt(numbers))
        self.mean.copy_(mean)
        self.basis.copy_(rotation @ largest.T)
        return (values[-numbers:].sum() / values.sum()).item()

    def encode(self, images: np.ndarray) -> tuple[Tensor, Tensor]:
        """The latents (N, k, h, h) of uint8 images, and their standard deviation, which is 0."""
        away = self.blocks(images) - self.mean[:, None, None]
        z = torch.einsum("ks,nshw->nkhw", self.basis, away)
        return z, torch.zeros_like(z)

    def decode(self, z: Tensor) -> Tensor:
        """Images, about in [-1, 1], of latents."""
        blocks = torch.einsum("ks,nkhw->nshw", self.basis, z) + self.mean[:, None, None]
        return pixel_shuffle(blocks, self.block)
