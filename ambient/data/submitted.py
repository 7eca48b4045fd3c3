"""Images from outside that are to be scored: a folder or zip of image files, or a file of arrays.

They are taken as they are: what has another size, number of channels or type is refused, since whatever made
it fit would be part of the score. The first images are taken, by sorted name or by place. They are read when
they are asked for, since they may be more than the memory holds.
"""

from __future__ import annotations

import copy
import math
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from ambient.data.image_files import Images
from ambient.data.raw import Raw
from ambient.storage.arrays import Array, Computed, Opened, Stored, layout
from ambient.storage.files import naming

Shape = tuple[int, ...]
ABOUT, SHEET = "samples.json", "contact-sheet.png"  # what `ambient sample` puts beside its images
TOGETHER = 250  # images that are read at once where each is looked at
NAMES = ("images", "samples", "arr_0")  # of the array that holds the images, where a file has several


@dataclass(frozen=True)
class Wanted:
    """What a protocol asks: `count` images of `channels` x `side` x `side`."""

    count: int
    channels: int
    side: int

    @property
    def shape(self) -> Shape:
        """Of one image."""
        return (self.channels, self.side, self.side)

    def check_count(self, path: Path, found: int) -> None:
        """Raise `ValueError` for too few images."""
        if found < self.count:
            raise ValueError(f"{path}: holds {found:,} images, the protocol takes {self.count:,}: draw more "
                             "(a score of fewer can't be compared)")


@dataclass(frozen=True)
class Submitted:
    """The first images, uint8 (N, C, H, W), of how many there are, and the data that they lie in."""

    images: Array
    of: int
    raw: Raw

    @property
    def pin(self) -> tuple[str, int]:
        """What pins the data, SHA-256 and bytes. Raises `ValueError` where they have changed meanwhile."""
        return self.raw.close()

    def check(self) -> None:
        """Read each image once. Raises `ValueError` naming one that is damaged."""
        for first in range(0, len(self.images), TOGETHER):
            self.images[first:first + TOGETHER]


def read(path: Path, wanted: Wanted) -> Submitted:
    """The images of a folder, zip, .npy, .npz or .safetensors. Raises `ValueError` naming what does not fit.

    Arrays are uint8 (N, C, H, W), (N, H, W, C) or, of grey images, (N, H, W). No pickle is opened.
    """
    if not (path.is_dir() or path.is_file()):  # the opening of a FIFO would wait for ever
        raise ValueError(f"{path}: no such file or folder")
    raw, reader = Raw(path), ARRAYS.get(path.suffix.lower())
    if raw.is_folder or reader is None:
        images, of = from_files(raw, wanted)
    else:
        images, of = reader(path, wanted)
    return Submitted(images, of, raw)


def images_of(raw: Raw) -> Raw:
    """Raw data without what `ambient sample` puts beside its images, where it has made the folder."""
    if not (raw.is_folder and ABOUT in raw.files):
        return raw
    shown = copy.copy(raw)  # with the same digests, so that each file is hashed once
    shown.files = {name: file for name, file in raw.files.items() if name not in (ABOUT, SHEET)}
    shown.seen = {name: seen for name, seen in raw.seen.items() if name not in (ABOUT, SHEET)}
    return shown


def from_files(raw: Raw, wanted: Wanted) -> tuple[Array, int]:
    """The first image files by sorted name, and how many there are."""
    if not raw.is_folder and not zipfile.is_zipfile(raw.path):
        ending = raw.path.suffix or "without an ending"
        raise ValueError(f"{raw.path}: got a file {ending}, allowed: a folder or zip of images, or "
                         f"{', '.join(ARRAYS)}")
    found = Images(images_of(raw), wanted.channels, "none")
    if found.size != wanted.side:
        raise ValueError(f"{raw.path}: images are {found.size}x{found.size} pixels, the protocol's are "
                         f"{wanted.side}x{wanted.side}: draw them at that size (resizing is not part of it)")
    wanted.check_count(raw.path, len(found.names))
    return Computed((wanted.count, *wanted.shape), np.uint8,
                    lambda rows: np.stack(list(found.read(rows)))), len(found.names)


def arranged(path: Path, name: str, dtype: object, shape: Shape,
             wanted: Wanted) -> Callable[[np.ndarray], np.ndarray]:
    """How an array of images becomes (N, C, H, W). Raises `ValueError` where it has no such images."""
    if str(dtype) != "uint8":
        raise ValueError(f"{path}: {name} is {dtype}, allowed: uint8; of x in [-1, 1] that is "
                         "round((x + 1) * 127.5), clipped to 0 and 255")
    channels, side, _ = wanted.shape
    if tuple(shape[1:]) == wanted.shape:
        return lambda images: images
    if tuple(shape[1:]) == (side, side, channels):
        return lambda images: images.transpose(0, 3, 1, 2)
    if channels == 1 and tuple(shape[1:]) == (side, side):
        return lambda images: images[:, None]
    raise ValueError(f"{path}: {name} has the shape {tuple(shape)}, the protocol's images are "
                     f"(N, {channels}, {side}, {side}) or (N, {side}, {side}, {channels})")


