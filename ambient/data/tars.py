"""Files of a tar, and of tars inside it, by name, read where they lie: nothing is unpacked."""

from __future__ import annotations

import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LARGEST = 2**28  # bytes of one file in it that is no tar: as of zips and folders


class Tar:
    """The files of an uncompressed tar. Those of a tar `a.tar` inside it are called `a/<name>`.

    sizes: bytes of each, by names with /. `read` may be called by several threads at a time. Raises
    `ValueError` naming the file and the member that can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, Counter()
        self.places: dict[str, tuple[int, int]] = {}  # name -> where its bytes begin, and how many they are
        with open(path, "rb") as file:
            for name, member, start in self.members(file, str(path)):
                if name.endswith(".tar"):
                    self.inner(file, name, start, start + member.size)
                else:
                    self.add(name, member, start)
        self.sizes = {name: size for name, (_, size) in self.places.items()}

    def members(self, file: IO[bytes], title: str) -> Iterator[tuple[str, tarfile.TarInfo, int]]:
        """(name, member, where its bytes begin in the outer file) of the tar at the file's position."""
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if not member.isdir():
                        # tarfile counts from the beginning of the outer file, wherever it began to read.
                        yield posixpath.normpath(member.name), member, member.offset_data
                file.seek(archive.offset)
                # For tarfile a header that it can't read is the end: no image may get lost by that.
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(f"no header and no end at byte {archive.offset:,}")
        except tarfile.TarError as error:
            raise ValueError(f"{title}: damaged, cut short, or no uncompressed tar ({error}): fetch it "
                             "again, or decompress it first if it is .gz") from None

    def inner(self, file: IO[bytes], name: str, start: int, end: int) -> None:
        """The files of a tar inside the tar, which ends at `end`."""
        file.seek(start)
        for one, member, place in self.members(file, f"{self.path}: {name}"):
            if place + member.size > end:  # a tar without its end would go on with what lies behind it
                raise ValueError(f"{self.path}: {name} is cut short: it ends within {one}")
            self.add(f"{name.removesuffix('.tar')}/{one}", member, place)

    def add(self, name: str, member: tarfile.TarInfo, start: int) -> None:
        """Note one file. Refuse what can't be read, or not safely."""
        wrong = None
        if not member.isreg() or member.issparse():
            wrong = "is a link, or no plain file: pack the files themselves"
        elif name.startswith("/") or name.split("/")[0] == "..":
            wrong = "is a name outside of the tar: pack the folder itself"
        elif name in self.places:
            wrong = "is in it twice; take one out"
        elif member.size > LARGEST:
            wrong = f"has {member.size:,} bytes, allowed: {LARGEST:,}"
        if wrong:
            raise ValueError(f"{self.path}: {name} {wrong}")
        self.places[name] = start, member.size

    def read(self, name: str) -> bytes:
        """The content of one file. Raises `ValueError` where the tar ends before it does."""
        return content(self.path, name, *self.places[name])


def content(path: Path, name: str, start: int, size: int) -> bytes:
    """The bytes of a member `name` of a tar, which is open no longer than that: a dataset may have thousands.

    Raises `ValueError` where the tar ends before they do.
    """
    with open(path, "rb") as file:
        file.seek(start)
        found = file.read(size)
    if len(found) < size:
        raise ValueError(f"{path}: {name} is cut short: {len(found):,} of {size:,} bytes")
    return found
