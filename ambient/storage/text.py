"""Text for a terminal about files whose names and contents may be anybody's."""

from __future__ import annotations

import sys


def printable(text: object) -> str:
    """Text for a terminal: control characters, which a hostile name may hold, become ?."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def skipped(why: str) -> None:
    """Tell of a file that a walk through a tree passes over."""
    print(printable(f"skipped: {why}"), file=sys.stderr)
