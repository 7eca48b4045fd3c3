"""Source `photos`: a folder or zip of photographs of any size and format, good ones among bad ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.data.sources import images
from ambient.specs import DatasetSpec, SelectSpec
from ambient.specs.strict import later, require
from ambient.storage.files import sha256

if TYPE_CHECKING:
    from ambient.data.photos import Photos
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`num_images` says about how many are taken, for the estimate of costs alone."""

    CONVERTS: ClassVar[bool] = True
    HELD: ClassVar[bool] = True

    crop: Literal["centre", "pad", "adm", "bicubic"]  #: how squares are cut (`ambient.data.squares`)
    select: SelectSpec | None = None  #: which images are taken; None: all
    rule: str | None = None  #: the file of `select.by`, a list of names or a CSV table
    #: beside: captions lie among the images, as text files or tables; table: in the file `table`; null: none
    captions: Literal["beside", "table"] | None = later(None, kw_only=True)
    table: str | None = later(None, kw_only=True)  #: a table of captions, .csv or .jsonl
    table_sha256: str | None = later(None, kw_only=True)  #: of that file; the configuration fills it in

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rule is None or (self.select is not None and self.select.by in ("list", "scores")),
                "rule", self.rule, "a file if select.by is list or scores, else null")
        require(self.table is None or self.captions == "table", "table", self.table,
                "a file if captions is table, else null")

    @property
    def captioned(self) -> bool:
        return self.captions is not None

    def portable(self) -> Spec:
        """Without local paths; files of a rule and of captions go by their digests. Nor `num_images`."""
        select = self.select
        if self.rule is not None and Path(self.rule).is_file():
            select = dataclasses.replace(select, sha256=sha256(self.rule))
        table = self.table_sha256
        if self.table is not None and Path(self.table).is_file():
            table = sha256(self.table)
        return dataclasses.replace(super().portable(), rule=None, select=select, num_images=None, table=None,
                                   table_sha256=table)


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None, table: Path | None = None) -> Reading:
    """Those images that the selection means, at the resolution already.

    Where they have captions those without one are left out. Raises `ValueError` where none has one.
    """
    from ambient.data import photos
    from ambient.data.image_labels import from_folders
    from ambient.data.readers import Reading

    taken = photos.read(raw, spec, rule)
    captions, captions_from = None, None
    if spec.captions is not None:
        taken, captions, captions_from = captioned(spec, raw, taken, table)
    labels = from_folders(taken.names, spec.labels or "none")
    place = {row: i for i, row in enumerate(taken.rows.tolist())}
    return Reading(labels.values, labels.names, labels.origin, spec.resolution, spec.channels,
                   lambda rows: (taken.images[place[row]] for row in rows.tolist()), taken.converted,
                   taken.left_out, rows=taken.rows, files=[taken.names[row] for row in taken.rows],
                   scores=taken.scores, captions=captions, captions_from=captions_from)


def captioned(spec: Spec, raw: Raw, taken: Photos, table: Path | None) -> tuple[Photos, list[str], str]:
    """(those images that have a caption, their captions, in words what these were read from)."""
    from ambient.data import caption_files
    from ambient.data.captions import clean_caption
    from ambient.data.photos import subset

    if (spec.captions == "table") != (table is not None):
        raise ValueError(f"captions is {spec.captions}: give a table of captions as datasets.<name>.table "
                         "where it is table, else none")
    if table is not None and spec.table_sha256 not in (None, sha256(table)):
        raise ValueError(f"{table}: changed since the configuration was read; run the same command again")
    found = caption_files.read(raw, taken, table)
    taken = caption_files.without_files(taken, found)
    taken = dataclasses.replace(taken, left_out=taken.left_out + found.unused)
    texts = caption_files.of_each(taken, found)
    if spec.clean_captions:
        texts = [text and clean_caption(text) for text in texts]
    have = [i for i, text in enumerate(texts) if text]
    if not have:
        raise ValueError(f"{raw.path}: none of {len(texts)} images has a caption in {found.by}")
    return subset(taken, have, "images without a caption"), [texts[i] for i in have], found.by
