"""One copy of a job at a time, on any file system, and no lock that stays behind.

The lock is a lease of the library filelock: a file that one process alone can create, over NFS too, and whose
time the holder renews every few seconds. A holder of this machine that has died is replaced at once: the file
names its process and when that began. One of another machine is replaced when its file has stood still for
`LEASE` seconds by the clock of whoever waits, so that clocks are not compared. No result hangs on this: work
is deterministic and files are replaced whole, so two copies would do the same work twice, or one would fail.

The library waits for ever for a lock file that is empty, as a machine leaves it that loses its power at the
wrong moment. Here such a file counts as a holder that is dead: it goes after the same time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

from ambient.jobs import stopping

RENEWAL = 10.0  # seconds between two renewals
LEASE = 90.0  # seconds without one, after which the holder is taken for dead
POLL = 2.0  # seconds between two looks at a lock that another copy holds


def holder(lease: SoftFileLease) -> tuple[str, str]:
    """Host and process of who holds a lease, by its file."""
    owner = lease.owner
    host = owner.hostname.partition("?")[0] if owner else "unknown"  # without a container's mark
    return host, str(owner.pid if owner else "unknown")


class Queue:
    """A wait for a lock that another copy holds; the library calls it at each look."""

    def __init__(self, lease: SoftFileLease, path: Path) -> None:
        self.lease, self.path = lease, path
        self.waited = False
        self.empty_since: float | None = None

    def gives_up(self) -> bool:
        """Whether this process was told to stop. The first call says who is waited for."""
        if not self.waited:
            host, process = holder(self.lease)
            stopping.say(f"{self.path}: another copy of this job runs (host {host}, process {process}); "
                         f"waiting until it ends or gives no sign of life for {LEASE:g} s")
        self.waited = True
        self.remove_empty()
        return stopping.reason() is not None

    def remove_empty(self) -> None:
        """Remove a lock file that has been empty all through a lease."""
        with suppress(OSError):
            if self.path.stat().st_size:
                self.empty_since = None
            elif self.empty_since is None:
                self.empty_since = time.monotonic()
            elif time.monotonic() - self.empty_since >= LEASE:
                self.lease.break_lock()


def lost(loss: LeaseCompromise) -> None:
    """Ask this process to stop: its lock is another copy's by now, or can be at any moment."""
    stopping.ask("another copy has taken over its state" if loss.reason == "owner-changed" else
                 f"its lock {loss.lock_file} is lost ({loss.error or loss.reason})")


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock at `path`; yields whether another copy had to be waited for.

    Leaves with `stopping.RESUME` if told to stop while waiting. A process that loses the lock later is asked
    to stop.
    """
    lease = SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=RENEWAL, poll_interval=POLL,
                          thread_local=False, on_compromise=lost)
    queue = Queue(lease, path)
    try:
        stopping.patiently(partial(lease.acquire, cancel_check=queue.gives_up))
    except Timeout:
        stopping.leave(f"stopped while waiting for another copy: {stopping.reason()}")
    try:
        yield queue.waited
    finally:
        lease.release()
