"""Every named entry of a scale: what its files say, laid over each other, and which of them said what.

An entry that is `like` another takes over all of it in the file that says so, and in each later file first
what that file changes in the other one. So a scale's word is stronger than any file that it is laid over, and
what an entry says itself is stronger than what it takes over from the same file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ambient.settings.files import LIKE, SECTIONS, Written, layers, lineage
from ambient.settings.layers import overlay
from ambient.settings.rows import Rows
from ambient.specs.strict import nearest


class Entries:
    """The entries of one scale, by section and name."""

    def __init__(self, folder: Path, scale: str) -> None:
        self.folder, self.scale, self.lineage = folder, scale, lineage(folder, scale)
        self.layers = layers(folder, scale)
        self.rows = Rows(self.layers)
        self.parts: dict[tuple[str, str, int], list[Written]] = {}
        self.tree = {section: {name: self.resolved(section, name) for name in self.names(section)}
                     for section in SECTIONS}
        self.tree["tables"] = {name: entry | {"rows": self.rows.tables[name]}
                               for name, entry in self.tree["tables"].items() if name in self.rows.tables}

    def names(self, section: str) -> list[str]:
        """The names of a section, in the order in which files bring them."""
        if section == "runs":
            return list(self.rows.home)
        return list(dict.fromkeys(name for layer in self.layers for name in layer[section]))

    def resolved(self, section: str, name: str) -> Any:
        """An entry with all that is said of it laid over each other."""
        value: Any = {}
        for written in self.all_parts(section, name, len(self.layers) - 1):
            value = overlay(value, without_like(section, written.value))
        return value

    def own(self, section: str, name: str, level: int) -> list[Written]:
        """What a layer says of an entry itself."""
        if section == "runs":
            return list(self.rows.of(name, level))
        written = self.layers[level][section].get(name)
        return [written] if written else []

    def likes(self, section: str, name: str, level: int) -> tuple[list[str], int | None]:
        """The entries that one is like as of a layer, and the layer that says so."""
        if section not in LIKE:
            return [], None
        for said in range(level, -1, -1):
            written = self.layers[said][section].get(name)
            if written and isinstance(written.value, Mapping) and "like" in written.value:
                return self.others(section, written), said
        return [], None

    def others(self, section: str, written: Written) -> list[str]:
        """The names that `like` has. Raises `SpecError` for one that is not there."""
        like = written.value["like"]
        others, known = like if isinstance(like, list) else [like], self.names(section)
        for other in others:
            if other not in known:
                raise written.refuse(f".like: no such name in {section}: {other!r}{nearest(other, known)}")
        return others

    def all_parts(self, section: str, name: str, level: int, asked: tuple[str, ...] = ()) -> list[Written]:
        """What an entry is made of up to a layer, the strongest last."""
        key = section, name, level
        if key not in self.parts:
            earlier = self.all_parts(section, name, level - 1, asked) if level else []
            self.parts[key] = earlier + self.changes(section, name, level, asked)
        return self.parts[key]

    def changes(self, section: str, name: str, level: int, asked: tuple[str, ...] = ()) -> list[Written]:
        """What one layer adds to that. Raises `SpecError` for an entry that is like itself."""
        others, said = self.likes(section, name, level)
        if name in asked:
            written = self.layers[said][section][name]
            circle = " is like ".join([*asked[asked.index(name):], name])
            raise written.refuse(f".like: got {written.value['like']!r}, allowed: one that is not like "
                                 f"{name} itself: {circle}")
        read = self.all_parts if said == level else self.changes
        taken = [part for other in others for part in read(section, other, level, (*asked, name))]
        return taken + self.own(section, name, level)

    def split(self, key: str) -> tuple[str, str, list[str]] | None:
        """(section, name, keys within) of a dotted key; names may have dots. None for a key of no entry."""
        section, _, rest = re.sub(r"\[\d+\]", "", key).partition(".")
        if section not in SECTIONS:
            return None
        names = [name for name in self.names(section) if f"{rest}.".startswith(f"{name}.")]
        name = max(names, key=len, default=None)
        return name and (section, name, [part for part in rest[len(name):].split(".") if part])

    def setter(self, key: str, strongest: bool = False) -> Written | None:
        """What set the value under a dotted key; None where nothing did.

        For a map it is what first named it, or with `strongest` what last said something of it.
        """
        section, name, path = self.split(key) or (None, None, [])
        parts = self.all_parts(section, name, len(self.layers) - 1) if name else []
        having = [part for part in parts if reaches(part.value, path)]
        whole = not strongest and all(isinstance(at(part.value, path), Mapping) for part in having)
        return having[0 if whole else -1] if having else None

    def origin(self, key: str, strongest: bool = False) -> Written | None:
        """What set the value under a dotted key, or else the value nearest above that something set."""
        while self.split(key) and not self.setter(key):
            key = key.rpartition(".")[0]
        return self.setter(key, strongest)

    def located(self, message: str) -> str:
        """A message that begins with a dotted key, with the file that set that key put in front."""
        key = message.split(":")[0]
        unknown = re.match(r"[^:]*: unknown key '([^']*)'", message)
        missing = re.match(r"[^:]*: missing key ", message) is not None  # whoever spoke last may add it
        written = self.origin(f"{key}.{unknown[1]}" if unknown else key, strongest=missing)
        if written is None:
            return f"{self.folder}: {message}"
        taken = not f"{key}.".startswith(f"{written.key}.") and ".rows." not in written.key
        return f"{written.file}: {message}" + (f" (it stands in {written.key})" if taken else "")


def without_like(section: str, value: Any) -> Any:
    """What an entry says, but for what it is like."""
    if section in LIKE and isinstance(value, Mapping):
        return {key: one for key, one in value.items() if key != "like"}
    return value


def at(value: Any, path: list[str]) -> Any:
    """What stands under a path of keys; a leaf that ends it early is what is there."""
    for key in path:
        if not isinstance(value, Mapping):
            return value
        value = value[key]
    return value


def reaches(value: Any, path: list[str]) -> bool:
    """Whether there is anything under a path of keys."""
    try:
        at(value, path)
    except KeyError:
        return False
    return True
