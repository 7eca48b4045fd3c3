"""Two results trees: which cells differ by more than their uncertainty, and where the difference begins.

Behind each differing row the earliest artefact that differs is named: of those whose content is another,
one whose inputs are all the same. What differs there is a setting, code, a library, or the machine.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ambient.audit.place import Tree
from ambient.audit.rerun import first_difference
from ambient.provenance import manifest, merkle
from ambient.storage import regular
from ambient.storage.text import first_line, printable, skipped

# Columns compared, and what their uncertainty value_std is divided by: all scores, one, or there is none.
MEASURED = {"value": "num_seeds", "value_best": "num_seeds", "value_min": "", "sigma_min_mean": None}
PROTOCOL = ("metric", "num_samples")  # rows that differ in these don't compare at all
SIGMAS = 2.0  # standard deviations of the difference beyond which a cell differs


def tables_in(folder: Path) -> list[str]:
    """The tables of runs in a folder. Other CSV (summary, theory) has no columns `method` and `metric`."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        try:
            with regular.opened(path) as file:
                header = file.readline(regular.SMALL).decode(errors="replace")
            if {"method", "metric"} <= set(next(csv.reader([header]), ())):
                found.append(path.name)
        except (OSError, ValueError, csv.Error) as error:
            skipped(str(error))
    return found


