"""The shape of a manifest, checked strictly on writing and on reading. Standard library only.

A check is a function of (value, where) that raises `ValueError` naming the place and what is allowed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]
HEX = re.compile(r"[0-9a-f]+")
ABSOLUTE = re.compile(r"/|~|[A-Za-z]:[\\/]|\\\\")
LARGEST = 2**63  # of whole numbers: beyond it no file size, count or seed has a meaning


def refuse(condition: bool, where: str, value: Any, allowed: str) -> None:
    """Raise `ValueError` if the condition holds; a long value is cut."""
    if condition:
        raise ValueError(f"{where}: got {repr(value)[:60]}, allowed: {allowed}")


def text(value: Any, where: str) -> None:
    """Text that is no absolute path: a manifest must not tell where someone's files lie."""
    refuse(not isinstance(value, str), where, value, "text")
    refuse(bool(ABSOLUTE.match(value)), where, value, "no absolute path")


def name(value: Any, where: str) -> None:
    """The name of a file in the manifest's own folder, or of a file elsewhere without its folder."""
    text(value, where)
    refuse(value in ("", ".", "..") or any(c in value for c in "/\\\0\n"), where, value, "a file name")


def path(value: Any, where: str) -> None:
    """A path relative to the manifest's folder; whether it stays in the tree is the audit's to say."""
    text(value, where)
    refuse(not value or any(c in value for c in "\\\0\n"), where, value, "a relative path with /")


def hexadecimal(length: int) -> Check:
    """Exactly so many hexadecimal digits."""
    def check(value: Any, where: str) -> None:
        good = isinstance(value, str) and len(value) == length and HEX.fullmatch(value)
        refuse(not good, where, value, f"{length} hexadecimal digits")
    return check


def flag(value: Any, where: str) -> None:
    """True or false."""
    refuse(not isinstance(value, bool), where, value, "true or false")


def whole(value: Any, where: str) -> None:
    """A count or a size."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST
    refuse(not good, where, value, "a whole number from 0 to 2^63 - 1")


def number(value: Any, where: str) -> None:
    """A finite number; whole ones below 2^64 (seeds)."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    refuse(not good or (isinstance(value, int) and abs(value) >= 2 * LARGEST)
           or (isinstance(value, float) and not math.isfinite(value)), where, value, "a finite number")


def data(value: Any, where: str) -> None:
    """Any plain data: what a specification or a stage's facts hold."""
    waiting = [(value, where)]
    while waiting:
        found, at = waiting.pop()
        if isinstance(found, dict):
            waiting += [(below, f"{at}.{key}") for key, below in found.items()]
        elif isinstance(found, list):
            waiting += [(below, f"{at}[{i}]") for i, below in enumerate(found)]
        elif isinstance(found, str):
            text(found, at)
        elif found is not None and not isinstance(found, bool):
            number(found, at)


def table(value: Any, where: str) -> None:
    """Names to any plain data."""
    refuse(not isinstance(value, dict), where, value, "names and values")
    data(value, where)


def several(check: Check) -> Check:
    """A list of such things."""
    def every(value: Any, where: str) -> None:
        refuse(not isinstance(value, list), where, value, "a list")
        for i, one in enumerate(value):
            check(one, f"{where}[{i}]")
    return every


def named(check: Check, key: Check = text) -> Check:
    """A map from names to such things."""
    def every(value: Any, where: str) -> None:
        refuse(not isinstance(value, dict), where, value, "names and values")
        for one, below in value.items():
            key(one, f"{where}: a name")
            check(below, f"{where}.{one}")
    return every


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """Exactly these keys: all of the required, any of the optional, no other."""
    def check(value: Any, where: str) -> None:
        refuse(not isinstance(value, dict), where, value, "names and values")
        prefix = f"{where}." if where else ""
        for key in required.keys() - value.keys():
            raise ValueError(f"{prefix}{key} is missing")
        for key, below in value.items():
            one = required.get(key) or optional.get(key)
            if one is None:
                raise ValueError(f"{where}: unknown key {key[:60]!r}".removeprefix(": "))
            one(below, f"{prefix}{key}")
    return check


SHA256, COMMIT = hexadecimal(64), hexadecimal(40)
SCHEDULER = named(text)
ENVIRONMENT = record(
    {"python": text, "system": text, "machine": text, "packages": named(text)},
    {"release": text, "libc": text, "cpu": text, "cpu_features": several(text), "cpu_capability": text,
     "lock_sha256": SHA256, "threads": whole, "gpu": several(text), "cuda": text, "cudnn": text,
     "driver": text})
ATTEMPT = record({"started": text, "environment": ENVIRONMENT},
                 {"scheduler": SCHEDULER, "commit": COMMIT})
PARENTS = named(several(record({"path": path, "sha256": SHA256}, {"seal": SHA256})))
OUTPUTS = named(record({"path": path, "sha256": SHA256}, {}))
CODE = record({"module": text, "files": named(SHA256, path), "sha256": SHA256},
              {"bookkeeping": named(SHA256, path), "commit": COMMIT, "dirty": flag, "diff_sha256": SHA256})
EXECUTION = record(
    {"started": text, "ended": text, "wall_sec": number, "cpu_sec": number, "peak_memory_bytes": whole},
    {"gpu_sec": number, "peak_gpu_bytes": whole, "scheduler": SCHEDULER, "interrupted": several(ATTEMPT)})
KNOWN = {"stage": text, "artefact": name, "inputs": PARENTS, "spec": table, "code": CODE,
         "environment": ENVIRONMENT, "execution": EXECUTION}
BEGUN = record(KNOWN | {"outputs": OUTPUTS}, {})  # what is known of a manifest when its job begins
SECTIONS = KNOWN | {
    "format": whole, "sha256": SHA256, "size": whole, "spec_sha256": SHA256, "facts": table, "seal": SHA256,
    "external": several(record({"file": name, "sha256": SHA256},
                               {"name": text, "origin": text, "size": whole}))}
OPTIONAL = {"content_sha256": SHA256, "outputs": OUTPUTS,
            "root": record({"sha256": SHA256, "manifests": whole}, {})}
MANIFEST = record(SECTIONS, OPTIONAL)
