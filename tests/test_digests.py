"""What tells one state of a folder of raw data from another, and the store of what was found."""

import os
import time

import pytest

from ambient.storage.digests import Digests, listing


def test_every_file_and_time_counts_and_links_that_lead_nowhere_do_not(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("a", "below/b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    first, newest = listing(tmp_path)
    assert newest == max((tmp_path / name).stat().st_ctime for name in (".", "below", "below/b"))
    (tmp_path / "nowhere").unlink()
    assert listing(tmp_path)[0] == first
    os.utime(tmp_path / "below" / "b", (1, 1))
    assert listing(tmp_path)[0] != first
    (tmp_path / "c").touch()
    assert listing(tmp_path)[1] == max((tmp_path / name).stat().st_ctime for name in (".", "c"))


def test_time_grows_with_the_files_of_a_folder_and_not_with_their_square(tmp_path):
    """Photographs often lie in one folder, and every dry run looks at it."""
    for k in range(20_000):
        (tmp_path / f"{k:06}").touch()
    began = time.process_time()
    for name in os.listdir(tmp_path):
        os.stat(tmp_path / name)
    once = time.process_time() - began
    began = time.process_time()
    listing(tmp_path)
    assert time.process_time() - began < 15 * once


@pytest.mark.parametrize("entry", ["5", "[]", "[1, 2]", '"x"', "null"])
def test_a_damaged_entry_of_the_store_says_nothing(entry, tmp_path):
    path, store = tmp_path / "x", tmp_path / "store"
    path.write_text("one")
    store.write_text(f'{{"{path}": {entry}}}')
    assert Digests(store).read_before(path) is None
    digests = Digests(store)
    found = digests.of(path)
    assert digests.read_before(path) == found
