"""Which images of a folder are good, and by what: the parts of which a scale for own images is made."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ambient.data.photos import Photos, chosen, readable, scores_by
from ambient.data.raw import Raw
from ambient.data.selection import KEYS
from ambient.specs import DatasetSpec, SelectSpec

SHARE = 0.2  # of the images that count as good where a score ranks them and no threshold is given


@dataclass(frozen=True)
class Part:
    """Images of one kind: the good ones first. path: their folder or zip; rule: the file that tells them."""

    name: str
    path: Path
    select: SelectSpec
    rule: Path | None
    photos: Photos
    by: str  # in words
    sha256: str  # of the folder or zip, when it was looked at

    @property
    def count(self) -> int:
        """How many images it has."""
        return len(self.photos.rows)


def inside(folder: Path, of: Path) -> str | None:
    """A folder's name from another on, where it lies in it."""
    folder, of = folder.resolve(), of.resolve()
    return folder.relative_to(of).as_posix() if folder.is_relative_to(of) and folder != of else None


def column_of(rule: Path, asked: str | None) -> str:
    """The column of scores of a table: the one asked for, or the only one beside the names."""
    with open(rule, encoding="utf-8-sig", newline="") as file:
        titles = next(csv.reader(file), [])
    if asked is not None:
        return asked
    others = [title for title in titles if title.strip().lower() not in KEYS]
    if len(others) != 1:
        raise ValueError(f"{rule}: its columns are {', '.join(titles) or 'none'}: say which holds the scores "
                         "with --column")
    return others[0]


def rule_of(images: Path, good: Path | None, photos: Photos, column: str | None, at_least: float | None,
            measure: str, share: float) -> tuple[SelectSpec, Path | None, str]:
    """(selection, file, words) of the good images of a folder. Raises `ValueError` for what is unclear."""
    if good is not None and good.is_dir():
        name = inside(good, images)
        return SelectSpec(folders=(name,)), None, f"those in the folder {name}"
    if good is not None and good.suffix.lower() not in (".csv", ".txt"):
        raise ValueError(f"--good: got {good}, allowed: a folder, a list of names (.txt), or a table with a "
                         "column of scores (.csv)")
    if good is not None and good.suffix.lower() == ".txt":
        return SelectSpec(by="list"), good, f"those that {good.name} lists"
    if good is not None:
        select = SelectSpec(by="scores", column=column_of(good, column), at_least=0.0)
        words = f"the column {select.column} of {good.name}"
    else:
        select = SelectSpec(by="quality", measure=measure, at_least=0.0)
        words = f"the measure {measure}"
    if at_least is None:
        scores = scores_by(select, photos, good)
        at_least = float(np.quantile(scores, 1 - share, method="lower"))
        at_least = float(f"{at_least:.4g}")
        return replace(select, at_least=at_least), good, (
            f"a score of at least {at_least:g} by {words}, which the best {share:.0%} reach")
    return replace(select, at_least=at_least), good, f"a score of at least {at_least:g} by {words}"


def separate(name: str, folder: Path, spec: DatasetSpec) -> Part:
    """All images of a folder that lies elsewhere."""
    raw = Raw(folder)
    photos = readable(raw, spec)
    return Part(name, folder, SelectSpec(), None, photos, f"all in the folder {folder}", raw.close()[0])


def parts_of(images: Path, sha256: str, spec: DatasetSpec, photos: Photos, good: Path | None,
             bad: Sequence[tuple[str, Path]], **rule: Any) -> list[Part]:
    """The good images first, then each kind of others. `rule` is what `rule_of` takes beside.

    Raises `ValueError` naming what is empty or unclear.
    """
    if good is not None and good.is_dir() and inside(good, images) is None:
        first, rest, file = separate("good", good, spec), SelectSpec(), None
    else:
        select, file, words = rule_of(images, good, photos, **rule)
        first = Part("good", images, select, file, chosen(photos, select, file), words, sha256)
        rest = replace(select, good=False) if select.by else SelectSpec(without=select.folders)
    kinds = []
    for name, folder in bad:
        if (within := inside(folder, images)) is None:
            kinds.append(separate(name, folder, spec))
            continue
        mine = replace(rest, folders=(within,))
        words = f"those in the folder {within}"
        kinds.append(Part(name, images, mine, file, chosen(photos, mine, file), words, sha256))
        rest = replace(rest, without=(*rest.without, within))
    if not left(photos, rest, file):
        return [first, *kinds]
    words = "all others" if kinds or first.path == images else f"all in the folder {images}"
    others = chosen(photos, rest, file)
    return [first, *kinds, Part("other", images, rest, file, others, words, sha256)]


def left(photos: Photos, select: SelectSpec, rule: Path | None) -> bool:
    """Whether any image is left for a selection."""
    try:
        chosen(photos, select, rule)
    except ValueError:
        return False
    return True
