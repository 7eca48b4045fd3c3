"""Progress of long work as plain lines on standard error."""

from __future__ import annotations

import time

from ambient.stopping import say

LONGEST = 300.0  # seconds between two lines


class Progress:
    """Lines that grow rarer, from one every 5 s to one every 5 minutes: images, images/s, time left, facts.

    Plain lines, not a redrawn bar: under a workflow they go to the rule's log, for `tail -f`.
    """

    def __init__(self, name: str, total: int, start: int = 0, every: float = 5.0) -> None:
        self.name, self.total, self.start, self.every = name, total, start, every
        self.began = self.last = time.monotonic()

    def update(self, done: int, **facts: float) -> None:
        """Report that `done` of `total` images are finished."""
        now = time.monotonic()
        every = min(max(self.every, (now - self.began) / 50), LONGEST)
        if now - self.last < every and done < self.total:
            return
        self.last = now
        rate = (done - self.start) / max(now - self.began, 1e-9)
        left = (self.total - done) / rate if rate else float("inf")
        extra = "".join(f"  {key} {value:.4g}" for key, value in facts.items())
        say(f"{self.name}: {done:,}/{self.total:,} images  {rate:,.0f}/s  ETA {left:,.0f} s{extra}")
