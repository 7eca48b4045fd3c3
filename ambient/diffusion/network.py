"""What a denoiser asks of the network in it, whichever network that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

# What a network is told of each image beside its noise level, by name; the first axis is the image.
# `classes`: one-hot labels (B, classes). `augment`: the labels of the augmentation (B, 9), 0 for none.
# `text`: states of a caption (B, L, C), zeros for none. `patches`: places of the patches that stay (B, K).
Condition = Mapping[str, Tensor]
Draw = Callable[[tuple[int, ...], float], Tensor]  # (shape, p) -> True with probability p, of that shape


class Constrained(nn.Module):
    """A layer whose weights training brings back to a fixed magnitude before each step, outside the gradient.

    The loop asks every network for such layers (`constrain`), so a network of any kind may have them.
    """

    weight: nn.Parameter

    def magnitude(self) -> Tensor:
        """What `weight` is to be divided by, of a shape that broadcasts over it."""
        raise NotImplementedError


def constrained(network: nn.Module) -> list[Constrained]:
    """The layers of a network whose weights have a fixed magnitude, in their order."""
    return [layer for layer in network.modules() if isinstance(layer, Constrained)]


def own(tensor: Tensor) -> Tensor:
    """What of a tensor lies in this process: all of it, or some rows where several share it (DTensor)."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def constrain(layers: Sequence[Constrained]) -> None:
    """Divide the weights of layers by their magnitude, in place."""
    if layers:
        sizes = [own(layer.magnitude()) for layer in layers]
        torch._foreach_div_([own(layer.weight) for layer in layers], sizes)


class Network(Protocol):
    """The raw network F(x, c_noise), which knows nothing of a denoiser's scaling."""

    def __call__(self, x: Tensor, c_noise: Tensor, condition: Condition, masks: Sequence[Tensor]) -> Tensor:
        """The output for `x` (B, C, H, W) and `c_noise` (B,).

        Of the condition it takes what it knows, by name. A name that is missing means none of that, and one
        that it does not know changes nothing: samplers and the training loop hand on conditions unread.
        Settings are refused that would have it told what it can't know (`NetworkSpec.KNOWS`).
        """

    def masks(self, count: int, drawn: Draw | None) -> list[Tensor]:
        """Dropout masks of `count` images, as `drawn` gives them; empty where nothing is dropped."""
