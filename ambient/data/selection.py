"""Which images of a folder belong to a dataset: the good ones, or the others.

A rule gives each image a score, or says whether it is good; what passes is good. The rule is the owner's
(a list of names, a column of a table) or a measure of quality.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ambient.data.image_labels import same
from ambient.specs import SelectSpec

# Titles of the column with the images' names.
KEYS = ("name", "file", "filename", "file_name", "image", "path")


def below(name: str, folders: Sequence[str]) -> bool:
    """Whether an image lies in one of the folders, or below it."""
    return any(PurePosixPath(name).is_relative_to(folder) for folder in folders)


def in_folders(names: Sequence[str], select: SelectSpec,
               copies: Mapping[int, Sequence[str]] | None = None) -> np.ndarray:
    """Whether each image, or one of its copies by place, lies in the folders that are asked for.

    `copies`: names of other files with its content. Raises `ValueError` for a folder without images.
    """
    for folder in (*select.folders, *select.without):
        if not any(below(name, (folder,)) for name in names):
            raise ValueError(f"no image lies in the folder {folder!r}, which `select` names")
    groups = [(name, *(copies or {}).get(i, ())) for i, name in enumerate(names)]
    return np.array([(not select.folders or any(below(name, select.folders) for name in group))
                     and not any(below(name, select.without) for name in group) for group in groups])


def composed(name: str) -> str:
    """A name with /, whatever system wrote it, and with its accents composed."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


class Files:
    """The files that a list or a table may mean."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = {composed(name): name for name in names}
        self.ends = by_end(self.names)

    def meant(self, written: str, where: str) -> str | None:
        """The file that is meant: by its name from the folder on, or by the end of it; None: no file.

        Raises `ValueError` naming `where` if it may be any of several.
        """
        name = composed(written)
        if name in self.names:
            return self.names[name]
        meant = [one for one in self.ends.get(PurePosixPath(name).name, []) if f"/{name}".endswith(f"/{one}")
                 or f"/{one}".endswith(f"/{name}")]
        if len(meant) > 1:
            raise ValueError(f"{where}: {written!r}: it may be any of {', '.join(meant[:3])}; write "
                             "the name from the folder on")
        return self.names[meant[0]] if meant else None

    def near(self, written: str) -> str:
        """A hint at the file that may be meant by a name that is none's."""
        stem = same(PurePosixPath(composed(written)).stem)
        near = [name for name in self.names if same(PurePosixPath(name).stem) == stem]
        near = near or difflib.get_close_matches(composed(written), self.names, n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""


def by_end(names: Iterable[str]) -> dict[str, list[str]]:
    """The images of each file name."""
    ends: dict[str, list[str]] = {}
    for name in names:
        ends.setdefault(PurePosixPath(name).name, []).append(name)
    return ends


def listed(path: Path, names: Sequence[str], unread: Sequence[str] = ()) -> set[str]:
    """The images that a text file names, one a line.

    Empty lines say nothing, nor do those that begin with # and are no file's name. It may name `unread` files
    too, which are no images that are read here. Raises `ValueError` naming the line of what is no file of the
    folder.
    """
    files, found = Files([*names, *unread]), set()
    for number, line in enumerate(text_of(path).splitlines(), 1):
        written, where = line.strip(), f"{path}, line {number}"
        name = files.meant(written, where)
        if not written or name is None and line.startswith("#"):
            continue
        if name is None:
            raise ValueError(f"{where}: {written!r} is no image of the folder{files.near(written)}")
        found.add(name)
    if found.isdisjoint(names):
        raise ValueError(f"{path}: names no image")
    return found


def key_of(path: Path, titles: Sequence[str]) -> str:
    """The title of a table's column with the images' names. Raises `ValueError` where there is none."""
    key = next((title for title in titles if title.lower() in KEYS), None)
    if key is None:
        raise ValueError(f"{path}: its first line must have the columns' titles, one of them "
                         f"{', '.join(KEYS)}; it has {', '.join(titles) or 'none'}")
    return key


def scored(path: Path, column: str, groups: Sequence[Sequence[str]], every: Sequence[str]) -> list[float]:
    """The score of each image, from a column of a CSV table: of the first of its names that has one.

    Rows of files that are none of `every` say nothing. Raises `ValueError` naming the line of what is wrong.
    """
    rows = table_of(path)
    titles = rows.fieldnames or []
    key = key_of(path, titles)
    if column not in titles:
        raise ValueError(f"{path}: has no column {column!r}; its columns are {', '.join(titles)}")
    files, scores = Files(every), {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        value, name = number(rows, row, column, where), files.meant((row[key] or "").strip(), where)
        if name is not None and scores.setdefault(name, value) != value:
            raise ValueError(f"{where}: {name} has another score than in a line before; keep one of them")
    missing = [group[0] for group in groups if scores.keys().isdisjoint(group)]
    if missing:
        raise ValueError(f"{path}: has no score for {len(missing)} images, the first is {missing[0]}; take "
                         "them out of the folder, or give them one")
    return [next(scores[name] for name in group if name in scores) for group in groups]


class Rows(csv.DictReader):
    """The rows of a table, by the titles of its first line.

    Raises `ValueError` naming a title that is there twice, and the line of a row that has more columns, such
    as a text with an unquoted comma, or a quotation mark that is not closed: all lines below would be its.
    """

    def __init__(self, text: str, path: str | Path, **form: Any) -> None:
        super().__init__(io.StringIO(text, newline=""), strict=True, **form)
        self.path = path
        try:
            self.fieldnames = [title.strip() for title in self.fieldnames or []]
        except csv.Error as error:
            raise ValueError(f"{path}, line 1: {error}: close each quotation mark") from None
        for title in filter(None, self.fieldnames):
            if self.fieldnames.count(title) > 1:
                raise ValueError(f"{path}: has two columns {title!r}; take one out, or name it otherwise")

    def __next__(self) -> dict:
        try:
            row = super().__next__()
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {self.line_num + 1}: {error}: close each quotation mark "
                             "that begins a text, and double those inside of it") from None
        if any(row.get(None, ())):
            raise ValueError(f"{self.path}, line {self.line_num}: got {row[None][0]!r:.40} behind the last "
                             "column, allowed: as many columns as titles; quote a text with commas")
        return row


def table_of(path: Path) -> Rows:
    """The rows of a CSV table, its columns parted by what its titles are: commas, semicolons or tabs."""
    return parsed_table(text_of(path), path)


def parsed_table(text: str, path: str | Path) -> Rows:
    """The rows of the CSV table that a text is. `path` names the text in errors."""
    parted = max(",;\t", key=text.partition("\n")[0].count)
    return Rows(text, path, delimiter=parted)


def number(rows: csv.DictReader, row: Mapping[str, str | None], title: str, where: str) -> float:
    """A score as it is written, with a decimal comma where no commas part the columns.

    Raises `ValueError` naming `where` for what is no finite number.
    """
    written = row[title] or ""
    try:
        value = float(written if rows.reader.dialect.delimiter == "," else written.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {title} is {row[title]!r}, allowed: a finite number")
    return value


def decoded(content: bytes) -> str | None:
    """The text of a file in UTF-8; None where it is none: English in UTF-16 has bytes 0 in it."""
    try:
        return None if b"\0" in content else content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def text_of(path: Path) -> str:
    """The text of a small file. Raises `ValueError` where it is none."""
    text = decoded(path.read_bytes())
    if text is None:
        raise ValueError(f"{path}: not a text file in UTF-8; save it as one")
    return text
