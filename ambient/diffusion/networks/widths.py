r"""How wide the blocks of MicroDiT are: linearly wider from the first to the last, in whole multiples.

For a block of width d with ratios r (attention) and m (MLP), b = int(m d):
  attention: 2 head ceil(int(r d) / (2 head)), and d itself for r = 1;
  dense MLP: M ceil(int(2 b / 3) / M), since a gated MLP has three matrices in the place of two;
  experts:   M ceil(b / M).
Source: Sehwag et al. 2024 (arXiv:2407.15811), section 3, after Mehta et al. 2024 (arXiv:2404.14619), and the
public settings. Numbers alone: whoever estimates costs loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BlockWidths:
    """Widths inside of a block: of queries, keys and values each, and of the MLP or of each expert."""

    attention: int
    mlp: int
    experts: bool = False  # whether the MLP is one of experts


def rounded_up(value: int, multiple: int) -> int:
    """The smallest multiple that is at least `value`."""
    return -(-value // multiple) * multiple


def dense_width(base: int, multiple: int) -> int:
    """Of a gated MLP that has about the parameters of a plain one of width `base`."""
    return rounded_up(int(2 * base / 3), multiple)


def attention_width(width: int, ratio: float, head: int) -> int:
    """Of queries, keys and values: an even number of heads, but the width itself for ratio 1."""
    return width if ratio == 1 else rounded_up(int(width * ratio), 2 * head)


def spread(first: float, last: float, count: int) -> list[float]:
    """`count` numbers evenly from first to last; a single one is the first."""
    return np.linspace(first, last, count).tolist()


def is_expert(index: int, every: int) -> bool:
    """Every `every`-th block has experts: of 2, those with an odd index. 0: none."""
    return every > 0 and index % every == every - 1


def block_widths(width: int, attention: Sequence[float], mlp: Sequence[float], *, head: int, multiple: int,
                 every: int, last_is_dense: bool) -> list[BlockWidths]:
    """The widths of blocks of width `width` with the ratios `attention` and `mlp`, one each a block.

    `head`: width of a head; `multiple`: M above; `every`: see `is_expert`; `last_is_dense`: the last block
    has no experts, whichever its index.
    """
    blocks = []
    for i, (r, m) in enumerate(zip(attention, mlp, strict=True)):
        base = int(width * m)
        experts = is_expert(i, every) and not (last_is_dense and i == len(mlp) - 1)
        inside = rounded_up(base, multiple) if experts else dense_width(base, multiple)
        blocks.append(BlockWidths(attention_width(width, r, head), inside, experts))
    return blocks
