"""Reader of ImageNet as people have it: which files are there, their classes, and the pixels one by one."""

from __future__ import annotations

import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from ambient.data.image_files import LIST, Archive, Folder
from ambient.data.image_labels import Labels, from_json
from ambient.data.pictures import FORMATS, Unreadable, plain
from ambient.data.raw import Raw
from ambient.data.side_by_side import side_by_side
from ambient.data.squares import adm
from ambient.data.tars import Tar
from ambient.data.wordnet import Lists, labels
from ambient.specs import DatasetSpec

LISTS = (".txt", ".csv", ".mat")
PARTS = {"train", "val", "test", "validation"}  # folders of whom a dataset is one


class ImageNetFiles:
    """All images of a folder, tar or zip, by sorted name, none decoded yet.

    A folder holds images in folders called as WordNet ids, or one tar, and lists beside them
    (`ambient.data.wordnet`). names: of the images; an id is a place among them. labels: of each. converted:
    counts by what was done, complete once the images were read; left_out: counts of files. Raises
    `ValueError` naming the file that can't be meant.
    """

    def __init__(self, raw: Raw, spec: DatasetSpec) -> None:
        self.path, self.spec = raw.path, spec
        self.lists, self.converted, self.left_out = Lists(), Counter(), Counter()
        self.files = self.opened(raw)
        self.names = self.images()
        self.labels = self.labelled()

    def opened(self, raw: Raw) -> Folder | Archive | Tar:
        """The files that hold the images; lists beside a tar are read."""
        if not raw.is_folder:
            return Archive(raw) if zipfile.is_zipfile(raw.path) else Tar(raw.path)
        tars = [name for name in raw.files if name.endswith((".tar", ".tar.gz", ".tgz"))]
        if not tars:
            return Folder(raw)
        others = []
        for name in raw.files:
            if name.lower().endswith(LISTS):
                self.lists.read(f"{raw.path}: {name}", raw.read(name))
            elif name not in tars:
                others.append(name)
        if len(tars) > 1 or others:
            raise ValueError(f"{raw.path}: has {tars[0]} and {[*tars[1:], *others][0]}; allowed: one tar, "
                             "with lists beside it, or images in folders. Make a folder of links to what "
                             "belongs together")
        return Tar(raw.in_parts(tars[0]))

    def images(self) -> list[str]:
        """The sorted names of the images. Lists among them are read, and anything else is refused."""
        images = []
        for name in sorted(self.files.sizes):
            path = PurePosixPath(name)
            if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
                raise ValueError(f"{self.path}: the name {name!a} has characters that can't be shown: rename "
                                 "it")
            if any(part.startswith((".", "__MACOSX")) for part in path.parts):
                self.left_out["hidden files"] += 1
            elif path.suffix.lower() in FORMATS:
                images.append(name)
            elif path.suffix.lower() in LISTS:
                self.lists.read(f"{self.path}: {name}", self.files.read(name))
            elif path.name != LIST:
                raise ValueError(f"{self.path}: {name} is no image, no tar and no list of labels "
                                 f"({', '.join(LISTS)}); take it out")
        parts = sorted({path for name in images for path in PurePosixPath(name).parts[:-1]} & PARTS)
        if len(parts) > 1:
            raise ValueError(f"{self.path}: has images of {' and '.join(parts)}; give one of these folders "
                             "as the path")
        if not images:
            raise ValueError(f"{self.path}: no images in it (allowed: {', '.join(FORMATS)})")
        return images

    def labelled(self) -> Labels:
        """The labels of all images: a zip's `dataset.json`, else WordNet ids."""
        try:
            if LIST in self.files.sizes:
                return from_json(self.files.read(LIST), self.names)
            return labels(self.names, self.lists)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def decoded(self, name: str, content: bytes) -> tuple[np.ndarray, list[str]]:
        """One image, uint8 (C, H, H), and what was done to it. Raises `ValueError` naming a damaged one.

        JPEGs are decoded at their full size and no orientation is applied: published numbers are of these.
        """
        side = self.spec.resolution
        try:
            image, done = plain(content, self.spec.channels, None, upright=False)
        except Unreadable as error:
            raise ValueError(f"{self.path}: {name} is {error}. No image is left out: scores and labels go by "
                             "the place among all. Get this file anew") from None
        if min(image.size) < side:
            done.append(f"enlarged, and blurred by that, to {side} pixels")
        pixels = np.asarray(adm(image, side))
        return (pixels[None] if self.spec.channels == 1 else pixels.transpose(2, 0, 1)), done

    def read(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The images of these rows, in order."""
        for pixels, done in side_by_side([self.names[row] for row in rows], self.files.read, self.decoded):
            self.converted.update(done)
            yield pixels
