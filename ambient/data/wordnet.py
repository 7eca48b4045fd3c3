"""Classes of ImageNet's images: by the folder of their WordNet id, or by a list of labels.

A class is a place among the sorted WordNet ids, as published networks number them.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from ambient.data.datasets import MAX_CLASSES
from ambient.data.image_labels import Labels

WNID = re.compile(r"n\d{8}")
NUMBER = re.compile(r"\d+")


@dataclass
class Lists:
    """What files beside the images say.

    words: WordNet id -> the class in words. labels: image (its name without folders and suffix) -> WordNet id
    or number. in_order: the WordNet ids of all images in the order of their names. kit_numbers: the same as
    numbers of the development kit, and kit: such a number -> WordNet id.
    """

    words: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    in_order: list[str] = field(default_factory=list)
    kit_numbers: list[str] = field(default_factory=list)
    kit: dict[str, str] = field(default_factory=dict)

    def read(self, title: str, content: bytes) -> None:
        """Take in one file, whose first line tells what it is. Raises `ValueError` naming the file and line.

        `n01440764 tench, ...`: words of classes. `NAME.JPEG 65` or `NAME,n01440764 ...`: labels, with or
        without a line of titles. `n01440764` alone: WordNet ids of the images in the order of their names;
        `490` alone: numbers in this order, for which the development kit's `meta.mat` is needed.
        """
        if title.endswith(".mat"):
            self.read_kit(title, content)
            return
        try:
            lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
        except UnicodeDecodeError:
            raise ValueError(f"{title}: not a text file (UTF-8)") from None
        rows = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
        if rows and rows[0][1].lower().startswith("imageid,"):  # the titles of Kaggle's list
            rows = rows[1:]
        if not rows:
            raise ValueError(f"{title}: says nothing; take it away")
        read = self.reader(rows[0][1])
        for number, line in rows:
            if read is None or self.reader(line) != read:
                raise ValueError(f"{title}, line {number}: {line[:60]!r} {ALLOWED}")
            read(f"{title}, line {number}", line)

    def reader(self, line: str) -> object:
        """How a line is read; None for one that says nothing here."""
        first, *rest = re.split(r"[,\s]+", line)
        if WNID.fullmatch(first):
            return self.add_words if rest else self.add_next
        if NUMBER.fullmatch(first) and not rest:
            return self.add_number
        labelled = rest and (WNID.fullmatch(rest[0]) or NUMBER.fullmatch(rest[0]))
        return self.add_label if labelled else None

    def add_words(self, where: str, line: str) -> None:
        first, words = re.split(r"[,\s]+", line, maxsplit=1)
        if self.words.setdefault(first, words) != words:
            raise ValueError(f"{where}: {first} has other words elsewhere: {self.words[first][:60]!r}")

    def add_next(self, where: str, line: str) -> None:
        self.in_order.append(line)

    def add_number(self, where: str, line: str) -> None:
        self.kit_numbers.append(line)

    def read_kit(self, title: str, content: bytes) -> None:
        """The development kit's `meta.mat`, a table of WordNet ids, their numbers and words."""
        from scipy.io import loadmat

        try:
            table = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
            columns = (table[name] for name in ("ILSVRC2012_ID", "WNID", "words"))
            for number, wnid, words in zip(*columns, strict=True):
                self.kit[str(int(number))] = str(wnid)
                self.add_words(title, f"{wnid} {words}")
        except Exception as error:  # whatever a damaged file makes the library raise
            what = " ".join(str(error).split())
            raise ValueError(f"{title}: no meta.mat of ImageNet's development kit ({what})") from None

    def add_label(self, where: str, line: str) -> None:
        name, label = re.split(r"[,\s]+", line)[:2]
        if self.labels.setdefault(stem(name), label) != label:
            raise ValueError(f"{where}: {name} has two labels, {self.labels[stem(name)]} and {label}")


ALLOWED = ("is no label that is read here; allowed, in all lines alike: NAME.JPEG and a WordNet id or the "
           "class's number among the sorted ones; a WordNet id for each image, in the order of their names; "
           "or a WordNet id and the class in words; or a number for each image, with the development kit's "
           "meta.mat beside it")


def stem(name: str) -> str:
    """An image's name without folders and suffix."""
    return PurePosixPath(name).name.split(".")[0]


def labels(names: Sequence[str], lists: Lists) -> Labels:
    """The labels of images by their names: from the folder that each lies in, else from the lists.

    Raises `ValueError` naming the first image whose class nobody says.
    """
    folders = [PurePosixPath(name).parent.name for name in names]
    if any(map(WNID.fullmatch, folders)):
        for name, folder in zip(names, folders, strict=True):
            if not WNID.fullmatch(folder):
                raise ValueError(f"{name} lies in no folder that is called as a WordNet id (n01440764), as "
                                 "others do")
            said = lists.labels.get(stem(name), folder)
            if WNID.fullmatch(said) and said != folder:
                raise ValueError(f"{name} lies in the folder {folder}, and a list says that its class is "
                                 f"{said}: take the one out that is wrong")
        return numbered(folders, lists.words, "the folders' WordNet ids")
    if lists.labels:
        for name, count in Counter(map(stem, names)).items():
            if count > 1:
                raise ValueError(f"{count} images are called {name}, which a list of labels can't tell apart")
        for name in names:
            if stem(name) not in lists.labels:
                raise ValueError(f"no list has a label for {name} ({len(lists.labels):,} labels, "
                                 f"{len(names):,} images)")
        return numbered([lists.labels[stem(name)] for name in names], lists.words, "a list of labels")
    if in_order := lists.in_order or [of_kit(number, lists.kit) for number in lists.kit_numbers]:
        if len(in_order) != len(names):
            raise ValueError(f"a list has {len(in_order):,} classes for {len(names):,} images")
        return numbered(in_order, lists.words, "a list of labels in the order of names")
    raise ValueError(f"{names[0]} lies in no folder that is called as a WordNet id (n01440764), and no list "
                     "says its class: put a list of labels beside the images (docs/data.md)")


def of_kit(number: str, kit: Mapping[str, str]) -> str:
    """The WordNet id of a number of the development kit, which counts in an order of its own."""
    if number not in kit:
        raise ValueError(f"a list says the class {number} by its number alone, which the development kit's "
                         "meta.mat explains: " + (
                             "it has no such number" if kit else "put that file beside the list"))
    return kit[number]


def numbered(classes: Sequence[str], words: Mapping[str, str], origin: str) -> Labels:
    """Labels by WordNet ids, numbered as they are sorted, or by such numbers themselves."""
    if all(map(NUMBER.fullmatch, classes)):
        values, ids = np.array([int(one) for one in classes]), sorted(words)
        if values.max() >= MAX_CLASSES:
            raise ValueError(f"a label is {values.max()}, allowed: below {MAX_CLASSES:,}")
    elif all(map(WNID.fullmatch, classes)):
        ids = sorted(set(classes))
        place = {one: i for i, one in enumerate(ids)}
        values = np.array([place[one] for one in classes])
    else:
        raise ValueError("lists say some classes by WordNet ids and others by numbers: give them one way")
    names = {i: f"{one} {words[one]}" if one in words else one for i, one in enumerate(ids)}
    return Labels(values, names, origin)
