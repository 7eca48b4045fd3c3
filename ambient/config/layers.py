"""Strict YAML files laid over each other. What does not parse, or is given twice, is refused by its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ambient.strict import SpecError


class StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML without surprises: a key given twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *anchor`; what follows it may replace it
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                mark = key_node.start_mark
                raise SpecError(f"{mark.name}, line {mark.line + 1}: key {key!r} is given twice; "
                                "keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict:
    """Read one YAML file of keys and values. Raises `SpecError` naming file and line."""
    try:
        with open(path) as file:
            loaded = yaml.load(file, StrictLoader)  # noqa: S506, a subclass of SafeLoader
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SpecError(f"{path}{where}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(loaded or {}, dict):
        raise SpecError(f"{path}: got {type(loaded).__name__}, allowed: keys and values")
    return loaded or {}


def overlay(base: Any, over: Any, where: str, sources: dict, file: str) -> Any:
    """`over` laid over `base`: maps merge key by key, anything else replaces. Notes who set what."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        sources[where] = file
        return over
    merged = dict(base)
    for key, value in over.items():
        path = f"{where}.{key}" if where else str(key)
        if key in base:
            merged[key] = overlay(base[key], value, path, sources, file)
        else:
            merged[key] = value
            sources[path] = file
    return merged


def lines(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from lines(inner, f"{where}.{key}" if where else key)
    else:
        yield where, value
