"""Labels of images in folders: from `dataset.json`, from the folders, or none; no guess in silence."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ambient.data.datasets import MAX_CLASSES
from ambient.provenance import schema

# Folders with these names hold parts of a dataset, or all of it, rather than a class.
NO_CLASS = {"train", "training", "trainval", "val", "valid", "validation", "dev", "eval", "test", "testing",
            "images", "image", "imgs", "img", "pictures", "photos", "data", "dataset", "jpegimages",
            "samples", "png", "jpg", "jpeg"}
CHUNK = re.compile(r"\d{4,}|images\d+x\d+|img\d+")  # 00000, 01000, ...: of so many images each


@dataclass(frozen=True)
class Labels:
    """values: int64 (N,), -1 for none; names: of the classes that have one; origin: where they come from."""

    values: np.ndarray
    names: Mapping[int, str]
    origin: str


def unlabelled(count: int, why: str) -> Labels:
    """No labels."""
    return Labels(np.full(count, -1), {}, f"none ({why})")


def same(name: str) -> str:
    """A name as other systems may write it: accents composed, upper and lower case alike."""
    return unicodedata.normalize("NFC", name).casefold()


class Pairs(list):
    """A JSON object as its (key, value) pairs: a dictionary would keep the last one of a key in silence."""


def from_json(content: bytes, images: Sequence[str]) -> Labels:
    """EDM's `dataset.json`: {"labels": [[name, class], ...]}, or null for none. Raises `ValueError`."""
    try:
        about = json.loads(content, object_pairs_hook=Pairs)
        if not isinstance(about, Pairs):
            raise ValueError(f"got {str(about):.40}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"dataset.json is not a JSON object ({error})") from None
    tables = [value for key, value in about if key == "labels"]
    if len(tables) != 1:
        raise ValueError(f"dataset.json has {len(tables) or 'no'} entries `labels`, allowed: one, which is "
                         "null where the images have no classes")
    listed, = tables
    if listed is None:
        return unlabelled(len(images), "dataset.json has none")
    try:
        pairs = [(name, label) for name, label in listed]
        names = [unicodedata.normalize("NFC", name.replace("\\", "/")) for name, _ in pairs]
    except (TypeError, ValueError, AttributeError):
        raise ValueError("dataset.json: labels must be [name, class] pairs") from None
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"dataset.json names {name} twice; take one out")
    table = dict(zip(names, (label for _, label in pairs), strict=True))
    wanted = [unicodedata.normalize("NFC", name) for name in images]
    for name in sorted(set(table) ^ set(wanted))[:1]:
        where = "names {}, which is not among the images" if name in table else "has no label for {}"
        raise ValueError(f"dataset.json {where.format(name)} ({len(table)} labels, {len(images)} images)")
    for name, label in table.items():
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < MAX_CLASSES:
            raise ValueError(f"dataset.json: the label of {name} is {label!r:.50}, allowed: a whole number "
                             f">= 0 and below {MAX_CLASSES:,}")
    return Labels(np.array([table[name] for name in wanted]), {}, "dataset.json")


def from_folders(images: Sequence[str], way: str | None) -> Labels:
    """Labels by the sorted names of the images' folders, where these can only be classes.

    `way` None: one level of folders, below folders that hold all; `folder`: the folder that an image lies in;
    `top`: the first one; `none`. Raises `ValueError` with all ways for what may mean several things.
    """
    folders = [PurePosixPath(name).parent.parts for name in images]
    if way == "none":
        return unlabelled(len(images), "asked for by `labels: none`")
    if way is None and not any(folders):
        return unlabelled(len(images), "no dataset.json, no folders")
    if way is None:
        classes, origin = by_one_level(folders), "the folders' names"
        if classes is None:
            return unlabelled(len(images), f"all lie in {'/'.join(folders[0])}, which names no class")
    else:
        if not all(folders):
            raise ValueError(f"{images[folders.index(())]} lies in no folder, and `labels: {way}` takes the "
                             "class from one")
        classes = [parts[-1 if way == "folder" else 0] for parts in folders]
        origin = f"the folders' names (`labels: {way}`)"
    return of_names(classes, origin)


def of_names(classes: Sequence[str], origin: str) -> Labels:
    """Labels by the sorted names of classes. Raises `ValueError` for names alike, or that can't be kept."""
    names = sorted(set(classes))
    alike = Counter(map(same, names))
    for name in names:
        if alike[same(name)] > 1:
            both = [other for other in names if same(other) == same(name)]
            raise ValueError(f"the folders {' and '.join(both)} differ in case or accents: rename one, "
                             "or put their images together")
        schema.text(name, "the folder's name, which the manifest keeps as the class")
    number = {name: i for i, name in enumerate(names)}
    return Labels(np.array([number[name] for name in classes]), dict(enumerate(names)), origin)


def by_one_level(folders: Sequence[tuple[str, ...]]) -> list[str] | None:
    """The class of each image by its folder; None where all lie in one folder whose name is no class's."""
    common = folders[0]
    for parts in folders:
        while parts[:len(common)] != common:
            common = common[:-1]
    rest = [parts[len(common):] for parts in folders]
    if not any(rest):
        return None if no_class(common[-1]) else [common[-1]] * len(folders)
    for parts in rest:
        if not parts:
            here = "/".join(common) or "no folder"
            raise ValueError(f"some images lie in {here}, others in folders below. {HOW}")
        if len(parts) > 1:
            raise ValueError(f"images lie in folders within folders ({'/'.join(parts)}). {HOW}")
    for name in sorted({parts[0] for parts in rest}):
        if no_class(name):
            raise ValueError(f"the folder {name} may be no class, but a part of the data. {HOW}")
    return [parts[0] for parts in rest]


HOW = ("What the labels are is not to be guessed: give a dataset.json, or set datasets.<name>.labels to "
       "none, to folder (the class is the folder that an image lies in) or to top (the first folder)")


def no_class(folder: str) -> bool:
    """Whether a folder's name is one that parts of datasets have."""
    return folder.casefold() in NO_CLASS or CHUNK.fullmatch(folder.casefold()) is not None
