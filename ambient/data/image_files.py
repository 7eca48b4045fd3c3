"""Image files in a folder or zip: which there are, what is wrong with them, and their pixels one by one."""

from __future__ import annotations

import io
import posixpath
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from ambient.data.image_labels import Labels, from_folders, from_json, same
from ambient.data.pictures import DECODERS
from ambient.data.raw import Raw

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # by content: Pillow's other readers are not asked
MODES = {1: "L", 3: "RGB"}
LARGEST = 2**28  # bytes of one file: a zip of a few kilobytes can declare, and hold, many gigabytes
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
ORIENTATION = 0x0112  # EXIF: how to turn the picture
LIST = "dataset.json"


class Unfit(ValueError):
    """A file that would have to be cropped, resized, converted or left out."""


def damaged(path: Path, name: str, error: Exception) -> str:
    """What is said of a file that is no image that is read here, whatever its format's reader raised."""
    what = " ".join(str(error).split()) or type(error).__name__
    return (f"{path}: {name} can't be decoded as {', '.join(FORMATS)}, it may be truncated or too large "
            f"({what})")


class Folder:
    """The visible files of a folder."""

    def __init__(self, raw: Raw) -> None:
        self.raw, self.path = raw, raw.path
        for name in raw.files:
            if "\\" in name:
                raise ValueError(f"{raw.path}: {name} has a backslash: was it unpacked from a zip of Windows "
                                 "without its folders?")
        self.sizes = {name: size for name, (size, *_) in raw.seen.items()}
        self.notes: Counter[str] = Counter()

    def open(self, name: str) -> IO[bytes]:
        return open(self.raw.files[name], "rb")

    def read(self, name: str) -> bytes:
        return self.raw.read(name)


class Archive:
    """The files of a zip, by names with /, whatever wrote them. Raises `ValueError` naming a bad one."""

    def __init__(self, raw: Raw) -> None:
        try:
            self.archive = zipfile.ZipFile(raw.path)
        except Exception as error:  # whatever a damaged directory makes the library raise
            raise ValueError(f"{raw.path}: not a readable zip file ({error})") from None
        self.path, self.notes = raw.path, Counter()
        self.entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self.archive.infolist():
            name = posixpath.normpath(entry.filename.replace("\\", "/"))
            if entry.filename.endswith(("/", "\\")):
                continue
            self.check(name, entry)
            self.notes["names with backslashes, read as folders"] += "\\" in entry.filename
            self.entries[name] = entry
        self.sizes = {name: entry.file_size for name, entry in self.entries.items()}

    def check(self, name: str, entry: zipfile.ZipInfo) -> None:
        """Refuse what can't be read, or not safely."""
        wrong = None
        if name in self.entries:
            wrong = "is in it twice; take one out"
        elif name.startswith("/") or name.split("/")[0] == ".." or name[1:2] == ":":
            wrong = "is a name outside of the zip: zip the folder itself"
        elif entry.flag_bits & 1:
            wrong = "is encrypted: unpack the zip and give the folder"
        elif entry.compress_type not in METHODS:
            method = zipfile.compressor_names.get(entry.compress_type, entry.compress_type)
            wrong = f"is compressed by the method {method}, which is not read here: zip again with deflate"
        elif stat.S_ISLNK(entry.external_attr >> 16):
            wrong = "is a link: zip the files themselves"
        if wrong:
            raise ValueError(f"{self.path}: {name} {wrong}")

    def open(self, name: str) -> IO[bytes]:
        try:
            return self.archive.open(self.entries[name])
        except Exception as error:
            raise ValueError(damaged(self.path, name, error)) from None

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            try:
                return file.read()  # no more than its declared size, which is limited
            except Exception as error:  # zlib's, lzma's, a wrong CRC, ...
                raise ValueError(damaged(self.path, name, error)) from None


