"""Pickles from outside, read without running anything: a pickle may name any function to be called.

Every name that a pickle asks for is answered here: by what makes arrays of plain numbers, and by nothing else
that does something.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ambient.storage.files import naming

NUMBERS = re.compile(r"[<>|=]?[?biufc]\d{0,2}")  # names of types of plain numbers


def latin_1(text: str, encoding: str = "latin1") -> bytes:
    """What `_codecs.encode` is asked for by arrays; for other codecs it would look up modules by name."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it asks for the codec {encoding!r:.50}, arrays need latin1")
    return text.encode(encoding)


class Kind:
    """A type of plain numbers. numpy's own, of objects, would take bytes of a pickle for addresses."""

    def __init__(self, name: str | bytes, *others: Any) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(text, str) or not NUMBERS.fullmatch(text):
            raise ValueError(f"it has an array of {text!r:.50}, allowed: plain numbers")
        self.dtype = np.dtype(text)

    def __setstate__(self, state: tuple) -> None:
        """Of the state the order of bytes is taken."""
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class Numbers(np.ndarray):
    """An array of plain numbers, which gets its numbers after it was made."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, columns, content = state
        if not isinstance(kind, Kind) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"it has an array of the shape {shape!r:.50} and of {kind!r:.50}")
        super().__setstate__((1, tuple(shape), kind.dtype, bool(columns), content))


def empty(*arguments: Any) -> Numbers:
    """An array that has no numbers yet."""
    return np.empty(0, np.uint8).view(Numbers)


def by_class(*arguments: Any) -> None:
    """Arrays name their class, and don't call it."""
    raise ValueError("it makes an array by its class, which arrays don't")


def from_buffer(content: bytes, kind: Kind, shape: tuple, order: str) -> np.ndarray:
    """An array as protocol 5 has it."""
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)


def scalar(kind: Kind, content: bytes) -> np.generic:
    """A number that came out of an array."""
    return np.frombuffer(content, kind.dtype, count=1)[0]


def no_bytes() -> bytes:
    """What protocols 0 to 2 have in the place of no bytes: an array without numbers has none."""
    return b""


# What numpy arrays are made of, as old and new versions of numpy name it.
FUNCTIONS = {(f"numpy.{core}.{module}", name): made for core in ("core", "_core") for module, name, made in (
    ("multiarray", "_reconstruct", empty), ("multiarray", "scalar", scalar),
    ("numeric", "_frombuffer", from_buffer))}
FUNCTIONS |= {("numpy", "ndarray"): by_class, ("numpy", "dtype"): Kind, ("_codecs", "encode"): latin_1,
              ("builtins", "bytes"): no_bytes, ("__builtin__", "bytes"): no_bytes}


class PlainUnpickler(pickle.Unpickler):
    """Plain containers and numpy arrays. Raises `ValueError` for a pickle that asks for any other name."""

    made: ClassVar[Mapping] = FUNCTIONS  # (module, name) -> what takes its place

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.made:
            return partial(self.made[module, name])  # a new object: a pickle may change what it is given
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
    """A `PlainUnpickler` with an `Inert` object for what any other name would make, which does nothing."""

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
