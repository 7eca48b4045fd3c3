"""Rows of tables: each is a run that is written down in its table's file, on one line.

A table has `defaults` for its own rows, and `rows`: a map of names to what each row says, or a list. In a
map, `NAME: {of: TABLE}` shows a row of another table, and `NAME: null` leaves one out. A list says which rows
there are, in its order; an item of it is a name, or a row with its settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ambient.settings.entry_types import SweepEntry
from ambient.settings.files import COMPLETE, NAME, Layer, Written, slip
from ambient.settings.layers import overlay
from ambient.specs.strict import SpecError, build, nearest, require

SHOWN = object()  # an item of a list that is a name alone: a row that stands somewhere else


def items(written: Written) -> list[tuple[str, Any]]:
    """(row's name, what stands there) of the `rows` in one file."""
    rows = written.value.get("rows") or {}
    if isinstance(rows, Mapping):
        return list(rows.items())
    key = f"{written.file}: {written.key}.rows"
    require(isinstance(rows, list), key, rows, "a list of names, or names with their settings")
    found = []
    for item in rows:
        named = isinstance(item, Mapping) and len(item) == 1
        require(named or isinstance(item, str), key, item, "the name of a row, or {name: its settings}")
        found += list(item.items()) if named else [(item, SHOWN)]
    return found


class Rows:
    """The rows of all tables of a scale, and the runs that they are."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.tables: dict[str, list[str]] = {}  # table -> its rows, in order
        self.home: dict[str, tuple[str | None, int]] = {}  # run -> (its table, the layer that brings it)
        self.written: dict[tuple[str, int], list[Written]] = {}  # (run, layer) -> what is said of it there
        self.swept: dict[str, list[str]] = {}  # sweep -> the runs that are its points
        shown: list[tuple[Written, str, str]] = []
        for level, layer in enumerate(layers):
            for table, written in layer["tables"].items():
                self.read(table, level, written, shown)
            for run, written in layer["runs"].items():
                self.home.setdefault(run, (None, level))
                self.say(run, level, written, f"{written.file}: runs")
        for written, run, table in shown:
            own = [name for name, (home, _) in self.home.items() if home == table]
            if run not in own:
                raise written.refuse(f".rows.{run}.of: no such row in {table}: {run!r}{nearest(run, own)}")

        for name in dict.fromkeys(name for layer in layers for name in layer["sweeps"]):
            self.sweep(name)

    def sweep(self, name: str) -> None:
        """Take in the points of a sweep, each a run that shares a training."""
        merged: Any = {}
        for layer in self.layers:
            if name in layer["sweeps"]:
                written = layer["sweeps"][name]
                merged = overlay(merged, written.value)
        if merged is None:  # left out by a scale
            return
        try:
            entry = build(SweepEntry, merged, written.key)
        except SpecError as error:
            raise SpecError(f"{written.file}: {error}") from None
        points = dict(entry.points({run: self.width(run) for run in entry.of}))
        for run, said in points.items():
            if run in self.home:
                raise written.refuse(f": its point {run} has the name of a run: rename one of them")
            self.home[run] = None, len(self.layers) - 1
            self.written[run, len(self.layers) - 1] = [Written(written.file, written.key, said)]
        self.swept[name] = list(points)

    def width(self, run: str) -> dict[str, Any]:
        """`{ema_std: ...}` of a run that says itself by which width it is sampled; nothing of another one."""
        sampling: Any = {}
        for level in range(len(self.layers) if run in self.home else 0):
            for one in self.of(run, level):
                if isinstance(one.value, Mapping):
                    sampling = overlay(sampling, one.value.get("sampling", {}))
        own = sampling if isinstance(sampling, Mapping) else {}  # anything else is refused with the run
        return {key: own[key] for key in ("ema_std",) if key in own}

    def read(self, table: str, level: int, written: Written, shown: list) -> None:
        """Take in what one layer says of a table."""
        if not isinstance(written.value, Mapping):
            require(written.value is None, f"{written.file}: {written.key}", written.value, "keys and values")
            self.tables.pop(table, None)  # left out by a scale
            return
        rows = self.tables.setdefault(table, [])
        if isinstance(written.value.get("rows"), list):
            rows.clear()
        for run, value in items(written):
            if value is None:
                if run not in rows:
                    raise written.refuse(f".rows: no row {run!r} to leave out{nearest(run, rows)}")
                rows.remove(run)
                continue
            if isinstance(value, Mapping) and "of" in value:
                require(set(value) == {"of"}, f"{written.file}: {written.key}.rows.{run}", value,
                        "nothing beside of: what a row says stands in its own table")
                shown.append((written, run, value["of"]))
            elif value is not SHOWN:
                self.own(table, run, level, Written(written.file, f"{written.key}.rows.{run}", value))
            if run not in rows or value is SHOWN:
                rows.append(run)

    def own(self, table: str, run: str, level: int, written: Written) -> None:
        """A row that stands in its own table. Raises `SpecError` for one of another table, and for a slip."""
        require(re.fullmatch(NAME, run) is not None, f"{written.file}: tables.{table}.rows: the name", run,
                "small letters, digits, dots and dashes")
        home, _ = self.home.setdefault(run, (table, level))
        if home != table:
            raise written.refuse(f": got {written.value!r}, allowed: "
                                 + (f"{{of: {home}}}: what the row says stands there" if home
                                    else "a name that no run has"))
        self.say(run, level, written, f"{written.file}: {written.key.removesuffix(f'.{run}')}")

    def say(self, run: str, level: int, written: Written, asked_by: str) -> None:
        """Take in what is said of a run. Raises `SpecError` for a scale's new run that is not complete."""
        self.written.setdefault((run, level), []).append(written)
        said = set().union(*(one.value for one in self.of(run, level) if isinstance(one.value, Mapping)))
        whole = said >= set(COMPLETE["runs"]) or "samples_of" in said
        if level and self.home[run][1] == level and not whole:
            known = [name for name, (_, first) in self.home.items() if first < level]
            raise SpecError(f"{asked_by}: {slip('runs', run, known)}")

    def said(self, run: str) -> set[str]:
        """The keys that are said of a run itself, in any layer: without its table's defaults."""
        every = [one.value for (name, _), written in self.written.items() if name == run for one in written]
        return set().union(*(value for value in every if isinstance(value, Mapping)))

    def of(self, run: str, level: int) -> Iterator[Written]:
        """What a layer says of a run, the strongest last: its table's defaults, its row, its entry in `runs`.

        A run that is new in this layer has the defaults of the earlier ones too.
        """
        table, first = self.home[run]
        if level < first:
            return
        for layer in self.layers[0 if level == first else level:level + 1]:
            written = layer["tables"].get(table)
            if written and isinstance(written.value, Mapping) and "defaults" in written.value:
                key, defaults = f"{written.key}.defaults", written.value["defaults"]
                require(isinstance(defaults, Mapping), f"{written.file}: {key}", defaults, "keys and values")
                yield Written(written.file, key, defaults)
        yield from self.written.get((run, level), ())
