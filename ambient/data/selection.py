"""Which images of a folder belong to a dataset: the good ones, or the others.

A rule gives each image a score, or says whether it is good; what passes is good. The rule is the owner's
(a list of names, a column of a table) or a measure of quality.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ambient.specs import SelectSpec

KEYS = ("name", "file", "filename", "image", "path")  # titles of the column with the images' names


def below(name: str, folders: Sequence[str]) -> bool:
    """Whether an image lies in one of the folders, or below it."""
    return any(PurePosixPath(name).is_relative_to(folder) for folder in folders)


def in_folders(names: Sequence[str], select: SelectSpec) -> np.ndarray:
    """Whether each image lies in the folders that are asked for. Raises `ValueError` for an empty folder."""
    for folder in (*select.folders, *select.without):
        if not any(below(name, (folder,)) for name in names):
            raise ValueError(f"no image lies in the folder {folder!r}, which `select` names")
    return np.array([(not select.folders or below(name, select.folders)) and not below(name, select.without)
                     for name in names])


def resolve(written: str, names: Collection[str], ends: Mapping[str, list[str]], where: str) -> str:
    """The image that a list means: by its name from the folder on, or by the end of it where one is meant."""
    name = written.replace("\\", "/").removeprefix("./")
    if name in names:
        return name
    meant = [one for one in ends.get(PurePosixPath(name).name, []) if f"/{name}".endswith(f"/{one}")
             or f"/{one}".endswith(f"/{name}")]
    if len(meant) == 1:
        return meant[0]
    near = difflib.get_close_matches(name, names, n=1)
    raise ValueError(f"{where}: {written!r} is no image of the folder" + (
        f": it may be any of {', '.join(meant[:3])}; write the name from the folder on" if meant else
        f" (did you mean {near[0]!r}?)" if near else ""))


def by_end(names: Collection[str]) -> dict[str, list[str]]:
    """The images of each file name."""
    ends: dict[str, list[str]] = {}
    for name in names:
        ends.setdefault(PurePosixPath(name).name, []).append(name)
    return ends


def listed(path: Path, names: Sequence[str]) -> set[str]:
    """The images that a text file names, one a line; empty lines and those that begin with # say nothing.

    Raises `ValueError` naming the line of what is no image of the folder.
    """
    known, ends = set(names), by_end(names)
    found = set()
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            found.add(resolve(line.strip(), known, ends, f"{path}, line {number}"))
    if not found:
        raise ValueError(f"{path}: names no image")
    return found


def scored(path: Path, column: str, names: Sequence[str], every: Sequence[str]) -> dict[str, float]:
    """Image -> score, from a column of a CSV table. It may score any of `every`, and must score all `names`.

    Raises `ValueError` naming the line of what is wrong.
    """
    rows = csv.DictReader(io.StringIO(text_of(path)))
    titles = rows.fieldnames or []
    key = next((title for title in titles if title.strip().lower() in KEYS), None)
    if key is None or column not in titles:
        wanted = f"{column!r} and one of {', '.join(KEYS)}"
        raise ValueError(f"{path}: its columns are {', '.join(titles) or 'none'}; allowed: {wanted}")
    known, ends, scores = set(every), by_end(every), {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        try:
            value = float(row[column])
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{where}: {column} is {row[column]!r}, allowed: a finite number")
        scores[resolve((row[key] or "").strip(), known, ends, where)] = value
    missing = [name for name in names if name not in scores]
    if missing:
        raise ValueError(f"{path}: has no score for {len(missing)} images, the first is {missing[0]}; take "
                         "them out of the folder, or give them one")
    return scores


def text_of(path: Path) -> str:
    """The text of a small file. Raises `ValueError` where it is none."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file (UTF-8)") from None
