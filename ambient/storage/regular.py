"""Regular files only: what walks a tree of somebody else's opens nothing that could hang it, or lead out.

A FIFO, a socket or a device in a file's place, a link in a circle, a folder without permission: each has a
word here, so that it can be named and passed over. Standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

FILE, MISSING, FOLDER, LINK = "a file", "missing", "a folder", "a link"
KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFLNK: LINK, stat.S_IFIFO: "a FIFO",
         stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
SMALL = 16 * 2**20  # bytes of a file that is read whole


def kind(path: str | Path, follow: bool = True) -> str:
    """What lies at a path, in words: `FILE`, `FOLDER`, `MISSING`, ...; of a link, what it leads to."""
    try:
        return KINDS[stat.S_IFMT(os.stat(path, follow_symlinks=follow).st_mode)]
    except ValueError:  # a null byte
        return MISSING
    except OSError as error:
        if error.errno in ABSENT:
            return MISSING
        return "a link in a circle" if error.errno == errno.ELOOP else f"unreadable ({error.strerror})"


def opened(path: str | Path) -> BinaryIO:
    """A regular file, open for reading. Raises `ValueError` naming the path for anything else that is there.

    Without O_NONBLOCK the opening of a FIFO would wait for a writer, and what is looked at before could have
    been exchanged since: the question is asked of the open file again.
    """
    found = kind(path)
    if found not in (FILE, MISSING):  # what is missing is for the system to say
        raise ValueError(f"{path}: {found}, not a regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def sha256(path: str | Path) -> str:
    """SHA-256 of a regular file's bytes, as 64 hexadecimal digits."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path, largest: int = SMALL) -> bytes:
    """The bytes of a regular file. Raises `ValueError` for one of more than `largest` bytes."""
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > largest:
            raise ValueError(f"{path}: larger than {largest} bytes")
        return file.read(largest + 1)


def below(folder: Path, enter: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[Path, str]]:
    """(path, kind) of everything below a folder but folders, in order of the paths, hidden files too.

    Links are named and never followed. A folder is entered where `enter` likes its name, and named where it
    can't be. The walk keeps its own stack: folders may be nested deeper than Python's calls.
    """
    waiting = [Path(folder)]
    while waiting:
        path = waiting.pop()
        found = kind(path, follow=path == folder)
        if found != FOLDER:
            yield path, found
        elif path == folder or enter(path.name):
            try:
                waiting += [path / name for name in sorted(os.listdir(path), reverse=True)]
            except OSError as error:
                yield path, f"{FOLDER}, unreadable ({error.strerror})"
