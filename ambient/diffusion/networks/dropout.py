"""Dropout by masks that are drawn before an evaluation, which is then arithmetic alone."""

from __future__ import annotations

from torch import Tensor, nn

from ambient.diffusion.network import Draw


class Dropping(nn.Module):
    """A block that drops some of its activations (B, channels_out, side, side), each with p = `dropout`."""

    def __init__(self, channels_out: int, side: int, dropout: float) -> None:
        super().__init__()
        self.channels_out, self.side, self.dropout = channels_out, side, dropout

    def dropped(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Dropout by a mask of `drawn_masks`, or none."""
        return x if keep is None else x * keep * (1 / (1 - self.dropout))


def drawn_masks(network: nn.Module, dropout: float, count: int, drawn: Draw | None) -> list[Tensor]:
    """A mask for each block of a network, in their order, as `drawn` gives them for `count` images.

    Empty where nothing is dropped: in evaluation mode, or with `dropout` 0. Raises `ValueError` in training
    mode with dropout where there is no `drawn`.
    """
    if not network.training or dropout == 0:
        return []
    if drawn is None:
        raise ValueError(f"dropout is {dropout} in training mode: say what draws its masks, or call eval()")
    shapes = [(count, block.channels_out, block.side, block.side)
              for block in network.modules() if isinstance(block, Dropping)]
    return [drawn(shape, 1 - dropout) for shape in shapes]
