"""The digest of what a safetensors file holds, whatever its layout. Standard library only."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path


class Tensors:
    """The digest of a file's tensors by name, from the file's bytes in their order.

    Of each tensor it has the name, type, shape and SHA-256: neither the order in the file nor its metadata.
    """

    def __init__(self, path: Path) -> None:
        """Read the head of a file. Raises `ValueError` for a tensor that has no place in it."""
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            self.entries = json.loads(file.read(length))
        self.entries.pop("__metadata__", None)
        self.sums, places = {}, []
        for name, entry in self.entries.items():
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end:
                raise ValueError(f"{path}: tensor {name!r}: data_offsets are {[begin, end]}, allowed: "
                                 "0 or more, and no end before the begin")
            self.sums[name] = hashlib.sha256()
            places.append((8 + length + begin, 8 + length + end, name))
        self.waiting, self.begun = sorted(places, reverse=True), []
        self.at = 0

    def update(self, part: memoryview) -> None:
        """Take the next bytes of the file."""
        end = self.at + len(part)
        while self.waiting and self.waiting[-1][0] < end:
            self.begun.append(self.waiting.pop())
        for first, last, name in self.begun:
            self.sums[name].update(part[max(first - self.at, 0):last - self.at])
        self.begun = [one for one in self.begun if one[1] > end]
        self.at = end

    def hexdigest(self) -> str:
        """The digest, as 64 hexadecimal digits."""
        total = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            total.update(f"{name}|{entry['dtype']}|{entry['shape']}|{self.sums[name].hexdigest()}\n".encode())
        return total.hexdigest()
