"""Captions of images: each distinct text once, and which of them an image has. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

NONE = -1  # the row of an image without a caption
DIGEST = 16  # bytes of SHA-256 by which two texts are told apart


@dataclass(frozen=True)
class Texts:
    """M distinct captions, in the order of their characters, and the caption of each of N images.

    content: the texts one after the other, uint8, UTF-8. ends: int64 (M,), where each ends. rows: int64 (N,),
    the caption of each image, NONE where it has none. Raises `ValueError` for texts that are not whole, and
    for an image of a caption that is not there.
    """

    content: np.ndarray
    ends: np.ndarray
    rows: np.ndarray

    def __post_init__(self) -> None:
        rising = np.diff(self.ends, prepend=0) >= 0
        if not rising.all() or (self.ends[-1] if len(self.ends) else 0) != len(self.content):
            raise ValueError(f"captions of {len(self.content)} bytes do not end where caption_ends says")
        if len(self.rows) and not NONE <= self.rows.min() <= self.rows.max() < len(self.ends):
            raise ValueError(f"an image has the caption {self.rows.max()} of {len(self.ends)}")

    @classmethod
    def of(cls, captions: Iterable[str | None]) -> Texts:
        """The captions of images, one each, None for none. White space counts as one space.

        Raises `ValueError` for one that can't be written in UTF-8.
        """
        plain = [None if text is None else " ".join(text.split()) for text in captions]
        if broken := next((text for text in plain if text is not None and not is_whole(text)), None):
            raise ValueError(f"the caption {broken!a:.60} has half of a surrogate pair in it, which is no "
                             "character: repair it")
        distinct = sorted({text for text in plain if text is not None})
        number = {text: row for row, text in enumerate(distinct)} | {None: NONE}
        return of_distinct(distinct, np.array([number[text] for text in plain], np.int64))

    @classmethod
    def taken_from(cls, arrays: dict[str, Any]) -> Texts | None:
        """The captions among the arrays of a file, which are taken out; None where there are none."""
        content = arrays.pop("captions", None)
        return None if content is None else cls(content, arrays.pop("caption_ends"),
                                                arrays.pop("caption_rows"))

    def arrays(self) -> Mapping[str, np.ndarray]:
        """What a file holds of them."""
        return {"captions": self.content, "caption_ends": self.ends, "caption_rows": self.rows}

    def __len__(self) -> int:
        """How many distinct captions there are."""
        return len(self.ends)

    @cached_property
    def texts(self) -> list[str]:
        """The distinct captions. Raises `ValueError` where they are no UTF-8."""
        data, first = self.content.tobytes(), 0
        found = []
        for end in self.ends.tolist():
            found.append(data[first:end].decode())
            first = end
        return found

    def of_images(self) -> list[str | None]:
        """The caption of each image."""
        return [None if row == NONE else self.texts[row] for row in self.rows.tolist()]

    def first_images(self) -> np.ndarray:
        """The place of the first image that has each distinct caption, int64 (M,). Each has one."""
        rows, first = np.unique(self.rows, return_index=True)
        return first[rows != NONE]

    def taken(self, index: np.ndarray) -> Texts:
        """Those of some images, by numbers or truth values; captions that none of them has are left out."""
        rows = self.rows[index]
        used = np.unique(rows[rows != NONE])
        return of_distinct([self.texts[row] for row in used.tolist()],
                           np.where(rows == NONE, NONE, np.searchsorted(used, rows)))

    def digests(self) -> np.ndarray:
        """What tells each distinct caption from any other, uint8 (M, DIGEST)."""
        return np.frombuffer(b"".join(map(digest, self.texts)), np.uint8).reshape(-1, DIGEST)


def is_whole(text: str) -> bool:
    """Whether a text can be written in UTF-8: half of a surrogate pair, as JSON may have it, can't."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def digest(text: str) -> bytes:
    """The first bytes of the SHA-256 of a caption."""
    return hashlib.sha256(text.encode()).digest()[:DIGEST]


def joined(parts: Sequence[tuple[Texts | None, int]]) -> Texts | None:
    """The captions of several sets of images one after the other; None where no image has one.

    `parts`: the captions of each set, None for none, and how many images it has.
    """
    if all(texts is None for texts, _ in parts):
        return None
    distinct = sorted({text for texts, _ in parts if texts is not None for text in texts.texts})
    number, rows = {text: row for row, text in enumerate(distinct)}, []
    for texts, count in parts:
        if texts is None:
            rows.append(np.full(count, NONE))
        else:
            there = np.array([*(number[text] for text in texts.texts), NONE])  # the last one is row NONE
            rows.append(there[texts.rows])
    return of_distinct(distinct, np.concatenate(rows))


def of_distinct(distinct: Sequence[str], rows: np.ndarray) -> Texts:
    """Captions that are distinct and in order already, with the row of each image."""
    encoded = [text.encode() for text in distinct]
    return Texts(np.frombuffer(b"".join(encoded), np.uint8),
                 np.cumsum([len(one) for one in encoded], dtype=np.int64), rows.astype(np.int64))


def of_samples(captions: Texts | None, each: int, count: int) -> list[str]:
    """The captions of the samples 0 to count - 1 of a seed: sample k has that of image k // each, counted
    from the first again after the last.

    Raises `ValueError` where the images have no captions, or one of them has none.
    """
    known = [None] if captions is None else captions.of_images()
    if None in known:
        raise ValueError("an image of the dataset that samples have their captions of has none")
    return [known[k // each % len(known)] for k in range(count)]
