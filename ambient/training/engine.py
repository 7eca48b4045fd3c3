"""How several ranks come to one gradient: by torch's engines, which exchange some while others are computed.

DistributedDataParallel (Li et al. 2020, arXiv:2006.15704) collects gradients in buckets. It adds a bucket up
over the ranks as soon as it is full, beside the backward pass, which fills the next. All have all weights.

FSDP2 (`fully_shard`; Zhao et al. 2023, arXiv:2304.11277) gives each rank some rows of every weight and of
what belongs to it: gradients, Adam's moments, averages. The weights of a block are gathered before it is
computed, and the rows of its gradients are added up after it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ambient.jobs import ranks
from ambient.jobs.parted import is_shared
from ambient.specs import OptimiserSpec
from ambient.training import parts, shares
from ambient.training.parts import LossOf


class ShareLoss(nn.Module):
    """The loss of a share as a module around its network, so that an engine sees every use of the weights."""

    def __init__(self, network: nn.Module, loss_of: LossOf) -> None:
        super().__init__()
        self.network, self.loss_of = network, loss_of

    def forward(self, nimg: int, share: shares.Share) -> Tensor:
        return self.loss_of(nimg, share)


def replicated(network: nn.Module, loss_of: LossOf, some_unused: bool) -> DistributedDataParallel:
    """`loss_of` as the engine's module, for ranks of which each has all weights."""
    return DistributedDataParallel(ShareLoss(network, loss_of), find_unused_parameters=some_unused,
                                   gradient_as_bucket_view=True, forward_sync_buffers=False)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at once: members of the lists of a network, those with weights."""
    for child in network.children():
        for block in child.children() if isinstance(child, (nn.ModuleList, nn.ModuleDict)) else blocks(child):
            if next(block.parameters(), None) is not None:
                yield block


def sharded(network: nn.Module, loss_of: LossOf) -> LossOf:
    """`loss_of` as the engine's module, for ranks of which each has some rows of the weights.

    A weight that is one number has no rows. Each rank has it, and its gradient is `left_out`.
    """
    from torch.distributed.fsdp import fully_shard

    loss = ShareLoss(network, loss_of)
    numbers = {weight for weight in network.parameters() if weight.ndim == 0}
    modules = (*blocks(network), loss)
    for module in modules:
        fully_shard(module, ignored_params=numbers)
    # A compiled network is cut at each block, whose code is compiled once for each of their shapes.
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, 2 * len(modules))
    return loss


def left_out(weights: list[Tensor]) -> list[Tensor]:
    """The gradients that FSDP does not exchange: of scalar weights, where the other weights are shared."""
    if not any(is_shared(weight) for weight in weights):
        return []
    return [weight.grad for weight in weights if not is_shared(weight) and weight.grad is not None]


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its rows. Where several ranks share it each of them has to ask."""
    return tensor.full_tensor() if is_shared(tensor) else tensor


def collected(tensor: Tensor) -> Tensor:
    """A tensor, to be kept by the first rank.

    Of a tensor that several ranks share, the first gets all, in main memory, and the others get an empty one.
    """
    if not is_shared(tensor):
        return tensor
    found = whole(tensor)
    return found.cpu() if ranks.first() else found[:0].clone()


def spread(network: nn.Module, loss_of: LossOf, spec: OptimiserSpec, nimg: int, least: int,
           shard: bool = False) -> tuple[LossOf, int]:
    """(`loss_of` with gradients that are means over the ranks; parts of a rank's rows, `least` or more)."""
    if ranks.size() == 1:
        return loss_of, least
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    later = weights * (2 + len(spec.ema_stds or (None,)))  # Adam's moments and the averages
    if shard:
        # Nothing is shared yet, so that no rank waits for another. What is compiled will be with the engine.
        with torch.compiler.set_stance("force_eager"):
            number, _ = parts.that_fit(loss_of, network, nimg, spec.batch, least, later // ranks.size())
        return sharded(network, loss_of), number
    engine = replicated(network, loss_of, False)
    # The gradients of the trial lie beside the buckets, those of the training in them.
    number, some_unused = parts.that_fit(engine, network, nimg, spec.batch, least, later - weights)
    if some_unused:
        del engine  # it has hooks on the gradients
        gc.collect()
        return replicated(network, loss_of, True), number
    return engine, number


def settle(loss_of: LossOf, network: nn.Module, nimg: int, number: int) -> None:
    """Have what `spread` gave add up in the order in which every attempt of a training does.

    Floating-point sums of four ranks depend on where a gradient lies in its bucket. After the first exchange
    torch fills the buckets anew, by the order in which gradients came. So one exchange is thrown away before
    training begins or goes on. Where some weights are unused torch leaves the buckets as they are.
    """
    if isinstance(loss_of, DistributedDataParallel) and not loss_of.find_unused_parameters:
        parts.backward(loss_of, nimg, number)
        network.zero_grad(set_to_none=True)
