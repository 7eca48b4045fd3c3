"""Arrays in safetensors files, read and written some rows at a time: they may be larger than the memory.

A small array is read at once. Of a large one rows are read when they are asked for, by plain reads: what is
read of a mapped file counts as memory of the process, and one that is cut short ends it without a word.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ambient.storage import hashing
from ambient.storage.files import HELD, atomic

BLOCK = 2**26  # bytes, about, that are written at once
LARGEST_READ = 2**30  # bytes: systems read no more than 2^31 at once
# Names of types in the file, in the order in which safetensors lays arrays out: the widest numbers first, so
# that each is aligned.
TYPES = {"U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4", "F16": "<f2",
         "U16": "<u2", "I16": "<i2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1"}
NAMES = {np.dtype(text): name for name, text in TYPES.items()}
METADATA = "__metadata__"  # of a file's head, what is none of its arrays


class RowArray:
    """What arrays (N, ...) that are not in memory share with those of numpy: shape, type, and their rows."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype | str | type) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows by a number, a slice, numbers, or one truth value a row, as numpy gives them."""
        if isinstance(index, (int, np.integer)):
            return self.rows(within(np.array([index]), len(self)))[0]
        if isinstance(index, slice):
            return self.rows(np.arange(len(self))[index])
        index = np.asarray(index)
        if index.dtype == bool and index.shape != self.shape[:1]:
            raise IndexError(f"truth values of shape {index.shape} for {len(self)} rows")
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        return self.rows(within(index, len(self)))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The rows (B, ...) of whole numbers (B,) from 0 to N - 1."""
        raise NotImplementedError


Array = np.ndarray | RowArray


def within(index: np.ndarray, count: int) -> np.ndarray:
    """Rows counted from the front. Raises `IndexError` for one that is not there."""
    if len(index) and not (-count <= index.min() and index.max() < count):
        raise IndexError(f"row {index.max() if index.max() >= count else index.min()} of {count}")
    return np.where(index < 0, index + count, index)


class Computed(RowArray):
    """An array whose rows are computed when they are asked for: `of` is its `rows`."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype | str | type,
                 of: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(shape, dtype)
        self.of = of

    def rows(self, index: np.ndarray) -> np.ndarray:
        return self.of(index)


def selected(array: Array, index: np.ndarray) -> Array:
    """Rows of an array by numbers or truth values; of one that is not in memory without reading them yet."""
    if not isinstance(array, RowArray):
        return array[index]
    numbers = np.arange(len(array))[index]
    return Computed((len(numbers), *array.shape[1:]), array.dtype, lambda rows: array.rows(numbers[rows]))


def some(array: Array, most: int) -> Array:
    """At most so many rows of an array, evenly spaced: files often lie in the order of their classes."""
    count = min(len(array), most)
    return selected(array, np.arange(count) * len(array) // max(count, 1))


def held(array: RowArray) -> Array:
    """An array in memory where it has no more than HELD bytes, else as it is."""
    return array[:] if math.prod(array.shape) * array.dtype.itemsize <= HELD else array


def concatenated(arrays: Sequence[Array]) -> Array:
    """Arrays (N_i, ...) of one type and shape one after the other; read no sooner than they are."""
    if not any(isinstance(array, RowArray) for array in arrays):
        return np.concatenate(arrays)
    shape, dtype = arrays[0].shape[1:], arrays[0].dtype
    ends = np.cumsum([len(array) for array in arrays])

    def rows(index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), *shape), dtype)
        which = np.searchsorted(ends, index, side="right")
        for k in np.unique(which).tolist():
            mine = which == k
            out[mine] = arrays[k][index[mine] - (ends[k] - len(arrays[k]))]
        return out

    return Computed((int(ends[-1]), *shape), dtype, rows)


