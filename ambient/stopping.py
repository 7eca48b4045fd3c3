"""Stopping on request, at the next safe moment: a signal, or the job's own time budget.

A resumable stage asks `reason()` between two steps; where there is one, it saves its state and leaves with
status 75 (EX_TEMPFAIL: "run me again"). The handler only sets a flag: saving inside it would tear a step in
two. SLURM, PBS, LSF and Kubernetes all send SIGTERM before they kill.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

RESUME = 75  # exit status of a job that saved its state and wants the same command again
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
BUDGET = "AMBIENT_MINUTES"  # minutes after which a resumable stage leaves by itself

_began = time.monotonic()
_asked: list[str] = []


def ask(why: str) -> None:
    """Ask this process to stop at its next safe moment."""
    _asked.append(why)


def reason() -> str | None:
    """Why this process should stop, or None."""
    if _asked:
        return _asked[0]
    minutes = os.environ.get(BUDGET)
    if minutes and time.monotonic() - _began > 60 * float(minutes):
        return f"its {minutes} minutes are over ({BUDGET})"
    return None


def say(text: str) -> None:
    """One line on standard error, whoever has closed it: a message must not cost a checkpoint."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def leave(text: str) -> NoReturn:
    """End the process with status `RESUME`, after its state was saved."""
    say(f"{text}; the same command goes on from here (exit status {RESUME})")
    raise SystemExit(RESUME)


@contextmanager
def watch() -> Iterator[None]:
    """Take SIGTERM, SIGUSR1 and SIGUSR2 as requests to stop. Refuses a budget that is no number."""
    try:
        float(os.environ.get(BUDGET) or 0)
    except ValueError:
        raise ValueError(f"{BUDGET}: got {os.environ[BUDGET]!r}, allowed: a number of minutes") from None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda got, frame: ask(signal.Signals(got).name))
              for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()
