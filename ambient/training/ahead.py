"""The next batch is read while the present one is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")
Key = tuple[int, int, int]  # images seen before a batch; the first of its rows, and the one after the last


class Ahead(Generic[Made]):
    """What `make(key)` gives, where the key that follows is made in the background.

    `make` is a function of the key alone, so it does not matter who calls it, when, or that a key which was
    made ahead is never asked for. What it raises is raised where the key is asked for.
    """

    def __init__(self, make: Callable[[Key], Made]) -> None:
        self.make, self.next = make, None
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def __call__(self, key: Key, following: Key | None) -> Made:
        """What `make` gives for a key; `following` is the one that is likely to be asked for next."""
        waiting: tuple[Key, Future[Made]] | None = self.next
        found = waiting[1] if waiting and waiting[0] == key else self.pool.submit(self.make, key)
        made = found.result()
        self.next = following and (following, self.pool.submit(self.make, following))
        return made
