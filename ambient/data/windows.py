"""Windows of three photographs that ship inside packages which are installed anyway, apart by bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from ambient.storage.files import sha256


@dataclass(frozen=True)
class Photograph:
    """A file of a package: any other content than the one of this digest is refused."""

    package: str
    place: str  # below the package
    sha256: str
    size: tuple[int, int]  # width, height

    def path(self) -> Path:
        """The file. Raises `ValueError` where it is missing, or another one."""
        package = find_spec(self.package)
        path = package and package.origin and Path(package.origin).parent / self.place
        if not path or not path.is_file():
            raise ValueError(f"the package {self.package} with its file {self.place}, a photograph, is not "
                             f"installed: pip install {PIP.get(self.package, self.package)}")
        if (digest := sha256(path)) != self.sha256:
            raise ValueError(f"{path}: sha256 is {digest}, allowed: {self.sha256}, the photograph that the "
                             "windows are cut from")
        return path


PIP = {"sklearn": "scikit-learn"}
# The class of a window is the place of its photograph here. Two are CC BY 2.0 (danielbuechele; vultilion), by
# the package's README; the third is in the public domain.
PHOTOGRAPHS = (
    Photograph("sklearn", "datasets/images/china.jpg",
               "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29", (640, 427)),
    Photograph("sklearn", "datasets/images/flower.jpg",
               "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638", (640, 427)),
    Photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg",
               "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130", (512, 600)))


def corners(side: int, stride: int, bands: int) -> Iterator[tuple[int, int, int, int]]:
    """(photograph, band, top, left) of every window of `side` pixels, in the order of their ids.

    Each photograph is cut into `bands` horizontal bands of one height. A window lies in one band alone, so
    that windows of different bands share no pixel.
    """
    for photograph, one in enumerate(PHOTOGRAPHS):
        width, height = one.size
        tall = height // bands
        for band in range(bands):
            for top in range(band * tall, (band + 1) * tall - side + 1, stride):
                for left in range(0, width - side + 1, stride):
                    yield photograph, band, top, left


def is_held(band: np.ndarray | int, every: int) -> np.ndarray | bool:
    """Whether a band is one of those that are kept apart: the last of each `every`."""
    return band % every == every - 1


def cut(place: np.ndarray, side: int, channels: int) -> np.ndarray:
    """The windows, uint8 (N, channels, side, side), at rows (photograph, band, top, left)."""
    pictures = [np.asarray(Image.open(one.path()).convert("RGB" if channels == 3 else "L"))
                for one in PHOTOGRAPHS]
    made = np.empty((len(place), side, side, channels), np.uint8)
    for row, (photograph, _, top, left) in zip(made, place.tolist(), strict=True):
        row[:] = pictures[photograph][top:top + side, left:left + side].reshape(side, side, channels)
    return made.transpose(0, 3, 1, 2).copy()
