"""Captions of images, as people keep them: a text file beside each image, or one table for all.

A table is a CSV with titles or JSON, an object a line. As Hugging Face's imagefolder has it, it may lie among
the images as `metadata.jsonl` or `metadata.csv`; its names then begin at its own folder.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ambient.data.image_files import Archive, Folder
from ambient.data.photos import NO_IMAGES, Photos
from ambient.data.raw import Raw
from ambient.data.selection import KEYS, Files, Rows, composed, decoded, parsed_table, text_of
from ambient.data.texts import is_whole

TEXTS = ("text", "caption", "prompt")  # titles of the column of captions
PROMPTS = (*TEXTS, "prompts")  # of a list of captions alone
CATEGORIES = ("category", "categories")  # of what kind such a caption is
TABLES = ("metadata.jsonl", "metadata.csv")
ALLOWED = f"a text file NAME.txt beside each image, or {' or '.join(TABLES)} among them"


@dataclass
class Captions:
    """Captions by image. White space, with line breaks, counts as one space each.

    by: in words, what they were read from. files: those among the images that hold captions. undecoded: of
    these, those that are no text in UTF-8. strangers: names in a table that are no image of the folder.
    """

    by: str
    texts: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    undecoded: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    @property
    def unused(self) -> Counter[str]:
        """What no caption of an image came of, counted by the reason."""
        return +Counter({"files of captions that are no text in UTF-8": len(self.undecoded),
                         "captions in a table that are of no image here": len(self.strangers)})

    def add(self, image: str, text: str, where: str) -> None:
        """Note a caption. Raises `ValueError` naming `where` for a second one of an image."""
        text = " ".join(text.split())
        if self.texts.setdefault(image, text) != text:
            raise ValueError(f"{where}: {image} has another caption than in a line before; keep one of them")


def read(raw: Raw, photos: Photos, table: Path | None) -> Captions:
    """The captions of a folder's images: from a table, or from what lies among them."""
    if table is not None:
        return from_table(table, photos.names)
    return beside(Folder(raw) if raw.is_folder else Archive(raw), photos.names, photos.unread)


def without_files(photos: Photos, captions: Captions) -> Photos:
    """The images, of whose folder files of captions do not count as left out."""
    rest = photos.left_out.copy()
    rest[NO_IMAGES] -= len(captions.files)
    examples = {what: name for what, name in photos.examples.items() if name not in captions.files}
    return replace(photos, left_out=+rest, examples=examples)


def of_each(photos: Photos, captions: Captions) -> list[str | None]:
    """The caption of each image here, by its own name or that of a copy; None where it has none."""
    return [next((captions.texts[name] for name in names if name in captions.texts), None)
            for names in photos.names_of_each]


def rows_of(text: str, path: str) -> Iterator[tuple[str, str, str]]:
    """(place, name, caption) of each row of a table; no caption is an empty one.

    Raises `ValueError` naming the line of what is wrong.
    """
    if path.lower().endswith(".csv"):
        rows = parsed_table(text, path)
        titles = rows.fieldnames or []
        name, caption = title_of(path, titles, KEYS, "names"), title_of(path, titles, TEXTS, "captions")
        for row in rows:
            yield f"{path}, line {rows.line_num}", (row[name] or "").strip(), row[caption] or ""
        return
    for where, row in objects(text, path):
        name = title_of(where, list(row), KEYS, "names")
        caption = title_of(where, list(row), TEXTS, "captions")
        row[caption] = "" if row[caption] is None else row[caption]
        for title in (name, caption):
            if not is_text(row[title]):
                raise ValueError(f"{where}: {title} is {row[title]!r:.40}, allowed: a text of whole "
                                 "characters")
        yield where, row[name], row[caption]


def is_text(value: object) -> bool:
    """Whether a value of JSON is a text that a file can hold."""
    return isinstance(value, str) and is_whole(value)


@dataclass(frozen=True)
class Listed:
    """A caption of a file that names no images, the category that the file gives it, and where it stands."""

    text: str
    category: str | None
    where: str


