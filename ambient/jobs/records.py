"""Small files that a job writes for itself and reads back: each carries a digest of what it says.

A flipped bit or a line cut short in them would otherwise change a result, or end every further attempt. What
is damaged is named and set aside, renamed and not deleted; the job goes on with what is sound. Standard
library only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from ambient.jobs.stopping import say
from ambient.storage.files import digest, read_json, write_json, write_text

SEAL = "seal"
ASIDE = ".aside-"  # in the name of what was set aside, before a number


def sealed(record: Mapping) -> dict:
    """The record with the digest of all the rest of it."""
    return {**record, SEAL: digest(record)}


def opened(found: Any) -> dict:
    """The record under a seal. Raises `ValueError` where it is none, or says something else by now."""
    if not isinstance(found, dict) or SEAL not in found:
        raise ValueError("not a record with a seal")
    record = {key: value for key, value in found.items() if key != SEAL}
    if digest(record) != found[SEAL]:
        raise ValueError("differs from its seal")
    return record


def write(path: Path, record: Mapping) -> None:
    """Write one record as a JSON file, atomically."""
    write_json(path, sealed(record))


def read(path: Path) -> dict:
    """The record in a JSON file. Raises `ValueError` where it is damaged."""
    try:
        return opened(read_json(path))
    except RecursionError:
        raise ValueError("nested too deep") from None


def lines(path: Path) -> list[dict]:
    """The sound records of a file of JSON lines, in order; [] where there is no file.

    A file with a damaged line is set aside, and its sound lines are written anew.
    """
    found, wrong = [], None
    try:
        text = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        text, wrong = [], str(error)
    for number, line in enumerate(text, 1):
        try:
            found.append(opened(json.loads(line)))
        except (ValueError, RecursionError) as error:
            wrong = wrong or f"line {number}: {error}"
    if wrong:
        set_aside(path, f"damaged ({wrong})")
        write_lines(path, found)
    return found


def write_lines(path: Path, found: list[dict]) -> None:
    """Write records as JSON lines, atomically; no file for no records."""
    if not found:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(json.dumps(sealed(record)) + "\n" for record in found))


def set_aside(path: Path, why: str) -> Path:
    """Rename a file or folder, so that nothing uses it and nothing of it is lost. Says so."""
    target = next(new for number in count(1)
                  if not (new := path.with_name(f"{path.name}{ASIDE}{number}")).exists())
    os.replace(path, target)
    say(f"{path}: {why}; set aside as {target.name}")
    return target