class Images:
    """All images of a folder or zip, by sorted relative name, looked at but not decoded yet.

    labels: of each; size: their common side, pixels; converted, left_out: counts by what was done. Raises
    `ValueError` naming the file for whatever can't be meant.
    """

    def __init__(self, raw: Raw, channels: int, way: str | None = None) -> None:
        self.path, self.channels = raw.path, channels
        if not raw.is_folder and not zipfile.is_zipfile(raw.path):
            raise ValueError(f"{raw.path}: neither a folder nor a zip file")
        self.files = Folder(raw) if raw.is_folder else Archive(raw)
        self.converted, self.left_out = Counter(self.files.notes), Counter()
        self.names = self.select(sorted(self.files.sizes), way)
        self.labels = self.labelled(way)
        self.size = raw.once("looked", self.look, DECODERS)

    def select(self, names: Sequence[str], way: str | None) -> list[str]:
        """The images' names; all else is refused, or hidden and counted."""
        hidden = [name for name in names if any(
            part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)]
        if hidden:
            self.left_out[f"hidden files ({hidden[0]})"] = len(hidden)
        visible = sorted(set(names) - set(hidden))
        alike: dict[str, str] = {}
        for name in visible:
            if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
                raise ValueError(f"{self.path}: the name {name!a} has characters that can't be shown: rename "
                                 "it")
            if (other := alike.setdefault(same(name), name)) != name:
                raise ValueError(f"{self.path}: {other} and {name} differ in case or accents: rename one")
            if (size := self.files.sizes[name]) > LARGEST:
                raise ValueError(f"{self.path}: {name} has {size:,} bytes, allowed: {LARGEST:,}")
        images = [name for name in visible if name.lower().endswith(SUFFIXES)]
        self.list = self.find_list(visible, way)
        for name in visible:
            if not name.lower().endswith(SUFFIXES) and PurePosixPath(name).name != LIST:
                raise Unfit(f"{self.path}: {name} is not an image (allowed: {', '.join(SUFFIXES)}) and "
                            f"not {LIST}; take it out")
        if not images:
            raise ValueError(f"{self.path}: no images in it (allowed: {', '.join(SUFFIXES)})")
        return images

    def find_list(self, visible: Sequence[str], way: str | None) -> str | None:
        """Where `dataset.json` lies: at the top, or in the one folder that holds everything."""
        lists = [name for name in visible if PurePosixPath(name).name == LIST]
        if way is not None and lists:
            self.left_out[f"{LIST}, for the configuration's labels"] = len(lists)
            return None
        for name in lists:
            folder = name.removesuffix(LIST)
            if len(lists) > 1 or not all(other.startswith(folder) for other in visible):
                raise ValueError(
                    f"{self.path}: {name} lists a part of the images. Keep it, its labels are nowhere else: "
                    f"make one {LIST} at the top of all, with names from there, or give its folder alone as "
                    "the path. datasets.<name>.labels (none, folder, top) takes other labels in its place")
        return lists[0] if lists else None

    def labelled(self, way: str | None) -> Labels:
        """The labels of all images."""
        try:
            if self.list is None:
                return from_folders(self.names, way)
            folder = self.list.removesuffix(LIST)
            return from_json(self.files.read(self.list), [name.removeprefix(folder) for name in self.names])
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def look(self) -> int:
        """The images' side, pixels, after a look at the head of each file."""
        first = None
        for name in self.names:
            with self.files.open(name) as file:
                picture = self.picture(name, file)
                self.check(name, picture)
                width, height = picture.size
            if first is None and width != height:
                raise Unfit(f"{self.path}: {name} is {width}x{height}, images must be square: crop them "
                            "first")
            first = first or (name, width)
            if (width, height) != (first[1], first[1]):
                raise Unfit(f"{self.path}: {name} is {width}x{height}, but {first[0]} is "
                            f"{first[1]}x{first[1]}: images must have one size")
        return first[1]

    def picture(self, name: str, file: IO[bytes]) -> Image.Image:
        """An image file, opened. Raises `ValueError` naming it, whatever its format's reader raises."""
        try:
            picture = Image.open(file, formats=FORMATS)
            if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels")
            return picture
        except Exception as error:
            raise ValueError(damaged(self.path, name, error)) from None

    def check(self, name: str, picture: Image.Image) -> None:
        """Refuse an image whose pixels would have to be changed by a choice that is not ours."""
        wrong, frames = None, getattr(picture, "n_frames", 1)
        if picture.mode != MODES[self.channels]:
            wrong = (f"has the mode {picture.mode}, the dataset's channels are {self.channels} "
                     f"({MODES[self.channels]}): convert the image, or set channels")
        elif frames > 1:
            wrong = f"has {frames} frames: give one of them as an image"
        elif "transparency" in picture.info:
            wrong = "has a transparent colour: convert the image, on the background that it shall have"
        elif picture.format == "PNG" and any(";16" in str(tile.args) for tile in picture.tile):
            wrong = "has 16 bits a channel: convert it to 8"
        if wrong:
            raise Unfit(f"{self.path}: {name} {wrong}")

    def decode(self, name: str) -> np.ndarray:
        """One image as uint8 (C, H, W), turned as its EXIF orientation says."""
        picture = self.picture(name, io.BytesIO(self.files.read(name)))
        self.check(name, picture)
        try:
            picture.load()
            turn = picture.getexif().get(ORIENTATION, 1)
        except Exception as error:
            raise ValueError(damaged(self.path, name, error)) from None
        if picture.size != (self.size, self.size):
            raise ValueError(f"{self.path}: {name} changed while it was read: run the job again")
        if turn in range(2, 9):
            ImageOps.exif_transpose(picture, in_place=True)
            self.converted["turned as their EXIF orientation says"] += 1
        if "icc_profile" in picture.info:
            self.converted["with a colour profile, taken as they are"] += 1
        pixels = np.asarray(picture)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def read(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The images of these rows, one by one, uint8 (C, H, W)."""
        for row in rows:
            yield self.decode(self.names[row])