def table(path: Path) -> dict[tuple, dict]:
    """Row key -> row. Raises `ValueError` for what is no table."""
    try:
        rows = list(csv.DictReader(io.StringIO(regular.read(path).decode(), newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a table ({error})") from None
    if not rows:
        raise ValueError(f"{path}: a table without rows")
    if None in rows[0] or "metric" not in rows[0]:
        raise ValueError(f"{path}: not a table (no column metric, or more cells than columns)")
    names = list(rows[0])
    keys = names[:names.index("metric")]
    return {tuple((key, row[key]) for key in keys if row[key]): row for row in rows}


def number(text: str | None) -> float:
    """A cell's number; NaN where there is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def cells(a: Mapping, b: Mapping) -> list[str]:
    """In words each cell that differs by more than its uncertainty.

    value_std is the standard deviation over sampling seeds; a mean over n seeds has it divided by
    sqrt(n), and two independent ones add in squares. Where there are several training seeds, their
    standard deviation of the mean is added likewise. sigma_min_mean has none: any difference counts.
    """
    for key in PROTOCOL:
        if a.get(key) != b.get(key):
            return [f"not comparable: {key} {a.get(key)} and {b.get(key)}"]
    found = []
    for column, divisor in MEASURED.items():
        one, other = number(a.get(column)), number(b.get(column))
        if one == other or math.isnan(one) and math.isnan(other):
            continue
        bound = 0.0 if divisor is None else SIGMAS * math.sqrt(
            variance(a, divisor) + variance(b, divisor))
        if not abs(one - other) <= bound:
            found.append(f"{column} {one:g} and {other:g}"
                         + (f", apart by more than {bound:.2g}" if bound > 0 else ""))
    return found


def variance(row: Mapping, divisor: str) -> float:
    """The variance of a mean over `divisor` sampling seeds (a single score if empty), and of training."""
    found = number(row.get("value_std")) ** 2 / (max(number(row.get(divisor)), 1) if divisor else 1)
    training = number(row.get("training_std")) ** 2 / max(number(row.get("num_training_seeds")), 1)
    return sum(part for part in (found, training) if math.isfinite(part))


class Side:
    """One tree's manifests, read when they are needed; paths count from the table's folder."""

    def __init__(self, top: Path) -> None:
        self.top = Path(os.path.abspath(top))
        self.tree = Tree(self.top)

    def manifest(self, path: Path) -> dict | None:
        """The manifest of an artefact in this tree; None where it is missing, malformed or outside."""
        place = Path(os.path.abspath(self.top / path))
        record = manifest.path_for(place)
        if not place.is_relative_to(self.top) or self.tree.escape(record):
            return None
        try:
            return manifest.read(record)
        except (OSError, ValueError):
            return None

    def inputs(self, path: Path) -> list[Path]:
        """What an artefact was made from."""
        found = self.manifest(path)
        return [Path(p) for p in merkle.parents(path, found)] if found else []


def content(found: Mapping) -> str:
    """What makes an artefact the same: its arrays, or its bytes."""
    return found.get("content_sha256", found["sha256"])


def earliest(a: Side, b: Side, starts: Sequence[Path]) -> str:
    """The first artefact that differs on the way down from `starts`, and how the two were made."""
    seen, waiting = set(), list(starts)
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        one, other = a.manifest(path), b.manifest(path)
        if one is None or other is None:
            return f"{path}: no sound manifest in {(a if one is None else b).top}"
        if content(one) == content(other):
            continue
        below = [p for p in a.inputs(path) if differs(a, b, p)]
        if below:
            waiting = below + waiting
        else:
            return f"{path}: {reason(one, other)}"
    return "the table itself: all that it was made from is the same"


def differs(a: Side, b: Side, path: Path) -> bool:
    """Whether an input is another, or can't be compared."""
    one, other = a.manifest(path), b.manifest(path)
    return one is None or other is None or content(one) != content(other)


def reason(one: Mapping, other: Mapping) -> str:
    """Why two artefacts made from the same inputs differ: the first setting, or what differs else."""
    if setting := first_setting(one["spec"], other["spec"]):
        return setting
    if one["external"] != other["external"]:
        return "raw data are others"
    if one["inputs"].keys() != other["inputs"].keys() or any(
            len(v) != len(other["inputs"][k]) for k, v in one["inputs"].items()):
        return "made from other kinds of inputs"
    return first_difference(one, other)


def first_setting(a: object, b: object, where: str = "") -> str | None:
    """The first key at which two specifications differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if found := first_setting(a.get(key), b.get(key), f"{where}.{key}".lstrip(".")):
                return found
        return None
    return None if a == b else f"{where} is {json.dumps(a)} and {json.dumps(b)}"


def files_of(side: Side, name: Path, row: Mapping) -> list[Path]:
    """The scores and annotation summary behind a row, from the table's manifest."""
    found = side.manifest(name)
    if found is None:
        return []
    rows = found["spec"].get("rows", [])
    seeds = len(found["spec"].get("training_seeds", []))
    place = next((i for i, one in enumerate(rows) if one.get("run_id") == row.get("run_id")), None)
    if place is None or not seeds:
        return []
    entries = (found["inputs"].get("metrics", [])[place * seeds:(place + 1) * seeds]
               + found["inputs"].get("annotations", [])[place:place + 1])
    return [Path(os.path.normpath(name.parent / entry["path"])) for entry in entries]


def compare(a: Path, b: Path) -> list[dict]:
    """Every row of every table that two trees share, and what differs in it. Tables of one tree come last."""
    names = [tables_in(folder) for folder in (a, b)]
    shared = [name for name in names[0] if name in names[1]]
    if not shared:
        raise ValueError(f"{a} and {b} have no table of the same name")
    sides, found = (Side(a), Side(b)), []
    for name in shared:
        try:
            found += rows_of(sides, name)
        except Exception as error:  # whatever somebody wrote into one table must not hide the others
            what = f"can't be compared: {first_line(error)}"
            found.append({"table": name, "row": "", "differences": [what]})
    return found + [{"table": name, "row": "", "differences": [], "only_in": str(folder)}
                    for folder, own in zip((a, b), names, strict=True) for name in own if name not in shared]


def rows_of(sides: tuple[Side, Side], name: str) -> list[dict]:
    """Every row of one table, and what differs in it."""
    (a, b), found = (side.top for side in sides), []
    first, second = table(a / name), table(b / name)
    for key in dict.fromkeys([*first, *second]):
        entry = {"table": name, "row": ", ".join(value for _, value in key), "differences": []}
        if key not in first or key not in second:
            entry["differences"] = [f"only in {a if key in first else b}"]
        else:
            entry["differences"] = cells(first[key], second[key])
            if entry["differences"] or first[key] != second[key]:
                entry["earliest"] = earliest(*sides, files_of(sides[0], Path(name), first[key]))
        found.append(entry)
    return found


def main(arguments: list[str]) -> int:
    """`python -m ambient compare A B`: exit 0 if no cell differs by more than its uncertainty."""
    parser = argparse.ArgumentParser(prog="python -m ambient compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="folder of a scale, results/demo say")
    parser.add_argument("second", type=Path, help="the same scale's folder of another run or machine")
    parser.add_argument("--json", action="store_true", help="for machines")
    given = parser.parse_args(arguments)
    for folder in (given.first, given.second):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    found = compare(given.first, given.second)
    different = [entry for entry in found if entry["differences"]]
    if given.json:
        print(json.dumps(found, indent=1, sort_keys=True))
        return int(bool(different))
    for line in lines(found):
        print(printable(line))
    rows = [entry for entry in found if "only_in" not in entry]
    print(f"{len(rows)} rows, {len(different)} differ by more than {SIGMAS:g} standard deviations")
    return int(bool(different))


def lines(found: Sequence[Mapping]) -> Iterator[str]:
    """In words what was found of each row, and each table that one tree alone has."""
    for entry in found:
        if "only_in" in entry:
            yield f"{entry['table']}: not compared, it is only in {entry['only_in']}"
            continue
        what = "within its uncertainty" if "earliest" in entry else "the same"
        yield f"{entry['table']}, {entry['row']}: {'; '.join(entry['differences']) or what}"
        if "earliest" in entry:
            yield f"  begins at {entry['earliest']}"
