"""Tables of scores from elsewhere: CSV files with a row for each image, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ambient.data.aligned import rows_of
from ambient.data.datasets import Dataset
from ambient.data.selection import KEYS, by_end, number, table_of


def read_columns(path: Path, titles: Sequence[str], data: Dataset) -> dict[str, np.ndarray]:
    """Title -> values, float64 (N,), one for each image of a dataset, in its order.

    Rows are matched by the column `id`, or else by the name of an image's file, from the folder on or by its
    end where one is meant. Rows of other images say nothing. Raises `ValueError` naming the line or the image
    of what is wrong: a column that is not there, two rows of one image, a value that is no finite number, an
    image without a row.
    """
    rows = table_of(path)
    known = rows.fieldnames or []
    key = next((title for title in known if title.lower() in ("id", *KEYS)), None)
    absent = [title for title in titles if title not in known]
    if key is None or absent:
        wanted = ", ".join([*map(repr, titles), f"and one of id, {', '.join(KEYS)}"])
        raise ValueError(f"{path}: its columns are {', '.join(known) or 'none'}; allowed: {wanted}")
    places: dict[str, int] = {}
    values = []
    for row in rows:
        where, name = f"{path}, line {rows.line_num}", (row[key] or "").strip().replace("\\", "/")
        if name in places:
            raise ValueError(f"{where}: a second row of {name!r}; keep one of them")
        places[name] = len(values)
        values.append([number(rows, row, title, where) for title in titles])
    if not values:
        raise ValueError(f"{path}: has no rows")
    ids = key.lower() == "id"
    own = by_id(path, list(places), data.ids) if ids else by_name(path, places, data)
    return dict(zip(titles, np.array(values)[own].T, strict=True))


def by_id(path: Path, written: Sequence[str], ids: np.ndarray) -> np.ndarray:
    """The row of each image by its id."""
    try:
        known = np.array(written, np.int64)
    except ValueError:
        raise ValueError(f"{path}: an id is no whole number") from None
    if len(np.unique(known)) < len(known):  # 7 and 07
        raise ValueError(f"{path}: two rows have one id")
    try:
        return rows_of(known, ids, "score")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def by_name(path: Path, places: dict[str, int], data: Dataset) -> np.ndarray:
    """The row of each image by the name of its file."""
    if data.names is None:
        raise ValueError(f"{path}: has the names of images' files, but this dataset keeps none; give the "
                         "table a column `id`, the place of each image in its source")
    ends = by_end(places)
    found = []
    for name in data.file_names:
        same = ends.get(PurePosixPath(name).name, [])
        meant = [name] if name in places else [one for one in same if f"/{name}".endswith(f"/{one}")
                                               or f"/{one}".endswith(f"/{name}")]
        if len(meant) != 1:
            why = "no row" if not meant else f"several rows, {', '.join(meant[:3])},"
            raise ValueError(f"{path}: has {why} for the image {name}")
        found.append(places[meant[0]])
    return np.array(found)
