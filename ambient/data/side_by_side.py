"""Many image files: read one by one, decoded side by side. Pillow frees the interpreter while it decodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Decoded = TypeVar("Item"), TypeVar("Decoded")
AHEAD = 64  # files that are read at once: a large photograph decoded takes some 100 MB


def side_by_side(items: Sequence[Item], content: Callable[[Item], bytes],
                 decode: Callable[[Item, bytes], Decoded]) -> Iterator[Decoded]:
    """`decode(item, content(item))` of each item, in order; `decode` is called in a thread for each core."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for first in range(0, len(items), AHEAD):
            part = items[first:first + AHEAD]
            yield from pool.map(decode, part, [content(item) for item in part])
