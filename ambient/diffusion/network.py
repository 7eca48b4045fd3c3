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


class Routing(nn.Module):
    """A layer that sends tokens to experts, and counts in training what became of them.

    The loop asks every network for such layers (`routing`), sets the counts to 0 and puts them into its log.
    """

    num_experts: int

    def __init__(self) -> None:
        super().__init__()
        # Images, tokens, tokens that nobody took, tokens that experts took: no buffer, since they are no part
        # of what the network is.
        self.routed = torch.zeros(4, dtype=torch.int64)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Routing:
        """The counts go to the device of the weights."""
        self.routed = fn(self.routed)
        return super()._apply(fn, recurse)

    def count(self, images: int, tokens: int, taken: Tensor) -> None:
        """Add a batch of so many tokens an image, of which experts took those at `taken`, in any order."""
        left = torch.ones(images * tokens, dtype=torch.int64, device=taken.device)
        left = left.index_fill(0, taken.flatten(), 0)
        counted = torch.full_like(self.routed, 0)
        counted[0], counted[1], counted[2], counted[3] = images, images * tokens, left.sum(), taken.numel()
        self.routed += counted

    def told(self, counts: Tensor) -> dict[str, float]:
        """Counts, added up over ranks, as a log has them: tokens an expert took of an image, and the share of
        tokens that nobody took."""
        images, tokens, left, taken = counts.tolist()
        return {"tokens_an_expert": taken / (self.num_experts * images), "nobodys_tokens": left / tokens}


def routing(network: nn.Module) -> list[Routing]:
    """The layers of a network that have experts, in their order."""
    return [layer for layer in network.modules() if isinstance(layer, Routing)]


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
