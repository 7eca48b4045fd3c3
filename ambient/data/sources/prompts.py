"""Source `prompts`: captions without images, which samples are drawn for, in the order of their file.

A text file has one a line; a table (.csv, .tsv, .jsonl) has a column `text`, `caption`, `prompt` or
`prompts`, as GenEval's `evaluation_metadata.jsonl` has. Where it has a column `category`, as those of
DrawBench and PartiPrompts have, the name of a caption is its category with its number behind it, `Colors/12`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.specs.strict import require

if TYPE_CHECKING:
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True)
class Spec(DatasetSpec):
    """`resolution` and `channels` are those of the images that are drawn for them."""

    HAD_IN_WORDS: ClassVar[str] = "a text file, a caption a line, or a table of captions"
    HAS_CLASSES: ClassVar[bool] = False
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("labels",)
    HAS_IMAGES: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.padding == 0, "padding", self.padding, "0: there are no images")


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """All captions. Raises `ValueError` naming the line of one that is empty."""
    from ambient.data.caption_files import prompts_of
    from ambient.data.readers import Reading

    if raw.is_folder:
        raise ValueError(f"{raw.path}: a folder, allowed: a file of captions, .txt, .csv, .tsv or .jsonl")
    name, = raw.files
    prompts = prompts_of(raw.in_parts(name))
    groups = [" ".join((one.category or "").split()) for one in prompts]
    known, labels, files = sorted(set(groups) - {""}), np.full(len(prompts), -1), []
    if known:
        labels = np.array([known.index(group) for group in groups])
        files = [f"{group}/{number}" for number, group in enumerate(groups, 1)]
    return Reading(labels, dict(enumerate(known)), "the column of categories" if known else
                   "none (captions alone)", spec.resolution, spec.channels, None,
                   rows=np.arange(len(prompts)), files=files, captions=[one.text for one in prompts],
                   captions_from=name)