def head_of(path: Path, name: str, file: IO[bytes], size: int,
            wanted: Wanted) -> tuple[Shape, int, Callable[[np.ndarray], np.ndarray]]:
    """Shape, begin and arrangement of the array in numpy's format that fills a file of `size` bytes."""
    with naming(path):
        version = np.lib.format.read_magic(file)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else \
            np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_head(file)
    arrange = arranged(path, name, dtype, shape, wanted)
    if fortran:
        raise ValueError(f"{path}: {name} is in Fortran's order: save numpy.ascontiguousarray of it")
    wanted.check_count(path, shape[0])
    if size < file.tell() + wanted.count * math.prod(shape[1:]):
        raise ValueError(f"{path}: {name} is cut short")
    return shape, file.tell(), arrange


def arranged_rows(of: Callable[[np.ndarray], np.ndarray], arrange: Callable[[np.ndarray], np.ndarray],
                  wanted: Wanted) -> Array:
    """The images by rows that `of` gives as they lie in a file."""
    return Computed((wanted.count, *wanted.shape), np.uint8,
                    lambda rows: np.ascontiguousarray(arrange(of(rows))))


def named(path: Path, names: list[str]) -> str:
    """The array of a file that holds the images. Raises `ValueError` where that can't be told."""
    known = [name for name in NAMES if name in names]
    if not known and len(names) != 1:
        raise ValueError(f"{path}: holds the arrays {', '.join(names) or 'none'}: call that of the images "
                         f"{NAMES[0]!r}")
    return known[0] if known else names[0]


def from_npy(path: Path, wanted: Wanted) -> tuple[Array, int]:
    """The first images of a .npy."""
    with open(path, "rb") as file:
        shape, start, arrange = head_of(path, "the array", file, path.stat().st_size, wanted)
    rows = Stored(Opened(path), start, shape, np.dtype(np.uint8)).rows
    return arranged_rows(rows, arrange, wanted), shape[0]


def array_of(path: Path, archive: zipfile.ZipFile) -> tuple[str, IO[bytes], int]:
    """Name, open file and bytes of the array of a .npz that holds the images."""
    name = named(path, [one.removesuffix(".npy") for one in archive.namelist()])
    member = archive.getinfo(f"{name}.npy")
    try:
        return name, archive.open(member), member.file_size
    except OSError as error:  # of a place before the file's begin, by a damaged directory
        raise ValueError(f"{name}.npy can't be opened, the file is damaged ({error})") from None


def from_npz(path: Path, wanted: Wanted) -> tuple[Array, int]:
    """The first images of a .npz, which is a zip of .npy files.

    The zip stays open, since it may be compressed: rows behind those that were read are read on from there.
    """
    with ExitStack() as stack:
        with naming(path):
            name, file, size = array_of(path, stack.enter_context(zipfile.ZipFile(path)))
        stack.enter_context(file)
        shape, start, arrange = head_of(path, name, file, size, wanted)
        stack.pop_all()
    each = math.prod(shape[1:])

    def row(number: int) -> np.ndarray:
        with naming(path):  # whatever a damaged zip makes its library raise
            file.seek(start + number * each)
            return np.frombuffer(file.read(each), np.uint8).reshape(shape[1:])

    return arranged_rows(lambda rows: np.stack([row(number) for number in rows.tolist()]), arrange,
                         wanted), shape[0]


def from_safetensors(path: Path, wanted: Wanted) -> tuple[Array, int]:
    """The first images of a .safetensors."""
    from safetensors import safe_open

    with naming(path), safe_open(path, framework="numpy") as file:  # which checks the file's head
        name = named(path, list(file.keys()))
        about = layout(path)[name]
    dtype, shape = {"U8": "uint8"}.get(about["dtype"], about["dtype"]), tuple(about["shape"])
    arrange = arranged(path, name, dtype, shape, wanted)
    wanted.check_count(path, shape[0])
    rows = Stored(Opened(path), about["data_offsets"][0], shape, np.dtype(np.uint8)).rows
    return arranged_rows(rows, arrange, wanted), shape[0]


ARRAYS = {".npy": from_npy, ".npz": from_npz, ".safetensors": from_safetensors}