class Opened:
    """A file that is open for reading as long as this lives."""

    def __init__(self, path: Path) -> None:
        self.path, self.number = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)

    def fill(self, part: memoryview, at: int) -> None:
        """Read bytes from byte `at` into `part`. Raises `ValueError` where the file ends before."""
        while len(part):
            count = os.preadv(self.number, [part[:LARGEST_READ]], at)
            if not count:
                raise ValueError(f"{self.path}: ends at byte {at:,}, within an array: it was cut short")
            part, at = part[count:], at + count


class Stored(RowArray):
    """An array in a file, of which rows are read when they are asked for. Several threads may ask."""

    def __init__(self, file: Opened, start: int, shape: Sequence[int], dtype: np.dtype) -> None:
        """`start`: the place of the array's first byte in the file."""
        super().__init__(shape, dtype)
        self.file, self.start = file, start
        self.each = math.prod(self.shape[1:]) * self.dtype.itemsize  # bytes of a row

    def rows(self, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), *self.shape[1:]), self.dtype)
        if not out.size:
            return out
        data = memoryview(out.reshape(-1)).cast("B")
        # Rows that follow each other, in the file and here, are read at once.
        ends = [*(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
        for first, last in zip([0, *ends], ends, strict=False):
            at = self.start + int(index[first]) * self.each
            self.file.fill(data[first * self.each:last * self.each], at)
        return out


def part(array: Array, k: int) -> Array:
    """Row k of an array (N, M, ...), an array (M, ...) that is read no sooner than the whole one."""
    if not isinstance(array, Stored):
        return array[k]
    (row,) = within(np.array([k]), len(array)).tolist()
    return Stored(array.file, array.start + row * array.each, array.shape[1:], array.dtype)


def merged(array: Array) -> Array:
    """An array (N, M, ...) as (N M, ...)."""
    first, second, *rest = array.shape
    if isinstance(array, Stored):
        return Stored(array.file, array.start, (first * second, *rest), array.dtype)
    return np.asarray(array).reshape(first * second, *rest)


def latest(path: str | Path) -> Array:
    """The samples (seeds, N, C, H, W) of the last snapshot in a file. Raises as `open_arrays`.

    The names of its arrays are the numbers of images that the snapshots had seen.
    """
    return max(open_arrays(path).items(), key=lambda item: int(item[0]))[1]


def open_arrays(path: str | Path, *by_rows: str, most: int | None = None) -> dict[str, Array]:
    """All arrays of a safetensors file. Those of more than `most` bytes are `Stored`, of some names or any.

    `most` None: HELD. What has no axis is read at once. Raises `ValueError` naming a file that is none.
    """
    from safetensors import SafetensorError, safe_open

    path, found, most = Path(path), {}, HELD if most is None else most
    try:
        with safe_open(path, framework="numpy") as file:  # which checks the file's head
            places, opened = layout(path), Opened(path)
            for name, entry in places.items():
                start, end = entry["data_offsets"]
                by_row = bool(entry["shape"]) and entry["dtype"] in TYPES and end - start > most
                if by_row and (not by_rows or name in by_rows):
                    found[name] = Stored(opened, start, entry["shape"], np.dtype(TYPES[entry["dtype"]]))
                else:
                    found[name] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
    return found


def layout(path: Path) -> dict[str, dict]:
    """Of each array of a safetensors file its `dtype`, `shape` and `data_offsets`, from the file's begin."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    entries.pop(METADATA, None)
    for entry in entries.values():
        entry["data_offsets"] = [8 + length + place for place in entry["data_offsets"]]
    return entries


class Writer:
    """A safetensors file in the making, whose size is known and whose space is taken already."""

    def __init__(self, path: Path, arrays: Mapping[str, tuple[Sequence[int], np.dtype]],
                 about: Mapping[str, str] | None = None, keep: bool = False) -> None:
        """`arrays`: shape and type of each by its name. `about`: texts that the file's head has beside them.

        The bytes are those of the library safetensors. `keep`: a file of these arrays that is there already,
        at its full size, stays as it is (`keep`).
        """
        ordered = sorted(arrays, key=lambda name: (list(NAMES).index(np.dtype(arrays[name][1])), name))
        self.left, self.start, head, end = {}, {}, {METADATA: dict(about)} if about else {}, 0
        for name in ordered:
            shape, dtype = tuple(arrays[name][0]), np.dtype(arrays[name][1])
            self.start[name], size = end, math.prod(shape) * dtype.itemsize
            self.left[name], end = size, end + size
            head[name] = {"dtype": NAMES[dtype], "shape": list(shape),
                          "data_offsets": [self.start[name], end]}
        text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        text = struct.pack("<Q", len(text)) + text
        self.begin, self.path = len(text), path
        if keep and begins(path, text, len(text) + end):
            return
        with open(path, "wb") as file:
            file.write(text)
            if end:
                os.posix_fallocate(file.fileno(), self.begin, end)

    def put(self, name: str, first: int, rows: np.ndarray) -> None:
        """Write rows of an array, from row `first` on, counted in rows of the shape that is given.

        An array (N, M, ...) may be given by rows (B, ...), of which it has N M.
        """
        data = memoryview(np.ascontiguousarray(rows)).cast("B") if rows.size else memoryview(b"")
        size = len(data)
        at = self.begin + self.start[name] + first * (len(data) // max(len(rows), 1))
        with open(self.path, "r+b", buffering=0) as file:
            while len(data):
                count = os.pwrite(file.fileno(), data[:LARGEST_READ], at)
                data, at = data[count:], at + count
        self.left[name] -= size

    def sha256(self, name: str, start: int, end: int, seen: hashing.Seen = hashing.unseen) -> str:
        """SHA-256 of these bytes of an array, as they lie in the file."""
        found, at = hashlib.sha256(), self.begin + self.start[name]
        with hashing.named(self.path), open(self.path, "rb") as file:
            for place in range(start, end, hashing.BLOCK):
                found.update(os.pread(file.fileno(), min(hashing.BLOCK, end - place), at + place))
                seen(min(hashing.BLOCK, end - place))
        return found.hexdigest()

    def keep(self, name: str, start: int, end: int) -> None:
        """These bytes of an array are there already: they count as written."""
        self.left[name] -= end - start

    def sync(self) -> None:
        """Make what was put durable."""
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())

    def check(self) -> None:
        """Raise `ValueError` where rows are missing, or came twice."""
        if bad := {name: left for name, left in self.left.items() if left}:
            raise ValueError(f"{self.path}: {bad} bytes of its arrays were not written")


def begins(path: Path, head: bytes, size: int) -> bool:
    """Whether a file is there that begins so, and has so many bytes."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    with open(path, "rb") as file:
        return file.read(len(head)) == head


def in_blocks(array: Array, start: int = 0, most: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) of an array from row `start` on, at most `most` or BLOCK bytes, about, at once."""
    step = max(BLOCK * len(array) // max(math.prod(array.shape) * array.dtype.itemsize, 1), 1)
    step = min(step, most or step)
    for first in range(start, len(array), step):
        yield first, array[first:first + step]


@contextmanager
def writing(path: str | Path, arrays: Mapping[str, tuple[Sequence[int], np.dtype]],
            about: Mapping[str, str] | None = None) -> Iterator[Writer]:
    """A file of named arrays to be put in some rows at a time; it is there when all are, atomically.

    `arrays` and `about` as of a `Writer`. Space is taken at once: a full disk is known before any work.
    """
    with atomic(path) as temporary:
        writer = Writer(temporary, arrays, about)
        yield writer
        writer.check()


def write_by_rows(path: str | Path, arrays: Mapping[str, Array], check: Callable[[], None] = lambda: None,
                  about: Mapping[str, str] | None = None) -> None:
    """Write named arrays, atomically, some rows at a time: of each no more is in memory than BLOCK bytes.

    The bytes are those of `ambient.storage.files.write_arrays`; `about` as of a `Writer`. `check` is called
    when all are written: what it raises leaves no file.
    """
    shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    with writing(path, shapes, about) as writer:
        for name, array in arrays.items():
            for first, rows in in_blocks(array if array.ndim else array.reshape(1)):
                writer.put(name, first, rows)
        check()
