"""How several ranks come to one gradient: by torch's engine, which exchanges some while others are computed.

DistributedDataParallel (Li et al. 2020, arXiv:2006.15704) collects gradients in buckets. It adds a bucket up
over the ranks as soon as it is full, beside the backward pass, which fills the next. One rank needs none.
"""

from __future__ import annotations

import gc

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ambient.jobs import ranks
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


def spread(network: nn.Module, loss_of: LossOf, spec: OptimiserSpec, nimg: int,
           least: int) -> tuple[LossOf, int]:
    """(`loss_of` with gradients that are means over the ranks, the parts of a rank's rows, `least` or more).

    Floating-point sums of four ranks depend on where a gradient lies in its bucket. After the first exchange
    torch fills the buckets anew, by the order in which gradients came. So one exchange is thrown away before
    training begins or goes on, and an attempt adds up in the order of the one before it. Where some weights
    are unused torch leaves the buckets as they are.
    """
    if ranks.size() == 1:
        return loss_of, least
    engine, reserve = replicated(network, loss_of, False), parts.later(network, spec)
    number, some_unused = parts.that_fit(engine, network, nimg, spec.batch, least, reserve)
    if some_unused:
        del engine  # it has hooks on the gradients
        gc.collect()
        return replicated(network, loss_of, True), number
    parts.backward(engine, nimg, number)
    network.zero_grad(set_to_none=True)
    return engine, number