def prompts_of(path: Path) -> list[Listed]:
    """The captions of a file that names no images, in its order: one a line, or one a row of a table.

    A table may have a column of categories. Raises `ValueError` naming the line of a caption that is empty or
    has no category where others have one, and a file that has no captions.
    """
    text, end = text_of(path), path.suffix.lower()
    if end == ".json":
        raise ValueError(f"{path}: allowed: .jsonl, an object a line, .csv, .tsv, or a text with one a line")
    if end in (".csv", ".tsv"):
        rows = unquoted_table(text, path) if end == ".tsv" else parsed_table(text, path)
        titles = rows.fieldnames or []
        title, group = title_of(str(path), titles, PROMPTS, "captions"), category_of(titles)
        found = [Listed(row[title] or "", group and (row[group] or ""), f"{path}, line {rows.line_num}")
                 for row in rows]
    elif end == ".jsonl":
        found = [Listed(row[title_of(where, list(row), PROMPTS, "captions")], row.get(category_of(list(row))),
                        where) for where, row in objects(text, str(path))]
    else:
        found = [Listed(line, None, f"{path}, line {number}")
                 for number, line in enumerate(lines_of(text), 1)]
    if not found:
        raise ValueError(f"{path}: no captions in it")
    grouped = any(one.category is not None for one in found)
    for one in found:
        for what, value in (("caption", one.text), *([("category", one.category)] if grouped else [])):
            if not is_text(value) or not value.strip():
                broken = isinstance(value, str) and not is_whole(value)
                raise ValueError(f"{one.where}: got {value!r:.40}, allowed: a {what} on every line"
                                 + (", without half of a surrogate pair" if broken else ""))
    return found


def lines_of(text: str) -> list[str]:
    """The lines of a text file. Other characters that break lines, such as U+2028, may stand in a caption."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


def category_of(titles: Sequence[str]) -> str | None:
    """The title of a table's column of categories; None where it has none."""
    return next((title for title in titles if title.lower() in CATEGORIES), None)


def unquoted_table(text: str, path: Path) -> Rows:
    """The rows of a table whose columns are parted by tabs, in which a quotation mark is one."""
    return Rows(text, path, delimiter="\t", quoting=csv.QUOTE_NONE)


def objects(text: str, path: str) -> Iterator[tuple[str, dict]]:
    """(place, object) of each line of JSON. Raises `ValueError` naming the line of what is none."""
    for number, line in enumerate(lines_of(text), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{where}: not JSON: one object a line is allowed") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: got {line.strip()[:40]!r}, allowed: an object")
        yield where, row


def title_of(where: str, titles: Sequence[str], allowed: Sequence[str], what: str) -> str:
    """The title of a table's column of something. Raises `ValueError` where there is none."""
    column = next((title for title in titles if title.lower() in allowed), None)
    if column is None:
        raise ValueError(f"{where}: needs a column of {what}, one of {', '.join(allowed)}; it has "
                         f"{', '.join(titles) or 'none'}")
    return column


def from_table(path: Path, images: Sequence[str]) -> Captions:
    """Captions from a table that lies anywhere: it names the images from their folder on.

    Raises `ValueError` naming the line of what is wrong.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise ValueError(f"{path}: no table of captions, allowed: .csv or .jsonl")
    found, files = Captions(path.name), Files(images)
    for where, name, text in rows_of(text_of(path), str(path)):
        add(found, files.meant(name, where), name, text, where)
    return found


def add(found: Captions, image: str | None, name: str, text: str, where: str) -> None:
    """Note a row of a table."""
    if image is None:
        found.strangers.append(name)
    else:
        found.add(image, text, where)


def beside(files: Folder | Archive, images: Sequence[str], others: Sequence[str]) -> Captions:
    """Captions among the images: from tables where there are any, else from text files.

    `others`: the names of all other files. Raises `ValueError` where there are none.
    """
    tables = [name for name in others if PurePosixPath(name).name in TABLES]
    if tables:
        return from_metadata(files, tables, images)
    found, there = Captions("NAME.txt beside each image"), set(others)
    for image in images:
        name = PurePosixPath(image).with_suffix(".txt").as_posix()
        if name not in there:
            continue
        if name not in found.files[-1:]:  # images are sorted: a.jpg and a.png share a.txt
            found.files.append(name)
        text = decoded(files.read(name))
        if text is None:
            found.undecoded.append(name)
        else:
            found.add(image, text, name)
    if not found.files:
        raise ValueError(f"{files.path}: no captions among the images, allowed: {ALLOWED}; or give a table")
    return found


def from_metadata(files: Folder | Archive, tables: Sequence[str], images: Sequence[str]) -> Captions:
    """Captions from the tables of an imagefolder: each names the images of its own folder."""
    known = {composed(image): image for image in images} | {image: image for image in images}
    found = Captions(", ".join(sorted({PurePosixPath(one).name for one in tables})))
    for table in tables:
        found.files.append(table)
        text, place = decoded(files.read(table)), f"{files.path}/{table}"
        if text is None:
            raise ValueError(f"{place}: not a text file in UTF-8; save it as one")
        for where, name, caption in rows_of(text, place):
            folder = PurePosixPath(table).parent
            image, meant = (posixpath.normpath(folder / one) for one in (name, composed(name)))
            add(found, known.get(image) or known.get(composed(meant)), name, caption, where)
    return found
