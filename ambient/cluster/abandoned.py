"""Snakemake's lock on a folder, where the Snakemake that held it was killed.

Snakemake writes down the files of a run and refuses another run of the same files. A run that is killed
leaves that list behind, and the next one would ask for `--unlock`. Here each run holds a lease beside the
list, as jobs do (`ambient.jobs.lock`). Where every lease is of a run that is dead, nobody works on the files
of the list.
"""

from __future__ import annotations

import atexit
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

from ambient.jobs import lock
from ambient.jobs.lock import LEASE, RENEWAL

LOCKS, RUNS = "locks", "ambient-runs"  # folders in .snakemake: Snakemake's own lists, and the leases


def lease_at(path: Path) -> SoftFileLease:
    """The lease of a run. One of this machine whose process is dead can be had at once."""
    return SoftFileLease(path, lease_duration=LEASE, heartbeat_interval=RENEWAL, thread_local=False)


def alive(path: Path, now: float) -> str | None:
    """Who holds a lease, in words. One that nobody holds is removed.

    `now` is the time of a file that was just made beside it. A lease of another machine that was not renewed
    for `LEASE` seconds before is held by nobody: whether its process lives can't be asked.
    """
    lease = lease_at(path)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        host, process = lock.holder(lease)
        with suppress(OSError):
            if host != socket.gethostname() and now - path.stat().st_mtime > LEASE:
                lease.break_lock()
                return None
        return f"host {host}, process {process}"
    lease.release()
    return None


def take_over(folder: Path, say: Callable[[str], None]) -> int:
    """Begin a run in `folder`, which is `.snakemake`: hold a lease until this process ends.

    Returns of how many dead runs the lists were removed: 0 where another run works, of which it `say`s who.
    """
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    others = sorted((folder / RUNS).glob("*.lock"))
    lease = lease_at(folder / RUNS / f"{secrets.token_hex(4)}.lock")
    lease.acquire(timeout=0)
    atexit.register(lease.release)
    now = Path(lease.lock_file).stat().st_mtime
    working = [who for path in others if (who := alive(path, now))]
    if working:
        say(f"Another run works in this folder ({'; '.join(working)}): it can't be asked for the same files "
            "until that ends.")
        return 0
    for path in (folder / LOCKS).glob("*.lock") if others else ():
        path.unlink()
    return len(others)
