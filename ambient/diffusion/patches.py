r"""Images as sequences of square patches, some of which may be left out of a training step.

An image (C, S, S) has T = (S / p)^2 patches of p x p pixels, counted row by row. A step that leaves a
fraction r of them out draws which ones stay, tells the network by the condition's name `patches`, and takes
the mean of its loss over those alone:

    places = kept_patches(torch.rand(B, T, generator=generator), r)      # (B, K)
    denoised = denoiser(x_t, sigma, {"text": states, "patches": places})
    loss = patch_mean(ambient_loss(denoised, ...), p, places).mean()

All images of a batch keep the same number K, so the mean over images is the mean over all kept patches.
Source: Sehwag et al. 2024 (arXiv:2407.15811), section 3.
"""

from __future__ import annotations

from torch import Tensor

from ambient.diffusion.wholes import floor_of


def to_patches(images: Tensor, patch: int) -> Tensor:
    """(B, C, S, S) -> (B, T, p p C); within a patch by row, then column, then channel.

    Raises `ValueError` for images that are not square, or whose side is no multiple of `patch`.
    """
    batch, channels, height, width = images.shape
    if height != width or height % patch:
        raise ValueError(f"images of {height} x {width} pixels, allowed: squares whose side is a multiple of "
                         f"{patch}, the side of a patch")
    grid = height // patch
    split = images.reshape(batch, channels, grid, patch, grid, patch)
    return split.permute(0, 2, 4, 3, 5, 1).reshape(batch, grid * grid, patch * patch * channels)


def to_images(tokens: Tensor, patch: int) -> Tensor:
    """(B, T, p p C) -> (B, C, S, S): the inverse of `to_patches`. T must be a square number."""
    batch, count, width = tokens.shape
    grid, channels = round(count**0.5), width // patch**2
    split = tokens.reshape(batch, grid, grid, patch, patch, channels)
    return split.permute(0, 5, 1, 3, 2, 4).reshape(batch, channels, grid * patch, grid * patch)


def kept_patches(scores: Tensor, removed: float) -> Tensor:
    """Places of the patches that stay, (B, K) int64, rising; for scores (B, T), uniform in [0, 1).

    The K = floor(T (1 - `removed`)) with the smallest scores stay. Raises `ValueError` where none does.
    """
    count = floor_of(scores.shape[1], 1 - removed)
    if removed < 0 or count < 1:
        raise ValueError(f"removed: got {removed}, allowed: from 0 to what leaves at least one of "
                         f"{scores.shape[1]} patches")
    return scores.topk(count, largest=False).indices.sort().values


def require_places(places: Tensor, images: int) -> None:
    """Raise `ValueError` for places that are not (B, K), K of each of so many images."""
    if places.ndim != 2 or len(places) != images or not places.shape[1]:
        raise ValueError(f"places of patches of the shape {tuple(places.shape)}, allowed: ({images}, K), the "
                         "patches of each image that stay, one or more")


def at(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens (B, K, D) of (B, T, D) at places (B, K)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def put_back(tokens: Tensor, places: Tensor, filling: Tensor) -> Tensor:
    """(B, T, D): `tokens` (B, K, D) at their places (B, K), and `filling` (B, T, D) everywhere else."""
    return filling.to(tokens.dtype).scatter(1, places[:, :, None].expand_as(tokens), tokens)


def patch_mean(values: Tensor, patch: int, places: Tensor | None = None) -> Tensor:
    """The mean of `values` (B, C, S, S) over channels and pixels of the kept patches: (B,).

    1/K sum over kept patches t of 1/(p p C) sum over the numbers of patch t. `places` (B, K) are those of
    `kept_patches`; None: all of them. Raises `ValueError` for places of other images.
    """
    means = to_patches(values, patch).mean(2)
    if places is None:
        return means.mean(1)
    require_places(places, len(values))
    return means.gather(1, places).mean(1)
