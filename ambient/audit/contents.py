"""Whether two files say the same, and where they first differ: bits, or within the declared tolerance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ambient.provenance import manifest

# Bits are promised for equal libraries, kind of CPU and threads. Elsewhere: of uint8 pixels the largest
# difference and the share of pixels that may have any, of other numbers the largest relative difference.
PIXEL_STEPS, PIXEL_SHARE, RELATIVE = 2, 0.01, 1e-3


def arrays_digest(path: Path) -> str | None:
    """The digest of the arrays that a file holds, whatever its manifest says; None where it holds none."""
    if path.suffix != ".safetensors":
        return None
    try:
        return manifest.content_sha256(path)
    except Exception:  # whatever somebody has written into its header
        return None


def within(old: Path, new: Path) -> str | None:
    """In words the declared tolerance that holds, or None."""
    if old.suffix == ".safetensors":
        from ambient.storage.files import read_arrays

        first, second = read_arrays(old), read_arrays(new)
        if first.keys() != second.keys():
            return None
        good = all(near_arrays(first[name], second[name]) for name in first)
    elif old.suffix == ".json":
        good = near(json.loads(old.read_text(encoding="utf-8")), json.loads(new.read_text(encoding="utf-8")))
    elif old.suffix == ".csv":
        good = near(*([number(cell) for _, cell in cells(path)] for path in (old, new)))
    else:
        return None
    return (f"within tolerance (pixels: at most {PIXEL_STEPS} steps in {PIXEL_SHARE:.0%} of them; "
            f"other numbers: {RELATIVE:g} relative)") if good else None


def near_arrays(a, b) -> bool:
    """Whether two numpy arrays agree within the declared tolerance."""
    import numpy as np

    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == np.uint8:
        steps = np.abs(a.astype(np.int16) - b)
        return bool(steps.max(initial=0) <= PIXEL_STEPS and (steps > 0).mean() <= PIXEL_SHARE)
    if a.dtype.kind != "f":
        return bool((a == b).all())
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0))
    return bool(np.allclose(a, b, rtol=RELATIVE, atol=RELATIVE * largest))


def number(cell: str) -> float | str:
    """A cell's number, or its text."""
    try:
        return float(cell)
    except ValueError:
        return cell


def near(a, b) -> bool:
    """Whether plain data agree within the declared tolerance."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(near, a, b))
    if isinstance(a, float) and isinstance(b, int | float):
        return abs(a - b) <= RELATIVE * max(abs(a), abs(b)) or a != a and b != b
    return a == b


def cells(path: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of each cell of a table."""
    for line, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for column, cell in enumerate(row.split(","), 1):
            yield f"line {line}, column {column}", cell


def leaves(path: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of all that a file of arrays, of a table or of JSON says, in its order."""
    if path.suffix == ".safetensors":
        from ambient.storage.files import read_arrays

        yield from sorted(read_arrays(path).items())
    elif path.suffix == ".csv":
        yield from cells(path)
    elif path.suffix == ".json":
        waiting = [("", json.loads(path.read_text(encoding="utf-8")))]
        while waiting:
            place, value = waiting.pop()
            if isinstance(value, dict | list):
                inside = value.items() if isinstance(value, dict) else enumerate(value)
                waiting += [(f"{place}.{key}".lstrip("."), one) for key, one in reversed(list(inside))]
            else:
                yield place, value


def first_other(old: Path, new: Path) -> str | None:
    """Where two files first say something else, and both values; None where that can't be told."""
    for one, other in zip_longest(leaves(old), leaves(new)):
        if one is None:
            return f"{other[0]!r} is given by the job alone"
        if other is None:
            return f"{one[0]!r} is recorded alone"
        if one[0] != other[0]:
            return f"{one[0]!r} is recorded where the job gives {other[0]!r}"
        if told := differing(one[0], one[1], other[1]):
            return told
    return None


def differing(place: str, a: Any, b: Any) -> str | None:
    """Where two values of one place differ, and how; None where they are equal."""
    if not hasattr(a, "dtype"):
        return None if a == b else f"{place}: {a} is recorded, the job gives {b}"
    import numpy as np

    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{place}: {a.dtype} {a.shape} is recorded, the job gives {b.dtype} {b.shape}"
    others = np.argwhere(a != b) if a.dtype.kind != "f" else np.argwhere((a != b) & ~((a != a) & (b != b)))
    if not len(others):
        return None
    at = tuple(others[0].tolist())
    return f"{place}{list(at)}: {a[at]} is recorded, the job gives {b[at]}; {len(others)} of {a.size} differ"
