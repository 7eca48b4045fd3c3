"""Arrays in files are numpy's, whether they are in memory or not, and files are those of safetensors."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ambient.storage import arrays
from ambient.storage.arrays import Computed, RowArray, concatenated, merged, open_arrays, part, selected
from ambient.storage.files import atomic, write_arrays

KNOWN = np.arange(7 * 3 * 2, dtype=np.float32).reshape(7, 3, 2)
INDEXES = [3, -1, np.int64(2), slice(None), slice(2, 5), slice(5, 2), slice(None, None, 2),
           slice(None, None, -1), [1, 1, 6], np.array([], int), np.array([4, 5, 6, 0]), np.array([-1, -7]),
           KNOWN[:, 0, 0] > 20]


@pytest.fixture
def small(monkeypatch):
    """Every array counts as large."""
    monkeypatch.setattr(arrays, "HELD", 0)


def of_all_types():
    random = np.random.default_rng(0)
    found = {f"x{k}": random.integers(0, 100, (3, k + 1)).astype(text)
             for k, text in enumerate(arrays.TYPES.values())}
    return found | {"flat": np.arange(5), "none": np.zeros((0, 4), np.float32), "é\"name": np.arange(3)}


def test_a_file_has_the_bytes_of_the_librarys(tmp_path):
    found = of_all_types()
    arrays.write_by_rows(tmp_path / "a", found)
    save_file(found, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for name, values in load_file(tmp_path / "a").items():
        np.testing.assert_array_equal(values, found[name], strict=True)


def test_a_file_with_texts_in_its_head_has_the_bytes_of_the_librarys(tmp_path):
    """Numbers without an axis, too."""
    found = of_all_types() | {"one": np.array(2.5), "two": np.array(True)}
    about = {"about": "a\n\"é\" \x7f\x01"}
    arrays.write_by_rows(tmp_path / "a", found, about=about)
    save_file(found, tmp_path / "b", metadata=about)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = open_arrays(tmp_path / "a", most=0)
    assert again["one"] == 2.5 and isinstance(again["x0"], RowArray), "what has no axis has no rows"
    arrays.write_by_rows(tmp_path / "c", again, about=about)
    assert (tmp_path / "c").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_large_array_is_written_in_blocks_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", 60)  # bytes: two rows
    asked = []

    def rows(index):
        asked.append(index.tolist())
        return KNOWN[index]

    arrays.write_by_rows(tmp_path / "a", {"x": Computed(KNOWN.shape, KNOWN.dtype, rows)})
    assert asked == [[0, 1], [2, 3], [4, 5], [6]]
    np.testing.assert_array_equal(load_file(tmp_path / "a")["x"], KNOWN)


@pytest.fixture(params=["stored", "computed", "selected", "concatenated"])
def lazy(request, tmp_path, small):
    write_arrays(tmp_path / "x", {"x": KNOWN, "y": KNOWN[::-1]})
    stored = open_arrays(tmp_path / "x")
    if request.param == "stored":
        return stored["x"]
    if request.param == "computed":
        return Computed(KNOWN.shape, KNOWN.dtype, lambda index: KNOWN[index])
    if request.param == "selected":
        return selected(stored["y"], np.arange(7)[::-1])
    return concatenated([selected(stored["x"], KNOWN[:, 0, 0] < 10), stored["x"][2:3],
                         Computed((4, 3, 2), np.float32, lambda index: KNOWN[3:][index])])


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_rows_are_those_of_numpy(lazy, index):
    assert isinstance(lazy, RowArray) and lazy.shape == KNOWN.shape and len(lazy) == 7 and lazy.ndim == 3
    np.testing.assert_array_equal(lazy[index], KNOWN[index], strict=True)
    np.testing.assert_array_equal(np.asarray(lazy, np.float64), KNOWN.astype(np.float64), strict=True)


@pytest.mark.parametrize(("index", "message"), [
    (7, "row 7 of 7"), (-8, "row -8 of 7"), ([0, 9], "row 9 of 7"),
    (np.ones(6, bool), "shape .6,. for 7 rows")])
def test_rows_that_are_not_there_are_refused(lazy, index, message):
    with pytest.raises(IndexError, match=message):
        lazy[index]


def test_what_is_in_memory_stays_numpys():
    assert selected(KNOWN, [1, 2]).__class__ is concatenated([KNOWN, KNOWN]).__class__ is np.ndarray


@pytest.mark.parametrize("held", [0, 2**28])
def test_parts_and_merged_axes(tmp_path, monkeypatch, held):
    monkeypatch.setattr(arrays, "HELD", held)
    write_arrays(tmp_path / "x", {"x": KNOWN})
    stored = open_arrays(tmp_path / "x")["x"]
    assert isinstance(stored, np.ndarray) == bool(held)
    for k in (0, 6, -1):
        np.testing.assert_array_equal(part(stored, k)[1:], KNOWN[k, 1:], strict=True)
    np.testing.assert_array_equal(merged(stored)[4:9], KNOWN.reshape(21, 2)[4:9], strict=True)


def test_only_arrays_that_are_named_are_left_in_the_file(tmp_path, small):
    write_arrays(tmp_path / "x", {"x": KNOWN, "ids": np.arange(7)})
    found = open_arrays(tmp_path / "x", "x")
    assert isinstance(found["x"], RowArray) and isinstance(found["ids"], np.ndarray)


def test_a_file_that_is_cut_short_is_named(tmp_path, small):
    write_arrays(tmp_path / "x", {"x": KNOWN})
    stored = open_arrays(tmp_path / "x")["x"]
    os.truncate(tmp_path / "x", (tmp_path / "x").stat().st_size - 10)
    np.testing.assert_array_equal(stored[0], KNOWN[0])
    with pytest.raises(ValueError, match="x: ends at byte .* it was cut short"):
        stored[6]
    with pytest.raises(ValueError, match="/x: "):
        open_arrays(tmp_path / "x")


def test_a_file_that_lacks_rows_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="'x': 24"), arrays.writing(
            tmp_path / "x", {"x": (KNOWN.shape, KNOWN.dtype)}) as file:
        file.put("x", 0, KNOWN[:6])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_known_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    asked = Computed((4, 2), np.uint8, lambda index: pytest.fail("computed"))
    with pytest.raises(OSError, match="no space left for x") as caught:
        arrays.write_by_rows(tmp_path / "x", {"x": asked})
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_is_named_and_not_the_temporary_file(tmp_path):
    name = 250 * "x"  # that of the temporary file is longer than a name may be
    with pytest.raises(OSError, match=f"to write {name}: ") as caught, atomic(tmp_path / name):
        pass
    assert caught.value.errno == errno.ENAMETOOLONG and caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_check_refuses_is_not_there(tmp_path):
    def check():
        raise ValueError("another file")

    with pytest.raises(ValueError, match="another file"):
        arrays.write_by_rows(tmp_path / "x", {"x": KNOWN}, check)
    assert list(tmp_path.iterdir()) == []


def test_files_are_closed_with_their_last_array(tmp_path, small):
    write_arrays(tmp_path / "x", {"x": KNOWN})
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else pytest.skip("no /proc")
    found = part(open_arrays(tmp_path / "x")["x"], 1)
    assert len(os.listdir("/proc/self/fd")) == before + 1 and found[0].tolist() == KNOWN[1, 0].tolist()
    del found
    assert len(os.listdir("/proc/self/fd")) == before


READ = """
import resource, sys
import numpy as np
from ambient.storage.arrays import open_arrays
x = open_arrays(sys.argv[1])["x"]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for k in range(200):
    rows = x[np.random.default_rng(k).integers(len(x), size=16)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_reading_a_file_takes_no_memory_of_its_size(tmp_path):
    """3,200 rows of 128 KiB, 400 MB, of a sparse file of 4 GB."""
    shape = (32768, 4, 64, 64)
    head = b'{"x":{"dtype":"F32","shape":[32768,4,64,64],"data_offsets":[0,%d]}}' % (4 * int(np.prod(shape)))
    head += b" " * (-len(head) % 8)
    with open(tmp_path / "x", "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + 4 * int(np.prod(shape)))
    grown = int(subprocess.run([sys.executable, "-c", READ, tmp_path / "x"], check=True, text=True,
                               stdout=subprocess.PIPE).stdout)
    assert grown < 100_000  # KiB
