"""Source `mds`: a folder of MDS shards with an image and a caption a sample."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.specs.strict import later

if TYPE_CHECKING:
    from ambient.data.mds import Shard
    from ambient.data.pairs import Pair
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading

ENCODINGS = ("jpeg", "png", "bytes")  # of a column of image files


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`path` is the folder that holds `index.json`."""

    HAD_IN_WORDS: ClassVar[str] = "a folder of uncompressed MDS shards"
    CONVERTS: ClassVar[bool] = True
    HAS_CLASSES: ClassVar[bool] = False
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("labels",)

    crop: Literal["centre", "pad", "adm", "bicubic"] = "adm"  #: how squares are cut (`ambient.data.squares`)
    #: images whose shorter side is below the resolution: enlarged and taken, or left out and counted
    enlarge: bool = later(False)
    image: str = "jpg"  #: name of the column of image files
    caption: str = "caption"  #: name of the column of captions


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The samples of all shards. Raises `ValueError` naming a column that is not there."""
    from ambient.data import mds
    from ambient.data.pairs import reading

    if not raw.is_folder or mds.INDEX not in raw.files:
        raise ValueError(f"{raw.path}: no folder of MDS shards, which has {mds.INDEX}")
    found = mds.shards(raw.path, raw.in_parts)
    for one in found:
        for column, allowed in ((spec.image, ENCODINGS), (spec.caption, ("str",))):
            if one.columns.get(column) not in allowed:
                raise ValueError(f"{raw.path}: {one.name} has no column {column!r} of encoding "
                                 f"{' or '.join(allowed)}; its columns are {one.columns}")
    pairs = [pair for one in found for pair in samples(spec, one)]
    return reading(spec, spec.crop, pairs, raw, "the shards",
                   mds.unnamed(raw.files, found))


def samples(spec: Spec, shard: Shard) -> list[Pair]:
    """The samples of one shard. Raises `ValueError` naming one whose caption is no text."""
    from ambient.data.pairs import Pair

    found = []
    for number in range(len(shard)):
        name = f"{shard.name}, sample {number}"
        try:
            caption = shard.columns_of(number, spec.caption)[spec.caption].decode()
        except UnicodeDecodeError:
            raise ValueError(f"{shard.path}, sample {number}: its caption is no text in UTF-8: take the "
                             "sample out, or repair it") from None
        found.append(Pair(name, caption, partial(image_of, shard, number, spec.image)))
    return found


def image_of(shard: Shard, number: int, column: str) -> bytes:
    """The image file of a sample."""
    return shard.columns_of(number, column)[column]
