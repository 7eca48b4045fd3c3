"""Which images of a folder are good, and by what: the parts of which a scale for own images is made."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ambient.data.photos import Check, Photos, chosen, readable, scores_by
from ambient.data.raw import Raw
from ambient.data.selection import key_of, table_of
from ambient.diffusion.wholes import floor_of
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


@dataclass(frozen=True)
class Seen:
    """A folder or zip after a look: its images, and its SHA-256 at that time."""

    photos: Photos
    sha256: str


def seen(path: Path, spec: DatasetSpec, check: Check | None = None) -> Seen:
    """A look at a folder or zip."""
    raw = Raw(path)
    photos = readable(raw, spec, check)
    return Seen(photos, raw.close()[0])


def located(folder: Path, images: Path) -> Path:
    """A folder without links on the way to it, but for those inside of the folder of all images.

    There a link is a folder as any other, which has images of this name.
    """
    way = Path(os.path.abspath(folder))
    if way.is_relative_to(os.path.abspath(images)) and way.exists() and way.samefile(folder):
        return images.resolve() / way.relative_to(os.path.abspath(images))
    return folder.resolve()


def inside(folder: Path, of: Path) -> str | None:
    """A folder's name from another on, where it lies in it. Both are as `located` gives them."""
    return folder.relative_to(of).as_posix() if folder.is_relative_to(of) and folder != of else None


def check_nested(images: Path, good: Path | None, bad: Sequence[tuple[str, Path]]) -> None:
    """Raise `ValueError` for a folder that holds one of another option, so that images are in both.

    Inside of `images` a folder may hold those that are named before it: their images are taken first. All
    are as `located` gives them.
    """
    told = [(f"--bad {kind}", folder) for kind, folder in bad]
    if good is not None and good.is_dir():
        told.insert(0, ("--good", good))
    for place, (option, outer) in enumerate(told):
        if images.is_relative_to(outer):
            held = "is the folder of --images" if outer == images else f"holds that of --images, {images}"
            raise ValueError(f"{option}: got {outer}, which {held}; allowed: a folder inside of that one, or "
                             "one beside it. Give the folder of all images to --images")
        for other, inner in told[:place] + told[place + 1:]:
            taken_before = (other, inner) in told[:place] and inside(outer, images)
            if inner.is_relative_to(outer) and not taken_before:
                raise ValueError(f"{option}: got {outer}, which holds that of {other}, {inner}: an image is "
                                 "of one kind. Move one of the folders out of the other")


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


@dataclass(frozen=True)
class Rule:
    """How the good images are told.

    select: without a threshold yet, `at_least` is 0 where there are scores. words: what tells them. file: the
    list or table that does. elsewhere: a folder of their own, all of which are good; it needs no words here.
    """

    select: SelectSpec
    words: str = ""
    file: Path | None = None
    elsewhere: Path | None = None


def rule_of(images: Path, good: Path | None, column: str | None, measure: str) -> Rule:
    """The rule of the good images of a folder. Raises `ValueError` for what is unclear."""
    if good is None:
        return Rule(SelectSpec(by="quality", measure=measure, at_least=0.0), f"the measure {measure}")
    if good.is_dir():
        if (name := inside(good, images)) is None:
            return Rule(SelectSpec(), elsewhere=good)
        return Rule(SelectSpec(folders=(name,)), f"those in the folder {name}")
    if good.suffix.lower() == ".txt":
        return Rule(SelectSpec(by="list"), f"those that {good.name} lists", good)
    if good.suffix.lower() == ".csv":
        select = SelectSpec(by="scores", column=column_of(good, column), at_least=0.0)
        return Rule(select, f"the column {select.column} of {good.name}", good)
    raise ValueError(f"--good: got {good}, allowed: a folder, a list of names (.txt), or a table with a "
                     "column of scores (.csv)")


def shortest(at_least: float, scores: np.ndarray) -> float:
    """A threshold in so few digits, four or more, as leave the images that reach it the same."""
    rounded = (float(f"{at_least:.{digits}g}") for digits in range(4, 17))
    return next((one for one in rounded if ((scores >= one) == (scores >= at_least)).all()), at_least)


def reaching(scores: np.ndarray, at_least: float, share: float) -> str:
    """Which images reach the threshold of a share, in words: more than the share where scores are equal."""
    reached, total = int((scores >= at_least).sum()), len(scores)
    if reached <= total - floor_of(total - 1, 1 - share):  # as many as without equal scores
        return f"the best {share:.0%}"
    equal = int((scores == scores[scores >= at_least].min()).sum())
    return f"{reached / total:.0%}, {equal:,} images with this very score among them,"


def with_threshold(select: SelectSpec, words: str, photos: Photos, at_least: float | None,
                   share: float) -> tuple[SelectSpec, str]:
    """A selection by scores with its threshold: the one asked for, or what a share of the images reaches.

    Raises `ValueError` for one that no image reaches.
    """
    if select.at_least is None:
        return select, words
    reached = ""
    if at_least is None:
        least = np.sort(photos.scores)[floor_of(len(photos.scores) - 1, 1 - share)]
        at_least = shortest(float(least), photos.scores)
        reached = f", which {reaching(photos.scores, at_least, share)} reach"
    elif at_least > (best := float(photos.scores.max())):
        raise ValueError(f"--at-least: got {at_least}, allowed: at most {best:.6g}, the largest score by "
                         f"{words}")
    return replace(select, at_least=at_least), f"a score of at least {at_least} by {words}{reached}"


def apart(images: Path, rule: Rule, bad: Sequence[tuple[str, Path]]) -> list[Path]:
    """The folders that lie elsewhere, of good images and of others."""
    return [*([rule.elsewhere] if rule.elsewhere else []),
            *(folder for _, folder in bad if inside(folder, images) is None)]


def parts_of(images: Path, looked: Mapping[Path, Seen], rule: Rule, bad: Sequence[tuple[str, Path]], *,
             at_least: float | None, share: float) -> list[Part]:
    """The good images first, then each kind of others. `looked`: that folder, and those of `apart`.

    Raises `ValueError` for what is empty or unclear.
    """
    photos = looked[images].photos

    def part(name: str, select: SelectSpec, words: str) -> Part:
        try:
            return Part(name, images, select, rule.file, chosen(photos, select), words, looked[images].sha256)
        except ValueError as error:
            raise ValueError(f"{name} images: {error}") from None

    def separate(name: str, folder: Path) -> Part:
        words, found = f"all in the folder {folder}", looked[folder]
        return Part(name, folder, SelectSpec(), None, found.photos, words, found.sha256)

    if rule.elsewhere:
        first, rest = separate("good", rule.elsewhere), SelectSpec()
    else:
        photos = replace(photos, scores=scores_by(rule.select, photos, rule.file))  # once for all parts
        select, words = with_threshold(rule.select, rule.words, photos, at_least, share)
        first = part("good", select, words)
        rest = replace(select, good=False) if select.by else SelectSpec(without=select.folders)
    kinds = []
    for name, folder in bad:
        if (within := inside(folder, images)) is None:
            kinds.append(separate(name, folder))
            continue
        kinds.append(part(name, replace(rest, folders=(within,)), f"those in the folder {within}"))
        rest = replace(rest, without=(*rest.without, within))
    taken = sum(one.count for one in (first, *kinds) if one.path == images)
    if taken == len(photos.rows):
        return [first, *kinds]
    words = "all others" if kinds or first.path == images else f"all in the folder {images}"
    return [first, *kinds, part("other", rest, words)]
