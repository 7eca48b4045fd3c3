"""Source `photos`: a folder or zip of photographs of any size and format, good ones among bad ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ambient.data.sources import images
from ambient.specs import DatasetSpec, SelectSpec
from ambient.specs.strict import require
from ambient.storage.files import sha256

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`num_images` says about how many are taken, for the estimate of costs alone."""

    CONVERTS: ClassVar[bool] = True

    crop: Literal["centre", "pad", "adm"]  #: how squares are cut (`ambient.data.squares`)
    select: SelectSpec | None = None  #: which images are taken; None: all
    rule: str | None = None  #: the file of `select.by`, a list of names or a CSV table

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rule is None or (self.select is not None and self.select.by in ("list", "scores")),
                "rule", self.rule, "a file if select.by is list or scores, else null")

    def portable(self) -> Spec:
        """Without local paths; a rule's file goes by its digest. Nor the estimate of `num_images`."""
        select = self.select
        if self.rule is not None and Path(self.rule).is_file():
            select = dataclasses.replace(select, sha256=sha256(self.rule))
        return dataclasses.replace(self, path=None, rule=None, select=select, num_images=None)


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """Those images that the selection means, at the resolution already."""
    from ambient.data import photos
    from ambient.data.image_labels import from_folders
    from ambient.data.readers import Reading

    taken = photos.read(raw, spec, rule)
    labels = from_folders(taken.names, spec.labels or "none")
    place = {row: i for i, row in enumerate(taken.rows.tolist())}
    return Reading(labels.values, labels.names, labels.origin, spec.resolution, spec.channels,
                   lambda rows: (taken.images[place[row]] for row in rows.tolist()), taken.converted,
                   taken.left_out, rows=taken.rows, files=[taken.names[row] for row in taken.rows],
                   scores=taken.scores)
