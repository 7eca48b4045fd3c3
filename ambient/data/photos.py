"""Reader of photographs as people have them: of any size, format and mode, good ones among bad ones.

Nothing is refused that can be left out or converted; what was done is counted, so that the owner can see it.
An image's id is its place in the sorted names of all image files of the folder, whichever of them are taken:
parts of one folder have ids that differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from ambient.data.image_files import LARGEST, Archive, Folder
from ambient.data.measures import score_images
from ambient.data.pictures import FORMATS, UNREAD, Unreadable, opened, plain
from ambient.data.raw import Raw
from ambient.data.selection import in_folders, listed, scored
from ambient.data.side_by_side import side_by_side
from ambient.data.squares import CROPS
from ambient.jobs.progress import Progress
from ambient.jobs.stopping import say
from ambient.specs import DatasetSpec, SelectSpec
from ambient.storage.text import printable

ELSEWHERE, COPY = "images of other folders", "of the same content as another"
NO_IMAGES = "files that are no images"
SHOWN = 20  # damaged files that are named
Check = Callable[[Sequence[str], Sequence[str]], None]  # of the names of images, and of all other files


@dataclass(frozen=True)
class Photos:
    """Images of a folder or zip.

    names: of all image files, sorted: an id is a place among them. rows: the ids of the images here, rising.
    images: uint8 (N, C, H, H) of these. sizes: (N, 2) width and height of their files, pixels. done: what
    was done to each, in words. left_out: counts by the reason. digests: SHA-256 of their files. copies: by
    id, the names of other files with the same content. unread: files that are no images that are read here.
    scores: float64 (N,) by the rule that chose them, or None. examples: for each reason and each thing done,
    an image's name.
    """

    names: list[str]
    rows: np.ndarray
    images: np.ndarray
    sizes: np.ndarray
    done: list[tuple[str, ...]]
    left_out: Counter[str]
    digests: list[str]
    copies: dict[int, list[str]]
    unread: list[str]
    scores: np.ndarray | None = None
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def converted(self) -> Counter[str]:
        """Counts by what was done."""
        return Counter(what for done in self.done for what in done)

    @property
    def names_of_each(self) -> list[tuple[str, ...]]:
        """All names of each image here: its own, and those of its copies."""
        return [(self.names[row], *self.copies.get(row, ())) for row in self.rows.tolist()]


@dataclass(frozen=True)
class Looked:
    """An image file after a look: its pixels (C, H, H) or, in words, why it is left out."""

    digest: str
    size: tuple[int, int] | None = None
    pixels: np.ndarray | None = None
    done: tuple[str, ...] = ()
    reason: str | None = None
    damaged: bool = False  # or of another format than its name says


def candidates(files: Folder | Archive, notes: Counter[str],
               examples: dict[str, str]) -> tuple[list[str], list[str]]:
    """The sorted names of the image files, and of other files, which are counted."""
    images, others = [], []
    for name in sorted(files.sizes):
        suffix = PurePosixPath(name).suffix.lower()
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            reason = "files whose names have characters that can't be shown: rename them"
        elif any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts):
            reason = "hidden files"
        elif suffix in FORMATS and isinstance(files, Archive) and files.sizes[name] > LARGEST:
            reason = f"files of more than {LARGEST:,} bytes, which are not read from a zip"
        elif suffix in FORMATS:
            images.append(name)
            continue
        elif suffix in UNREAD:
            reason = f"{suffix} files, which are not read here: save them as JPEG or PNG"
        else:
            reason = NO_IMAGES
        others.append(name)
        notes[reason] += 1
        examples.setdefault(reason, printable(name))
    return images, others


def look(content: bytes, spec: DatasetSpec, wanted: bool) -> Looked:
    """One image file as it goes into the dataset."""
    digest = hashlib.sha256(content).hexdigest()
    if not wanted:
        return Looked(digest, reason=ELSEWHERE)
    try:
        size = opened(content).size
        if min(size) < spec.resolution:
            return Looked(digest, size, reason=f"smaller than {spec.resolution} pixels")
        image, done = plain(content, spec.channels, spec.resolution)
    except Unreadable as error:
        return Looked(digest, reason=str(error), damaged=True)
    if image.width != image.height:
        done.append({"pad": "padded"}.get(spec.crop, "cropped") + f" to a square ({spec.crop})")
    pixels = np.asarray(CROPS[spec.crop](image, spec.resolution))
    pixels = pixels[None] if spec.channels == 1 else pixels.transpose(2, 0, 1)
    return Looked(digest, size, pixels, tuple(done))


def content(files: Folder | Archive, name: str) -> bytes:
    """The bytes of an image file; none where a zip's are damaged."""
    try:
        return files.read(name)
    except ValueError:
        if isinstance(files, Folder):  # it changed while it was read
            raise
        return b""


def looks(files: Folder | Archive, names: Sequence[str], here: np.ndarray,
          spec: DatasetSpec) -> Iterator[tuple[str, Looked]]:
    """Each image file after a look, in order.

    Those that are not `here` are not decoded: only their digests are known.
    """
    progress = Progress("prepare", len(names))
    looked = side_by_side(range(len(names)), lambda place: content(files, names[place]),
                          lambda place, content: look(content, spec, here[place]))
    for place, seen in enumerate(looked):
        yield names[place], seen
        progress.update(place + 1)


