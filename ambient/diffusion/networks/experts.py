r"""A mixture of experts in which experts choose tokens, each the same number of them in every image.

p = softmax over the E experts of gate(x), for each token. Expert e takes the k = floor(capacity T / E) of an
image's T tokens with the largest p[., e], none where that is 0, and

    y[t] = sum over the experts e that took token t of p[t, e] W2_e gelu(W1_e x[t]),

which is 0 for a token that nobody took. No expert is idle, and no loss has to balance them.
Source: Zhou et al. 2022 (arXiv:2202.09368); Sehwag et al. 2024 (arXiv:2407.15811), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.diffusion.network import Routing
from ambient.diffusion.networks.layers import Linear
from ambient.diffusion.wholes import floor_of


class Experts(Routing):
    """E experts of two layers without biases: tokens (B, T, D) -> (B, T, D).

    width: D. inside: the width between an expert's layers. capacity: experts that a token has on average, in
    (0, E]. std: of W1 and of the gate; std_out: of W2. Parameters: `gate.weight` (E, D), `w1` (E, D, inside),
    `w2` (E, inside, D). Raises `ValueError` for a capacity out of range.
    """

    def __init__(self, width: int, inside: int, num_experts: int, capacity: float,
                 generator: torch.Generator | None, *, std: float, std_out: float) -> None:
        super().__init__()
        if not 0 < capacity <= num_experts:
            raise ValueError(f"capacity: got {capacity}, allowed: (0, {num_experts}], the number of experts")
        self.capacity = capacity
        self.num_experts = num_experts
        self.gate = Linear(width, num_experts, generator, std)
        self.w1 = nn.Parameter(torch.empty(num_experts, width, inside).normal_(0, std, generator=generator))
        self.w2 = nn.Parameter(torch.empty(num_experts, inside, width).normal_(
            0, std_out, generator=generator))

    def chosen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(places, gates), (B, E, k) each: which tokens each expert takes, by falling p, and their p.

        Where two tokens tie at rank k, which of them is taken is not defined.
        """
        shares = self.gate(x).softmax(2).transpose(1, 2)
        gates, places = shares.topk(floor_of(x.shape[1], self.capacity / self.num_experts), dim=2)
        return places, gates

    def forward(self, x: Tensor) -> Tensor:
        # Tokens are gathered and added by their index. A product with one-hot rows would give the same, and
        # be a ninth of the arithmetic of the whole network at 1024 tokens.
        batch, count, width = x.shape
        places, gates = self.chosen(x)
        first = torch.arange(0, batch * count, count, device=x.device)  # of each image's tokens
        rows = (places + first[:, None, None]).transpose(0, 1).flatten(1)  # (E, B k)
        tokens = x.reshape(-1, width).index_select(0, rows.flatten()).reshape(*rows.shape, width)
        outputs = torch.bmm(F.gelu(torch.bmm(tokens, self.w1)), self.w2)
        outputs = outputs * gates.transpose(0, 1).flatten(1)[:, :, None]
        if self.training:
            self.count(batch, count, rows)
        total = outputs.new_zeros(batch * count, width)
        return total.index_add(0, rows.flatten(), outputs.flatten(0, 1)).reshape(x.shape)
