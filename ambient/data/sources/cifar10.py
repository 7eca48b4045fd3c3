"""Source `cifar10`: CIFAR-10's training images from its archive, its folder, or a folder or zip of images."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from filelock import FileLock

from ambient.data.pickles import PlainUnpickler
from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.storage.files import atomic

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Arrays, Reading

CIFAR_NAME, CIFAR_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
CIFAR_FOLDER = "cifar-10-batches-py"
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LARGEST_BATCH = 2**26  # bytes of one of CIFAR-10's files, which have 31 million


@dataclass(frozen=True)
class Spec(DatasetSpec):
    """`labels` is for a folder of images in the archive's place."""

    HAD: ClassVar[str] = "download"
    SHAPE: ClassVar[tuple[int, int]] = (3, 10)
    TITLE: ClassVar[str] = "CIFAR-10"
    ADDRESS: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar.html"
    LICENCE: ClassVar[str] = "none is stated; its authors ask to be cited"


def locate(spec: Spec) -> Path:
    """The archive by torchvision's downloader, checksum verified, once, in AMBIENT_DATA (`data/`)."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, download_url

    folder = Path(os.environ.get("AMBIENT_DATA") or "data").expanduser()
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


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The images of the five training batches in their order, or of image files."""
    from ambient.data.readers import in_memory

    tops = {name.split("/")[0] for name in raw.files} | {raw.path.name}
    if raw.path.name.endswith(".tar.gz") or raw.is_folder and CIFAR_FOLDER in tops:
        # The published checksum is the archive's.
        return in_memory(batches(raw), dict(enumerate(CIFAR_CLASSES)), verified=not raw.is_folder)
    return images.read(spec, raw)


def files_of(raw: Raw) -> Iterable[tuple[str, bytes]]:
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


def arrays(content: bytes) -> Arrays:
    """Images and labels of one batch. Raises whatever a damaged one leads to."""
    batch = PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    if data.dtype != np.uint8 or labels.dtype.kind not in "iu" or labels.shape != data.shape[:1]:
        raise ValueError(f"images {data.dtype} {data.shape}, labels {labels.dtype} {labels.shape}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(CIFAR_CLASSES):
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, allowed: 0 to 9")
    return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def batches(raw: Raw, md5: str = CIFAR_MD5) -> list[Arrays]:
    """Images and labels of the five training batches. Raises `ValueError` for a wrong checksum."""
    path = raw.path
    if path.is_file():
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if digest != md5:
            raise ValueError(f"{path}: md5 is {digest}, the published {CIFAR_NAME} has {md5}")
    made = []
    try:
        for name, content in files_of(raw):
            try:
                made.append(arrays(content))
            except Exception as error:  # a damaged pickle raises nearly anything
                what = " ".join(str(error).split())
                raise ValueError(f"{name}: not a CIFAR-10 batch ({what})") from None
    except (tarfile.TarError, KeyError, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable CIFAR-10 archive ({error})") from None
    return made
