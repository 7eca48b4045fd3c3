"""Plain data to frozen dataclasses, strictly, and back: how every setting is read and recorded.

Standard library only, so that the workflow can validate everything without importing torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar

from ambient.storage.files import canonical_json
from ambient.storage.text import printable

T = TypeVar("T")
SEEDS = 2**63
DIGEST = re.compile("[0-9a-f]{64}")


class SpecError(ValueError):
    """A setting that can't be used. The message is one line: where, what was found, what is allowed.

    Keys, values and paths may hold anything: what could break the line or steer a terminal becomes ?.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
    """Raise `SpecError` for `key` unless the condition holds."""
    if not condition:
        raise SpecError(f"{key}: got {value!r}, allowed: {allowed}")


def require_distinct(values: Collection, key: str) -> None:
    """Raise `SpecError` for `key` if a value is in the list twice: what is counted must not count double."""
    twice = [value for value in values if list(values).count(value) > 1]
    require(not twice, key, values, "each value once" + (f"; {twice[0]!r} is in it twice" if twice else ""))


def require_seeds(seeds: Collection[int], key: str) -> None:
    """Raise `SpecError` for `key` unless it has one or more seeds, all different."""
    require(len(seeds) > 0 and all(0 <= seed < SEEDS for seed in seeds), key, seeds,
            "one or more whole numbers from 0 to 2^63 - 1")
    require_distinct(seeds, key)


def require_finite(spec: Any, *infinite: str) -> None:
    """Raise `SpecError` for a float of a specification that is no ordinary number.

    Those named in `infinite` may be infinity, which means "never" or "no bound" there; none may be NaN.
    """
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            allowed = field.name in infinite and value == math.inf
            require(allowed, field.name, value, "a number or inf" if field.name in infinite else
                    "a finite number")


def require_unread(spec: Any, keys: Collection[str], who: str) -> None:
    """Raise `SpecError` for a setting that is not at its default, of those that `who` does not read."""
    for field in dataclasses.fields(spec):
        if field.name in keys:
            value, default = getattr(spec, field.name), field.default
            written = "inf" if default == math.inf else json.dumps(default)
            require(value == default, field.name, value, f"{written}: {who} does not read it")


def later(default: Any, kw_only: bool = False) -> Any:
    """A field that came after specifications had been recorded: `plain` leaves it out at its default.

    So a specification that does not use the field is recorded as it was before there was one, to the byte.
    """
    return dataclasses.field(default=default, kw_only=kw_only, metadata={"later": True})


def build(cls: type[T], values: Any, where: str) -> T:
    """Make a dataclass from plain data, strictly; of a specification that has kinds, the one of its kind.

    Raises `SpecError` naming `where` and the key for: unknown keys (with the nearest valid one),
    missing keys, wrong types (a string where a number belongs), values out of range.
    """
    if not isinstance(values, Mapping):
        raise SpecError(f"{where}: got {values!r}, allowed: keys and values")
    if hasattr(cls, "KINDS"):  # `ambient.specs.kinds`
        cls = cls.member(values, where)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = types_of(cls)
    refuse_unknown(values, fields, where)
    arguments = {}
    for key, field in fields.items():
        if key in values:
            arguments[key] = convert(hints[key], values[key], f"{where}.{key}")
            require(not key.endswith("sha256") or values[key] is None or DIGEST.fullmatch(values[key]),
                    f"{where}.{key}", values[key], "64 digits of 0 to 9 and a to f, as sha256sum prints them")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SpecError(f"{where}: missing key {key!r}{choices(hints[key])}")
    try:
        return cls(**arguments)
    except SpecError as error:
        raise SpecError(f"{where}.{error}") from None


@functools.cache
def types_of(cls: type) -> dict[str, Any]:
    """Field -> type of a dataclass. Cached: evaluating the annotations was most of reading a scale."""
    return typing.get_type_hints(cls)


def refuse_unknown(keys: Collection[str], known: Collection[str], where: str) -> None:
    """Raise `SpecError` for the first key that is not among the known ones, with the nearest that is."""
    for key in keys:
        if key not in known:
            raise SpecError(f"{where}: unknown key {key!r}{nearest(key, known)}")


def choices(hint: Any) -> str:
    """` (allowed: a, b)` of a type that is a choice of words, else nothing."""
    words = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
    return f" (allowed: {', '.join(map(str, words))})" if words else ""


def nearest(key: str, known: typing.Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or the list of what is known where nothing is near."""
    known = list(known)
    matches = difflib.get_close_matches(str(key), known, n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else f" (known: {', '.join(known)})"


def convert(hint: Any, value: Any, where: str) -> Any:
    """Check `value` against a type hint and return it (lists become tuples, maps dataclasses)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kind, *others = (kind for kind in arguments if kind is not type(None))
        if others:
            raise TypeError(f"{where}: {hint} has several types beside None: which is meant can't be told")
        return convert(kind, value, where)
    if origin is Literal:
        require(value in arguments, where, value, ", ".join(map(str, arguments)))
        return value
    if origin is tuple:
        require(isinstance(value, (list, tuple)), where, value, "a list")
        return tuple(convert(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Mapping:
        require(isinstance(value, Mapping), where, value, "keys and values")
        return {key: convert(arguments[1], one, f"{where}.{key}") for key, one in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if hint is float:
        return number(value, where)
    if hint is int:
        require(isinstance(value, int) and not isinstance(value, bool), where, value, "a whole number")
    elif hint in (str, bool):
        require(isinstance(value, hint), where, value, "text" if hint is str else "true or false")
    return value


def number(value: Any, where: str) -> float:
    """A finite number, or `inf` spelled so; text such as '1e-4' is refused with the right spelling."""
    if value == "inf":
        return math.inf
    hint = " (YAML reads 1e-4 as text: write 1.0e-4)" if isinstance(value, str) else ""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    require(good, where, value, f"a number{hint}")
    return float(value)


def plain(spec: Any) -> Any:
    """A specification as plain data that survives JSON (infinity is written 'inf')."""
    if isinstance(spec, (str, int, float)) or spec is None:  # most are, and the questions below take longer
        return "inf" if isinstance(spec, float) and math.isinf(spec) else spec
    if dataclasses.is_dataclass(spec):
        values = [(field, getattr(spec, field.name)) for field in dataclasses.fields(spec)]
        return {field.name: plain(value) for field, value in values
                if "later" not in field.metadata or value != field.default}
    if isinstance(spec, Mapping):
        return {key: plain(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [plain(value) for value in spec]
    return spec


def to_json(spec: Any) -> str:
    """The canonical JSON of a specification: what a rule passes to its stage."""
    return canonical_json(plain(spec))


def from_json(cls: type[T], text: str) -> T:
    """Read a specification that `to_json` wrote (or a person typed), as strictly as a config file."""
    try:
        return build(cls, json.loads(text), "--spec")
    except json.JSONDecodeError as error:
        raise SpecError(f"--spec: not valid JSON ({error})") from None
