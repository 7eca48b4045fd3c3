"""Pickles from outside, read without running anything: a pickle may name any function to be called.

Every name that a pickle asks for is answered here: by what numpy arrays need, and by nothing else that does
something.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ambient.storage.files import naming

# What numpy arrays are made of, as old and new versions of numpy write them.
ARRAYS = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
          ("numpy", "ndarray"), ("numpy", "dtype")}


def latin_1(text: str, encoding: str = "latin1") -> bytes:
    """What `_codecs.encode` is asked for by arrays; for other codecs it would look up modules by name."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it asks for the codec {encoding!r:.50}, arrays need latin1")
    return text.encode(encoding)


def from_buffer(content: bytes, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
    """An array as protocol 5 has it."""
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def scalar(dtype: np.dtype, content: bytes) -> np.generic:
    """A number that came out of an array."""
    return np.frombuffer(content, dtype, count=1)[0]


FUNCTIONS = {("numpy.core.multiarray", "scalar"): scalar, ("numpy._core.multiarray", "scalar"): scalar,
             ("_codecs", "encode"): latin_1, ("numpy.core.numeric", "_frombuffer"): from_buffer,
             ("numpy._core.numeric", "_frombuffer"): from_buffer}


class PlainUnpickler(pickle.Unpickler):
    """Plain containers and numpy arrays. Raises `ValueError` for a pickle that asks for any other name."""

    made: ClassVar[Mapping] = FUNCTIONS  # (module, name) -> the function that takes its place

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.made:
            return partial(self.made[module, name])  # a new object: a pickle may change what it is given
        if (module, name) in ARRAYS:
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        return self.unknown(module, name)

    def unknown(self, module: str, name: str) -> Any:
        """What any other name is answered by."""
        raise ValueError(f"it asks for {module}.{name}, which is not needed here")


class Inert(dict):
    """What stands for an object of a class that is not loaded: its entries, arguments and state, as data.

    `origin`: the name that the pickle asked for.
    """

    origin = ""

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Arguments fill no entries: they are kept as they are."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:
        """Take what a list would."""
        self[len(self)] = value


def reconstructed(kind: type[Inert], base: type, entries: Any) -> Inert:
    """An object as protocols 0 and 1 have it."""
    made = kind()
    made.update(entries if isinstance(entries, dict) else {})
    return made


class InertUnpickler(PlainUnpickler):
    """The same, with an `Inert` object for what any other name would make: it is called, and does nothing."""

    made = FUNCTIONS | {("copyreg", "_reconstructor"): reconstructed,
                        ("copy_reg", "_reconstructor"): reconstructed}

    def unknown(self, module: str, name: str) -> type[Inert]:
        return type("Inert", (Inert,), {"origin": f"{module}.{name}"})


def read_inert(path: Path, reader: type[InertUnpickler] = InertUnpickler) -> Any:
    """What a pickle holds; nothing of it runs. Raises `ValueError` naming a file that is damaged, or none."""
    with naming(path), open(path, "rb") as file:
        try:
            return reader(file).load()
        except Exception as error:  # a damaged pickle raises nearly anything
            raise ValueError(f"not a readable pickle ({type(error).__name__}: {error})") from None
