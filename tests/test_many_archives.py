"""Archives may be thousands: none stays open, and little of them stays in memory."""

import io
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ambient.commands.images import prepared
from ambient.data import sources
from ambient.data.raw import Raw
from ambient.data.sources import parquet, webdataset
from ambient.data.tars import Tar
from ambient.specs import DatasetSpec

COUNT = 20


def encoded(value):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def tars(folder):
    """As many tars with one sample each."""
    folder.mkdir()
    for number in range(COUNT):
        with tarfile.open(folder / f"{number:02}.tar", "w") as archive:
            for name, content in (("a.png", encoded(number)), ("a.txt", f"caption {number}".encode())):
                about = tarfile.TarInfo(name)
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return folder


def opened(folder):
    """How many files of a folder this process has open."""
    places = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")]
    return sum(place.startswith(str(folder.resolve())) for place in places)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_tars_are_open_while_they_are_read(tmp_path):
    folder = tars(tmp_path / "in")
    found = webdataset.read(DatasetSpec("webdataset", 8, 3), Raw(folder))
    assert opened(folder) == 0 and found.captions[7] == "caption 7"
    images = list(found.images(np.arange(COUNT)))
    assert [int(image[0, 0, 0]) for image in images] == list(range(COUNT)) and opened(folder) == 0
    (pair,) = webdataset.samples("07.tar", Tar(folder / "07.tar"), Counter())
    assert not any(isinstance(one, Tar) for one in (pair.content.func, *pair.content.args))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_of_parquet_files_one_group_of_rows_is_in_memory(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    files = pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(COUNT):
        table = arrow.table({"image": [encoded(number)] * 2, "caption": [f"caption {number}"] * 2})
        files.write_table(table, folder / f"{number:02}.parquet", row_group_size=1)
    spec = DatasetSpec("parquet", 8, 3)
    reading = parquet.read(spec, Raw(folder))
    assert opened(folder) == 0 and len(reading.captions) == 2 * COUNT
    column, read, held = parquet.Column("image"), files.ParquetFile.read_row_group, []
    monkeypatch.setattr(files.ParquetFile, "read_row_group", lambda file, *given, **options: (
        held.append(len(column.held[1])), read(file, *given, **options))[1])
    pairs = [pair for number in range(COUNT)
             for pair in parquet.rows_of(spec, "t", folder / f"{number:02}.parquet", column)]
    assert opened(folder) == 0 and len(pairs) == 2 * COUNT
    for number, pair in enumerate(pairs):
        assert pair.content() == encoded(number // 2) and opened(folder) == 0
        assert column.held[0] == (folder / f"{number // 2:02}.parquet", number % 2)
        assert len(column.held[1]) == 1
    assert held == [0] * 2 * COUNT  # the last group is gone before the next one is read


@pytest.mark.parametrize("source", ["webdataset", "parquet", "mds"])
def test_images_from_outside_are_prepared_as_those_of_archives(source, tmp_path):
    (tmp_path / "new").mkdir()
    for number in (3, 4):
        (tmp_path / f"new/{number}.png").write_bytes(encoded(number))
    spec = sources.KINDS[source].Spec(source, 8, 3)
    found = prepared(tmp_path / "new", spec)
    assert found.names == ["3.png", "4.png"] and found.images[:, 0, 0, 0].tolist() == [3, 4]
