"""Latents of images and states of their captions that were made elsewhere, in shards of MDS. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ambient.data import mds
from ambient.data.raw import Notes, Raw
from ambient.data.readers import Reading
from ambient.jobs import launch
from ambient.jobs.progress import Progress
from ambient.specs import DatasetSpec
from ambient.storage.files import digest

if TYPE_CHECKING:
    from ambient.jobs.stage import Record


class Precomputed:
    """A folder of a dataset of source `latents`. A sample's place is its number among those of all shards.

    Raises `ValueError` naming a shard without a column, or with one of another encoding.
    """

    def __init__(self, spec: DatasetSpec, raw: Raw) -> None:
        if not raw.is_folder or mds.INDEX not in raw.files:
            raise ValueError(f"{raw.path}: no folder of MDS shards, which has {mds.INDEX}")
        self.spec, self.raw, self.shards = spec, raw, mds.shards(raw.path, raw.in_parts)
        self.ends = np.cumsum([len(one) for one in self.shards], dtype=np.int64)
        for one in self.shards:
            for column, encoding in ((spec.caption, "str"), *((name, "bytes") for name in spec.columns)):
                if one.columns.get(column) != encoding:
                    raise ValueError(f"{raw.path}: {one.name} has no column {column!r} of encoding "
                                     f"{encoding}; its columns are {one.columns}")

    @property
    def mark(self) -> str:
        """What tells the content of the shards from any other: work that was saved belongs to it."""
        return digest(self.raw.sums)[:8]

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def at(self, place: int) -> tuple[mds.Shard, int]:
        """The shard of a sample, and its number there. Raises `ValueError` for one that is not there."""
        if not 0 <= place < len(self):
            raise ValueError(f"{self.raw.path}: has no sample {place}, of {len(self)}: the dataset was "
                             "prepared from another folder")
        k = int(np.searchsorted(self.ends, place, side="right"))
        return self.shards[k], place - int(self.ends[k]) + len(self.shards[k])

    def caption(self, shard: mds.Shard, number: int) -> str:
        """A caption, of which white space counts as one space."""
        try:
            return " ".join(shard.columns_of(number, self.spec.caption)[self.spec.caption].decode().split())
        except UnicodeDecodeError:
            raise ValueError(f"{self.raw.path}: {shard.name}, sample {number}: its caption is no text in "
                             "UTF-8") from None

    def reading(self) -> Reading:
        """The captions of all samples; those without one are left out and counted.

        Raises `ValueError` naming a sample whose columns have other sizes than the first one's.
        """
        captions, names, progress = [], [], Progress("look", len(self))
        first: dict[str, int] = {}
        for place in range(len(self)):
            shard, number = self.at(place)
            names.append(f"{shard.name}, sample {number}")
            lengths = shard.lengths(number)
            sizes = {name: lengths[name] for name in self.spec.columns}
            first = first or sizes
            for name, size in sizes.items():
                if size != first[name] or not size:
                    raise ValueError(f"{self.raw.path}: {names[-1]}: {name} has {size} bytes, the first "
                                     f"sample's {first[name]}: take the sample out, or make it again")
            captions.append(self.caption(shard, number))
            progress.update(place + 1)
        rows = [row for row, caption in enumerate(captions) if caption]
        if not rows:
            raise ValueError(f"{self.raw.path}: none of {len(self)} samples has a caption")
        return Reading(np.full(len(self), -1), {}, "none (captions)", self.spec.resolution,
                       self.spec.channels, None, rows=np.array(rows), files=[names[row] for row in rows],
                       left_out=Counter({"images without a caption": len(self) - len(rows)})
                       + mds.unnamed(self.raw.files, self.shards),
                       captions=[captions[row] for row in rows], captions_from="the shards")

    def latents(self, places: Sequence[int], captions: Sequence[str],
                shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of z, float32 (N, *shape) each, of samples that have these captions.

        The standard deviation is 0 where the folder has one sample of each posterior. Raises `ValueError`
        naming a sample of another caption or size, and one whose numbers are none.
        """
        mean = self.numbers(self.spec.latents, places, captions, shape)
        std = np.zeros_like(mean)
        if self.spec.std is not None:
            std = self.numbers(self.spec.std, places, captions, shape)
            if (std < 0).any():
                raise ValueError(f"{self.raw.path}: {self.spec.std} has numbers below 0, which no standard "
                                 "deviation is")
        for values in (mean, std):
            values /= np.float32(self.spec.multiplied)
        return mean, std

    def states(self, places: Sequence[int], captions: Sequence[str], shape: Sequence[int]) -> np.ndarray:
        """The states of the captions of some samples, float16 (N, *shape). Raises the same."""
        found = self.numbers(self.spec.states, places, captions, shape)
        if np.abs(found).max(initial=0) > np.finfo(np.float16).max:
            raise ValueError(f"{self.raw.path}: {self.spec.states} has a number beyond 65504, which float16 "
                             "can't hold")
        return found.astype(np.float16)

    def numbers(self, column: str, places: Sequence[int], captions: Sequence[str],
                shape: Sequence[int]) -> np.ndarray:
        """What a column has of some samples, float32 (N, *shape)."""
        dtype = np.dtype(self.spec.dtype).newbyteorder("<")
        found = np.empty((len(places), *shape), np.float32)
        for row, (place, caption) in enumerate(zip(places, captions, strict=True)):
            shard, number = self.at(int(place))
            where = f"{self.raw.path}: {shard.name}, sample {number}"
            if (other := self.caption(shard, number)) != caption:
                raise ValueError(f"{where}: its caption is {other!r:.60}, that of the prepared dataset "
                                 f"{caption!r:.60}: the dataset was prepared from another folder")
            content = shard.columns_of(number, column)[column]
            if len(content) != found[row].size * dtype.itemsize:
                raise ValueError(
                    f"{where}: {column} has {len(content)} bytes, {' x '.join(map(str, shape))} numbers of "
                    f"{self.spec.dtype} have {found[row].size * dtype.itemsize}: it is of another encoder, "
                    "resolution or dtype than the dataset's entry and the study say")
            found[row] = np.frombuffer(content, dtype).reshape(shape)
            if not np.isfinite(found[row]).all():
                raise ValueError(f"{where}: {column} has numbers that are none: take the sample out, or "
                                 "encode it in float32")
        return found

    def close(self, record: Record) -> None:
        """Record the folder and the digest of each file. Raises `ValueError` where it changed meanwhile, or
        is not the pinned one."""
        seen = self.raw.close()
        if self.spec.sha256 not in (None, seen[0]):
            raise ValueError(f"{self.raw.path}: sha256 is {seen[0]}, the configuration's sha256 is "
                             f"{self.spec.sha256}")
        record.external("precomputed", self.raw.path, "latents and states, from outside", seen)
        record.facts["files"] = dict(self.raw.sums)


def opened(spec: DatasetSpec | None, folder: Path | None, notes: Notes) -> Precomputed | None:
    """The folder that a job is given; None where it makes all itself.

    Of several ranks the first one alone takes the digests of its files, and notes them for the next attempt.
    Raises `ValueError` where a folder is missing, or given without need.
    """
    if (spec is None) != (folder is None):
        raise ValueError(f"--precomputed: got {folder}, allowed: " + (
            "none: this job makes all itself" if spec is None else
            "the folder of MDS shards that the dataset's path names"))
    if spec is None:
        return None
    raw = Raw(folder, notes if launch.first() else None)
    found = Precomputed(spec, raw) if launch.first() else None
    raw.keep()
    raw.sums = launch.agreed(raw.sums)
    return Precomputed(spec, raw) if found is None else found
