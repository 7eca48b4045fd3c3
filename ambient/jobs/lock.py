"""One copy of a job at a time, on any file system, and no lock that stays behind.

The kernel's lock (flock; over NFS a byte-range lock) goes with the process that holds it, however that ends.
Where a file system keeps such locks to each machine, a heartbeat tells: the holder rewrites the lock file
every few seconds, and whoever finds a file of another machine waits until its content has stood still.
Clocks are not compared. Correctness does not hang on this: work is deterministic and files are replaced
whole, so two copies would only do the same work twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ambient.jobs import stopping

BEAT = 10.0  # seconds between two heartbeats
STALE = 90.0  # seconds without one, after which the holder is taken for dead
POLL = 2.0  # seconds between two looks at a lock that another copy holds


def owner() -> dict:
    """Who asks: machine, process, scheduler's job."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex,
            "job": os.environ.get("SLURM_JOB_ID", "")}


def content(path: Path) -> dict:
    """What a lock file says; {} where there is none, or half of one."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def taken(path: Path) -> tuple[int, bool] | None:
    """(descriptor, whether the kernel's lock is on it), or None where another process has that lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:  # not one just removed by its holder
            return descriptor, True
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # no such locks here: the heartbeat alone decides
        return descriptor, False
    os.close(descriptor)
    return None


def write(descriptor: int, record: dict) -> None:
    """Rewrite the lock file in place (a rename would take it from under the kernel's lock)."""
    text = json.dumps(record).encode()
    try:
        os.pwrite(descriptor, text.ljust(512), 0)
        os.fsync(descriptor)
    except OSError as error:  # a full disk must not stop the work that the lock protects
        stopping.say(f"lock: heartbeat not written ({error.strerror})")


def beating(path: Path, me: dict, kernel: bool) -> bool:
    """Whether a holder that the kernel's lock can't tell of is alive, watched for up to `STALE` seconds."""
    first = content(path)
    if not first or (kernel and first.get("host") == me["host"]):
        return False
    until = time.monotonic() + STALE
    while time.monotonic() < until and stopping.reason() is None:
        time.sleep(POLL)
        if content(path) != first:
            return bool(content(path))
    return False


def beat(path: Path, descriptor: int, me: dict, done: threading.Event) -> None:
    """Heartbeats until `done`; asks this process to stop if another copy took the lock over."""
    count = 0
    while not done.wait(BEAT):
        found = content(path).get("token")
        if found not in (None, me["token"]):
            stopping.ask("another copy has taken over its state")
            return
        count += 1
        write(descriptor, me | {"beat": count})


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock at `path`; yields whether another copy had to be waited for.

    Leaves with `stopping.RESUME` if told to stop while waiting.
    """
    me, waited = owner(), False
    while (got := taken(path)) is None or beating(path, me, got[1]):
        if not waited:
            found = content(path)
            stopping.say(f"{path}: another copy of this job runs (host {found.get('host', '?')}, process "
                         f"{found.get('pid', '?')}, job {found.get('job') or '-'}); waiting for it")
        waited = True
        if got is not None:
            os.close(got[0])
        if why := stopping.reason():
            stopping.leave(f"stopped while waiting for another copy: {why}")
        time.sleep(POLL)
    descriptor = got[0]
    write(descriptor, me)
    done = threading.Event()
    thread = threading.Thread(target=beat, args=(path, descriptor, me, done), daemon=True)
    thread.start()
    try:
        yield waited
    finally:
        done.set()
        thread.join()
        if content(path).get("token") in (None, me["token"]):
            path.unlink(missing_ok=True)
        os.close(descriptor)
