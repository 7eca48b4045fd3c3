"""Which images of a folder are good, and by what: the parts of which a scale for own images is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ambient.data.photos import Photos, chosen, readable, scores_by
from ambient.data.raw import Raw
from ambient.data.selection import key_of, table_of
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
    titles = table_of(rule).fieldnames or []
    key = key_of(rule, titles)
    if asked is not None:
        return asked
    others = [title for title in titles if title != key]
    if len(others) != 1:
        raise ValueError(f"{rule}: its columns are {', '.join(titles)}: say which holds the scores with "
                         "--column")
    return others[0]


def rule_of(images: Path, good: Path | None, column: str | None, measure: str) -> tuple[SelectSpec, str]:
    """(selection, words) of the good images of a folder. Raises `ValueError` for what is unclear.

    A threshold is not in it yet: `at_least` is 0 where there are scores.
    """
    if good is None:
        return SelectSpec(by="quality", measure=measure, at_least=0.0), f"the measure {measure}"
    if good.is_dir():
        name = inside(good, images)
        return SelectSpec(folders=(name,)), f"those in the folder {name}"
    if good.suffix.lower() == ".txt":
        return SelectSpec(by="list"), f"those that {good.name} lists"
    if good.suffix.lower() == ".csv":
        select = SelectSpec(by="scores", column=column_of(good, column), at_least=0.0)
        return select, f"the column {select.column} of {good.name}"
    raise ValueError(f"--good: got {good}, allowed: a folder, a list of names (.txt), or a table with a "
                     "column of scores (.csv)")


def shortest(at_least: float, scores: np.ndarray) -> float:
    """A threshold in so few digits, four or more, as leave the images that reach it the same."""
    rounded = (float(f"{at_least:.{digits}g}") for digits in range(4, 17))
    return next((one for one in rounded if ((scores >= one) == (scores >= at_least)).all()), at_least)


def with_threshold(select: SelectSpec, words: str, photos: Photos, at_least: float | None,
                   share: float) -> tuple[SelectSpec, str]:
    """A selection by scores with its threshold: the one asked for, or what a share of the images reaches.

    Raises `ValueError` for one that no image reaches.
    """
    if select.at_least is None:
        return select, words
    reached = ""
    if at_least is None:
        at_least = shortest(float(np.quantile(photos.scores, 1 - share, method="lower")), photos.scores)
        reached = f", which the best {share:.0%} reach"
    elif at_least > (best := float(photos.scores.max())):
        raise ValueError(f"--at-least: got {at_least}, allowed: at most {best:.6g}, the largest score by "
                         f"{words}")
    return replace(select, at_least=at_least), f"a score of at least {at_least} by {words}{reached}"


def separate(name: str, folder: Path, spec: DatasetSpec) -> Part:
    """All images of a folder that lies elsewhere."""
    raw = Raw(folder)
    photos = readable(raw, spec)
    return Part(name, folder, SelectSpec(), None, photos, f"all in the folder {folder}", raw.close()[0])


def parts_of(images: Path, sha256: str, spec: DatasetSpec, photos: Photos, good: Path | None,
             bad: Sequence[tuple[str, Path]], *, column: str | None, measure: str, at_least: float | None,
             share: float) -> list[Part]:
    """The good images first, then each kind of others. Raises `ValueError` for what is empty or unclear."""
    def part(name: str, select: SelectSpec, words: str) -> Part:
        try:
            return Part(name, images, select, file, chosen(photos, select), words, sha256)
        except ValueError as error:
            raise ValueError(f"{name} images: {error}") from None

    file = None
    if good is not None and good.is_dir() and inside(good, images) is None:
        first, rest = separate("good", good, spec), SelectSpec()
    else:
        select, words = rule_of(images, good, column, measure)
        file = good if select.by in ("list", "scores") else None
        photos = replace(photos, scores=scores_by(select, photos, file))  # once for all parts
        select, words = with_threshold(select, words, photos, at_least, share)
        first = part("good", select, words)
        rest = replace(select, good=False) if select.by else SelectSpec(without=select.folders)
    kinds = []
    for name, folder in bad:
        if folder == good:
            raise ValueError(f"--bad: {name} is the folder of --good, {folder}: an image is one of them")
        if (within := inside(folder, images)) is None:
            kinds.append(separate(name, folder, spec))
            continue
        kinds.append(part(name, replace(rest, folders=(within,)), f"those in the folder {within}"))
        rest = replace(rest, without=(*rest.without, within))
    taken = sum(one.count for one in (first, *kinds) if one.path == images)
    if taken == len(photos.rows):
        return [first, *kinds]
    words = "all others" if kinds or first.path == images else f"all in the folder {images}"
    return [first, *kinds, part("other", rest, words)]