def readable(raw: Raw, spec: DatasetSpec, check: Check | None = None) -> Photos:
    """The images of the selection's folders that can be used, at the specification's size.

    Files with the same content are one image, with the first of their names. It lies in the folders of all of
    them. `check` is called before an image is read. Raises `ValueError` naming a folder without images.
    """
    files = Folder(raw) if raw.is_folder else Archive(raw)
    left_out, examples = Counter(+files.notes), {}
    names, unread = candidates(files, left_out, examples)
    if not names:
        raise ValueError(f"{raw.path}: no images in it (allowed: {', '.join(FORMATS)})")
    if check:
        check(names, unread)
    select = spec.select or SelectSpec()
    first: dict[str, int] = {}
    taken: dict[int, Looked] = {}
    copies: dict[int, list[str]] = {}
    damaged: list[str] = []  # sentences
    for place, (name, seen) in enumerate(looks(files, names, in_folders(names, select), spec)):
        row = first.setdefault(seen.digest, place)
        if row != place:
            copies.setdefault(row, []).append(name)
        reason = seen.reason or (COPY if row in taken else None)
        for what in (reason,) if reason else seen.done:
            examples.setdefault(what, name)
        damaged += [f"{printable(name)} is {reason}"] if seen.damaged else []
        if reason:
            left_out[reason] += 1
        else:
            taken[row] = seen
    for line in damaged[:SHOWN]:
        say(f"prepare: left out: {line}")
    if len(damaged) > SHOWN:
        say(f"prepare: left out: {len(damaged) - SHOWN} more such files")
    here = in_folders(names, select, copies)
    left_out[ELSEWHERE] += sum(not here[row] for row in taken)  # a copy lies in a folder that is left out
    rows = [row for row in sorted(taken) if here[row]]
    if not rows:
        raise ValueError(f"{raw.path}: none of {len(names)} images can be used: {told(left_out)}")
    looked = [taken[row] for row in rows]
    return Photos(names, np.array(rows), np.stack([one.pixels for one in looked]),
                  np.array([one.size for one in looked]), [one.done for one in looked], +left_out,
                  [one.digest for one in looked], copies, unread, examples=examples)


def check_rule(select: SelectSpec, rule: Path | None, names: Sequence[str], unread: Sequence[str]) -> None:
    """Raise `ValueError` for a selection's list or table that is missing, or has a line that is wrong."""
    if select.by in ("list", "scores") and rule is None:
        raise ValueError(f"select.by is {select.by}, which needs a file: give it as datasets.<name>.rule")
    if select.by == "list":
        listed(rule, names, unread)
    elif select.by == "scores":
        scored(rule, select.column, (), names)


def scores_by(select: SelectSpec, photos: Photos, rule: Path | None) -> np.ndarray | None:
    """The score of each image (N,) by the rule of a selection; images of a list score 1, all others 0.

    Raises `ValueError` for a file of the rule that names what is no image, or has no score for one.
    """
    if select.by is None:
        return None
    if select.by == "quality":
        return score_images(select.measure, photos.images)
    if select.by == "list":
        good = listed(rule, photos.names, photos.unread)
        return np.array([float(not good.isdisjoint(names)) for names in photos.names_of_each])
    return np.array(scored(rule, select.column, photos.names_of_each, photos.names))


def chosen(photos: Photos, select: SelectSpec) -> Photos:
    """The images that a selection means, by the scores that they have from its rule.

    Raises `ValueError` where there is none.
    """
    here, scores = in_folders(photos.names, select, photos.copies)[photos.rows], photos.scores
    good = here if select.by is None else scores >= (1.0 if select.by == "list" else select.at_least)
    left_out = photos.left_out + Counter({
        ELSEWHERE: int((~here).sum()),
        f"images that are {'not ' * select.good}good by the rule": int((here & (good != select.good)).sum())})
    taken = np.flatnonzero(here & (good == select.good))
    if not len(taken):
        raise ValueError(f"none of {len(photos.rows)} images is taken: {told(left_out)}")
    return subset(dataclasses.replace(photos, left_out=left_out), taken)


def subset(photos: Photos, taken: Sequence[int], reason: str | None = None) -> Photos:
    """The images at these places; with a reason the others count as left out."""
    left_out = photos.left_out + Counter({reason: len(photos.rows) - len(taken)} if reason else {})
    scores = None if photos.scores is None else photos.scores[taken]
    return dataclasses.replace(
        photos, rows=photos.rows[taken], images=photos.images[taken], sizes=photos.sizes[taken],
        done=[photos.done[i] for i in taken], digests=[photos.digests[i] for i in taken], left_out=left_out,
        scores=scores)


def read(raw: Raw, spec: DatasetSpec, rule: Path | None = None) -> Photos:
    """The images that a specification takes of a folder or zip. `rule` is the file of `select.by`."""
    select = spec.select or SelectSpec()
    photos = readable(raw, spec, partial(check_rule, select, rule))
    return chosen(dataclasses.replace(photos, scores=scores_by(select, photos, rule)), select)


def told(counts: Counter[str]) -> str:
    """Counts in words."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing left out"
