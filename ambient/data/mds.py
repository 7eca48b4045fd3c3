"""MDS, the format of mosaicml-streaming: columns of samples in binary shards, described by `index.json`.

A shard is: uint32 n; uint32 offsets[n + 1] from its begin; a description; the samples. A sample is one uint32
length for each column of variable size, then the columns' bytes, in the order of their names. All numbers are
little-endian. Pickled columns are never read.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

NUMBER = struct.Struct("<I")
INDEX = "index.json"


def head_of(sizes: list[int | None]) -> int:
    """Bytes of a sample before its columns: the lengths of those of variable size."""
    return NUMBER.size * sizes.count(None)


def lengths_of(head: bytes, sizes: list[int | None], whole: int) -> list[int]:
    """The bytes of each column of a sample of `whole` bytes, of which `head` are the first.

    Raises `ValueError` where the columns don't fill it.
    """
    if len(head) < head_of(sizes):
        raise ValueError("is cut short")
    variable = iter(struct.unpack_from(f"<{sizes.count(None)}I", head))
    found = [next(variable) if size is None else size for size in sizes]
    if (place := head_of(sizes) + sum(found)) != whole:
        raise ValueError(f"has {whole} bytes, its columns {place}")
    return found


@dataclass(frozen=True)
class Shard:
    """One shard: `name` in its folder, `columns` their names, and where each sample lies in the file."""

    name: str
    path: Path
    columns: dict[str, str]  # name -> encoding, in the file's order
    sizes: list[int | None]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sample(self, number: int) -> dict[str, bytes]:
        """The bytes of each column of a sample. Raises `ValueError` naming file and sample where damaged."""
        return self.columns_of(number, *self.columns)

    def columns_of(self, number: int, *names: str) -> dict[str, bytes]:
        """The bytes of some columns of a sample, of which no others are read. Raises the same."""
        with self.places(number) as (file, places):
            return {name: part(file, *places[name]) for name in names}

    def lengths(self, number: int) -> dict[str, int]:
        """How many bytes each column of a sample has, by its head alone. Raises the same."""
        with self.places(number) as (_, places):
            return {name: length for name, (_, length) in places.items()}

    @contextmanager
    def places(self, number: int) -> Iterator[tuple[BinaryIO, dict[str, tuple[int, int]]]]:
        """The open file, and by column the first byte and the length of what a sample has of it."""
        first, end = self.offsets[number:number + 2]
        with open(self.path, "rb") as file:
            try:
                head = part(file, first, min(head_of(self.sizes), end - first))
                lengths = lengths_of(head, self.sizes, end - first)
                starts = itertools.accumulate(lengths[:-1], initial=first + len(head))
                yield file, dict(zip(self.columns, zip(starts, lengths, strict=True), strict=True))
            except ValueError as error:
                raise ValueError(f"{self.path}: sample {number} {error}: fetch it again") from None


def part(file: BinaryIO, first: int, length: int) -> bytes:
    """So many bytes of a file from byte `first` on. Raises `ValueError` where it ends before."""
    file.seek(first)
    content = file.read(length)
    if len(content) != length:
        raise ValueError("is cut short")
    return content


def shards(folder: Path, path_of: Callable[[str], Path]) -> list[Shard]:
    """The shards that a folder's index names; `path_of` gives the path of a file by its name.

    Raises `ValueError` naming what is damaged, compressed, or of another format.
    """
    try:
        index = json.loads(path_of(INDEX).read_bytes())
        described = index["shards"]
        if not isinstance(described, list):
            raise ValueError("its entry shards is no list")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder}: no {INDEX} of MDS shards in it ({error})") from None
    found = [shard(folder, about, path_of) for about in described]
    for name, times in Counter(one.name for one in found).items():
        if times > 1:
            raise ValueError(f"{folder}: {INDEX} names {name} {times} times; take the others out")
    return found


def unnamed(files: Iterable[str], found: list[Shard]) -> Counter[str]:
    """How many files of a folder are no shard that its index names, for what is left out."""
    others = {*files} - {INDEX, *(one.name for one in found)}
    return Counter({f"files that {INDEX} does not name": len(others)})


def is_count(value: Any) -> bool:
    """Whether it is a whole number that may count something."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shard(folder: Path, about: Any, path_of: Callable[[str], Path]) -> Shard:
    """One shard by its entry of the index."""
    try:
        name = PurePosixPath(about["raw_data"]["basename"]).as_posix()
        form, compression = about["format"], about["compression"]
        columns = dict(zip(about["column_names"], about["column_encodings"], strict=True))
        sizes, count = list(about["column_sizes"]), about["samples"]
        if len(sizes) != len(columns) or not all(map(is_count, (count, *(one or 0 for one in sizes)))):
            raise ValueError(f"{count!r} samples, columns of the sizes {sizes}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {INDEX} has an entry that describes no shard ({error})") from None
    if form != "mds" or compression is not None:
        raise ValueError(f"{folder}: {name} has format {form} and compression {compression}, allowed: mds, "
                         "uncompressed: convert it by mosaicml-streaming")
    try:
        size = NUMBER.size * (count + 2)
        with open(path_of(name), "rb") as file:
            head = file.read(min(size, os.fstat(file.fileno()).st_size))
        numbers = [one for one, in NUMBER.iter_unpack(head[:len(head) // NUMBER.size * NUMBER.size])]
    except (KeyError, OSError) as error:
        raise ValueError(f"{folder}: {name} is missing ({error})") from None
    if not numbers or numbers[0] != count:
        raise ValueError(f"{folder}: {name} says that it has {numbers[0] if numbers else 'no'} samples, "
                         f"{INDEX} {count}")
    offsets = numbers[1:]
    if len(head) < size or offsets != sorted(offsets) or offsets[0] < size:
        raise ValueError(f"{folder}: {name} is cut short, or its samples don't follow each other")
    return Shard(name, path_of(name), columns, sizes, tuple(offsets))
