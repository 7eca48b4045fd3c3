"""What tells one state of a folder of raw data from another, and the store of what was found."""

import os

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


def test_names_are_compared_no_more_often_than_there_are_files(tmp_path, monkeypatch):
    """Photographs often lie in one folder, and every dry run looks at it: no name is looked for in a list."""
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(other)
            return str(self) == other

    names = [f"{k:03}" for k in range(300)]
    for name in names:
        (tmp_path / name).touch()
    expected = listing(tmp_path)
    monkeypatch.setattr(os, "walk", lambda *_, **__: iter([(str(tmp_path), [], list(map(Name, names)))]))
    assert listing(tmp_path) == expected
    assert len(compared) <= len(names)


@pytest.mark.parametrize("entry", ["5", "[]", "[1, 2]", '"x"', "null"])
def test_a_damaged_entry_of_the_store_says_nothing(entry, tmp_path):
    path, store = tmp_path / "x", tmp_path / "store"
    path.write_text("one")
    store.write_text(f'{{"{path}": {entry}}}')
    assert Digests(store).read_before(path) is None
    digests = Digests(store)
    found = digests.of(path)
    assert digests.read_before(path) == found
