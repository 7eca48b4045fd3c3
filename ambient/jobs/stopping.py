"""Stopping on request, at the next safe moment: a signal, or the job's own time budget.

A resumable stage asks `reason()` between two steps; where there is one, it saves its state and leaves with
status 75 (EX_TEMPFAIL: "run me again"). The handler only sets a flag: saving inside it would tear a step in
two. SLURM, PBS, LSF and Kubernetes all send SIGTERM before they kill; Ctrl-C is SIGINT, a closed terminal
SIGHUP.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from ambient.storage.files import is_full

RESUME = 75  # exit status of a job that saved its state and wants the same command again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
DISK_POLL = 20.0  # seconds between two attempts to write to a full disk
TRACEBACK = "AMBIENT_TRACEBACK"  # whether errors that are expected show where they arose
BUDGET = "AMBIENT_MINUTES"  # minutes after which a resumable stage leaves by itself
SAVE_SECONDS = "AMBIENT_CHECKPOINT_SECONDS"  # work that may be lost: the time between two saves
# Numbers by which the environment tells a resumable stage how to run; none changes a result but by rounding.
SETTINGS = {BUDGET: math.inf, SAVE_SECONDS: 120.0, "AMBIENT_COMPILE_FROM": 20_000.0,
            "AMBIENT_SHARD_WEIGHTS": 0.0}

_began = time.monotonic()
_asked: list[str] = []
_nothing_to_save: list[str] = []  # what is being done meanwhile


def setting(name: str) -> float:
    """One of `SETTINGS`, from the environment or by default. Raises `ValueError` for what is no number."""
    given = os.environ.get(name)
    try:
        value = float(given) if given else SETTINGS[name]
        if math.isnan(value):  # no time is beyond it: nothing would ever be saved
            raise ValueError
        return value
    except ValueError:
        raise ValueError(f"{name}: got {given!r}, allowed: a number") from None


def is_on(name: str) -> bool:
    """Whether the environment switches something on: by any value but an empty one and 0."""
    return os.environ.get(name, "") not in ("", "0")


def ask(why: str) -> None:
    """Ask this process to stop at its next safe moment; at once where there is nothing to save."""
    _asked.append(why)
    if _nothing_to_save and threading.current_thread() is threading.main_thread():
        leave(f"{_nothing_to_save[0]}: stopped ({why})")


@contextmanager
def nothing_to_save(work: str) -> Iterator[None]:
    """Around what saves nothing: who asks this process to stop there need not wait.

    A time budget is no such request: what takes longer than it would never be done.
    """
    _nothing_to_save.append(work)
    try:
        if _asked:
            leave(f"{work}: stopped ({_asked[0]})")
        yield
    finally:
        _nothing_to_save.pop()


def reason() -> str | None:
    """Why this process should stop, or None."""
    if _asked:
        return _asked[0]
    if time.monotonic() - _began > 60 * setting(BUDGET):
        return f"its {os.environ[BUDGET]} minutes are over ({BUDGET})"
    return None


def say(text: str) -> None:
    """A message on standard error, whoever has closed it: it must not cost a checkpoint."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def leave(text: str) -> NoReturn:
    """End the process with status `RESUME`, after its state was saved."""
    say(f"{text}; the same command goes on from here (exit status {RESUME})")
    raise SystemExit(RESUME)


def patiently(write: Callable, *arguments: object) -> None:
    """Call `write`, and where the disk is full try again until there is space or the process is told to stop.

    The work is in memory still: ending here would lose it, waiting does not.
    """
    while True:
        try:
            write(*arguments)
            return
        except OSError as error:
            if not is_full(error):
                raise
            say(f"{error.filename or 'disk'}: {error.strerror}; nothing is lost while this waits: "
                f"free some space (next attempt in {DISK_POLL:.0f} s)")
            until = time.monotonic() + DISK_POLL
            while time.monotonic() < until:
                if why := reason():
                    leave(f"disk full and told to stop ({why}): going back to the last checkpoint")
                time.sleep(0.2)


@contextmanager
def watch() -> Iterator[None]:
    """Take every signal of `SIGNALS` as a request to stop. Refuses settings that are no numbers."""
    for name in SETTINGS:
        setting(name)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A process under nohup is meant to outlive its terminal.
    taken = [number for number in SIGNALS
             if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda got, frame: ask(signal.Signals(got).name))
              for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()
