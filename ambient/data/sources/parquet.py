"""Source `parquet`: Parquet files with an image and a caption a row, as Hugging Face's datasets have them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ambient.data.sources import images
from ambient.specs import DatasetSpec
from ambient.specs.strict import later

if TYPE_CHECKING:
    import pyarrow

    from ambient.data.pairs import Pair
    from ambient.data.raw import Raw
    from ambient.data.readers import Reading


@dataclass(frozen=True, kw_only=True)
class Spec(DatasetSpec):
    """`path` is a file or a folder of files, read in the order of their names. `num_images` says about how
    many rows there are, for the estimate of costs alone."""

    HAD_IN_WORDS: ClassVar[str] = "a Parquet file or a folder of such"
    CONVERTS: ClassVar[bool] = True
    HAS_CLASSES: ClassVar[bool] = False
    PACKAGES: ClassVar[tuple[str, ...]] = ("pyarrow",)
    captioned: ClassVar[bool] = True
    UNREAD: ClassVar[tuple[str, ...]] = ("labels",)

    crop: Literal["centre", "pad", "adm", "bicubic"] = "adm"  #: how squares are cut (`ambient.data.squares`)
    #: images whose shorter side is below the resolution: enlarged and taken, or left out and counted
    enlarge: bool = later(False)
    image: str = "image"  #: name of the column of image files: their bytes, or a structure with `bytes`
    caption: str = "caption"  #: name of the column of captions; of a list of them the first is meant

    def portable(self) -> Spec:
        """Without local paths and `num_images`, which say nothing of the prepared images."""
        return dataclasses.replace(super().portable(), num_images=None)


locate = images.locate


def read(spec: Spec, raw: Raw, rule: Path | None = None) -> Reading:
    """The rows of all files. Raises `ValueError` naming a file that is none, or lacks a column."""
    from ambient.data.pairs import named, reading

    left_out = Counter()
    names = named(raw, ".parquet", "a Parquet file", left_out)
    column = Column(spec.image)
    pairs = [pair for name in names for pair in rows_of(spec, name, raw.in_parts(name), column)]
    return reading(spec, spec.crop, pairs, raw, f"the column {spec.caption}", left_out)


class Column:
    """The image files of all Parquet files. One group of rows is in memory, and no file stays open."""

    def __init__(self, name: str) -> None:
        self.name, self.held = name, ((Path(), -1), [])

    def content(self, path: Path, group: int, row: int) -> bytes:
        """The image file of a row of a group; empty where there is none. Raises `Unreadable`."""
        from pyarrow import parquet

        from ambient.data.pictures import Unreadable

        if self.held[0] != (path, group):
            self.held = (Path(), -1), []  # The last group is let go of before the next one is read.
            try:
                with parquet.ParquetFile(path) as file:
                    self.held = (path, group), file.read_row_group(group, columns=[self.name]).column(0)
            except (OSError, ValueError) as error:
                raise Unreadable(f"in a damaged group of rows ({error})") from None
        if row >= len(self.held[1]):
            raise Unreadable("in a damaged group of rows, which ends before it")
        value = self.held[1][row].as_py()
        found = value.get("bytes") if isinstance(value, dict) else value
        return found if isinstance(found, bytes) else b""


def rows_of(spec: Spec, title: str, path: Path, column: Column) -> list[Pair]:
    """The rows of one file. Raises `ValueError` where it is damaged, or has not both columns."""
    from ambient.data.pairs import Pair

    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ValueError(f"a dataset of source parquet needs the package pyarrow ({error}): "
                         "in the clone, pip install --editable '.[parquet]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            has = file.schema_arrow.names
            if lacks := [name for name in (spec.image, spec.caption) if name not in has]:
                raise ValueError(f"has no column {lacks[0]!r}; its columns are {', '.join(has)}")
            if twice := [name for name in (spec.image, spec.caption) if has.count(name) > 1]:
                raise ValueError(f"has several columns {twice[0]!r}; rename those that are not meant")
            require_kinds(file.schema_arrow, spec)
            captions = file.read(columns=[spec.caption]).column(0).to_pylist()
            counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            if len(captions) != sum(counts):
                raise ValueError(f"has {len(captions)} captions in groups of {sum(counts)} rows: it is "
                                 "damaged, fetch it again")
    except (ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    found = []
    for group, count in enumerate(counts):
        for row in range(count):
            found.append(Pair(f"{title}, row {len(found)}", text_of(captions[len(found)]),
                              partial(column.content, path, group, row)))
    return found


def require_kinds(schema: pyarrow.Schema, spec: Spec) -> None:
    """Raise `ValueError` where captions are no text, or images no bytes."""
    from pyarrow import types

    text, file = schema.field(spec.caption).type, schema.field(spec.image).type
    if types.is_struct(file) and file.get_field_index("bytes") >= 0:
        file = file.field("bytes").type
    # In a dictionary equal values stand once: the type of a value is meant, as that in a list of texts.
    text = getattr(text, "value_type", text)
    file = file.value_type if types.is_dictionary(file) else file
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    files = (types.is_binary, types.is_large_binary, types.is_binary_view)
    for name, kind, good, allowed in (
            (spec.caption, text, texts, "text, or lists of text"),
            (spec.image, file, files, "the bytes of image files, alone or as `bytes` of a struct")):
        if not any(one(kind) for one in good):
            raise ValueError(f"the column {name!r} holds {schema.field(name).type}, allowed: {allowed}")


def text_of(value: Any) -> str:
    """A caption; of a list the first, and nothing for what is no text."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else ""
