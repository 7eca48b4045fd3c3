"""What an attempt at a job finds of raw data before it has an image is noted: the next one goes on there."""

import io
import tarfile

import numpy as np
import pytest
from raw_images import encoded, make_folder, make_zip, noisy
from test_precomputed import rows, spec, write_mds
from tiny import kept

from ambient.data import image_files, pairs, precomputed
from ambient.data import raw as raw_data
from ambient.data.raw import Raw
from ambient.data.sources import webdataset
from ambient.jobs import stopping
from ambient.jobs.stage import Record
from ambient.specs import DatasetSpec
from ambient.stages import prepare

SIDE, COUNT, SMALL = 8, 20, (3, 4, 11, 19)
SPEC = DatasetSpec("webdataset", SIDE, 3)


@pytest.fixture
def folder(tmp_path):
    """Two tars of ten samples each, some too small, one without a caption."""
    (tmp_path / "in").mkdir()
    for shard in (0, 1):
        with tarfile.open(tmp_path / f"in/{shard}.tar", "w") as archive:
            for number in range(10 * shard, 10 * shard + 10):
                image = encoded(noisy(number, *((5, 9) if number in SMALL else (12, 9))))
                text = b"" if number == 7 else f"caption {number}".encode()
                for name, content in ((f"{number:02}.png", image), (f"{number:02}.txt", text)):
                    about = tarfile.TarInfo(name)
                    about.size = len(content)
                    archive.addfile(about, io.BytesIO(content))
    return tmp_path / "in"


def run(folder, tmp_path, name, spec=SPEC):
    record, out = Record(), tmp_path / f"{name}.safetensors"
    prepare.main(spec, record, raw=folder, state=kept(tmp_path / f"state-{name}"), out=out)
    return out.read_bytes(), record


def logged(monkeypatch, owner, name, ends_at=None, error=KeyboardInterrupt):
    """The calls of a function from now on; that with this number (from 0) raises, as a stop or kill does."""
    calls, function = [], getattr(owner, name)

    def call(*given, **named):
        if len(calls) == ends_at:
            raise error
        calls.append(given[0])
        return function(*given, **named)
    monkeypatch.setattr(owner, name, call)
    return calls


def test_heads_are_read_once_but_for_those_of_the_block_at_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "TOGETHER", 4)
    whole, one = run(folder, tmp_path, "whole")
    assert one.facts["left_out"] == {"images without a caption": 1, f"smaller than {SIDE} pixels": 4}
    with monkeypatch.context() as patch:
        calls = logged(patch, pairs, "opened", ends_at=13)  # sample 7 is not opened: in the block of 12 to 15
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path, "cut")
        assert len(calls) == 13
    heads, hashed = logged(monkeypatch, pairs, "opened"), logged(monkeypatch, raw_data, "sha256")
    again, other = run(folder, tmp_path, "cut")
    assert again == whole and other.facts == one.facts and other.outside == one.outside
    assert len(heads) == COUNT - 12
    run(folder, tmp_path, "cut")
    assert len(heads) == COUNT - 12 and len(hashed) == 2  # of the killed attempt nothing was noted of these


def test_nothing_that_was_found_is_used_of_other_files_or_by_another_decoder(folder, tmp_path, monkeypatch):
    run(folder, tmp_path, "a")
    heads = logged(monkeypatch, pairs, "opened")
    run(folder, tmp_path, "a")
    assert not heads
    monkeypatch.setattr(pairs, "DECODERS", {"pillow": "0.1"})
    run(folder, tmp_path, "a")
    assert len(heads) == COUNT - 1
    (folder / "1.tar").rename(folder / "2.tar")
    assert run(folder, tmp_path, "a")[0] == run(folder, tmp_path, "fresh")[0]
    assert len(heads) == 3 * (COUNT - 1)


def test_an_image_that_is_damaged_is_named_by_each_attempt(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "TOGETHER", 4)
    content = (folder / "1.tar").read_bytes()
    (folder / "1.tar").write_bytes(content.replace(encoded(noisy(15, 12, 9)), b"junk", 1).ljust(len(content)))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"1\.tar"):
            run(folder, tmp_path, "a")


@pytest.mark.parametrize("seconds", ["0", "1000"])
def test_digests_of_archives_are_kept_by_a_stop_and_now_and_then(folder, tmp_path, monkeypatch, seconds):
    """A kill costs those since the last save, a stop none."""
    monkeypatch.setenv(stopping.SAVE_SECONDS, seconds)
    for name, error in (("stopped", SystemExit), ("killed", KeyboardInterrupt)):
        with monkeypatch.context() as patch:
            logged(patch, raw_data, "sha256", ends_at=1, error=error)
            with pytest.raises(error):
                run(folder, tmp_path, name)
        with monkeypatch.context() as patch:
            hashed = logged(patch, raw_data, "sha256")
            _, record = run(folder, tmp_path, name)
        lost = name == "killed" and seconds == "1000"
        assert [path.name for path in hashed] == ["0.tar"] * lost + ["1.tar"]
        assert record.outside[0]["sha256"] == raw_data.digest(
            {path.name: raw_data.sha256(path) for path in sorted(folder.iterdir())})


def test_a_single_file_is_hashed_once(folder, tmp_path, monkeypatch):
    hashed = logged(monkeypatch, raw_data, "sha256")
    first, _ = run(folder / "0.tar", tmp_path, "a")
    assert run(folder / "0.tar", tmp_path, "a")[0] == first and hashed == [folder / "0.tar"]
    (folder / "0.tar").touch()
    run(folder / "0.tar", tmp_path, "a")
    assert len(hashed) == 2


@pytest.mark.parametrize("make", [make_folder, make_zip])
def test_images_of_one_size_are_looked_at_once(make, tmp_path, monkeypatch):
    raw = make(tmp_path / "raw", {f"{i}.png": encoded(noisy(i, 9, 9)) for i in range(5)})
    looks = logged(monkeypatch, image_files.Images, "look")
    spec = DatasetSpec("images", SIDE, 3)
    assert run(raw, tmp_path, "a", spec)[0] == run(raw, tmp_path, "a", spec)[0] and len(looks) == 1
    assert run(raw, tmp_path, "b", spec)[0] and len(looks) == 2


def test_raw_data_without_a_job_leave_no_note(folder, tmp_path):
    raw = Raw(folder)
    assert webdataset.read(SPEC, raw).rows.tolist() == sorted({*range(COUNT)} - {7, *SMALL})
    assert raw.once("x", lambda: [1]) == [1] and raw.once("x", lambda: [2]) == [2]


def test_latents_from_elsewhere_are_hashed_once_by_one_rank(tmp_path, monkeypatch):
    folder, state = write_mds(tmp_path / "in", rows()), kept(tmp_path / "state")
    hashed = logged(monkeypatch, raw_data, "sha256")
    mark = precomputed.opened(spec(), folder, state).mark
    assert len(hashed) == 4
    found = precomputed.opened(spec(), folder, state)
    assert found.mark == mark and len(hashed) == 4
    sums = dict(found.raw.sums)
    monkeypatch.setattr(precomputed.launch, "first", lambda: False)
    monkeypatch.setattr(precomputed.launch, "agreed", lambda mine: mine | sums)
    other = precomputed.opened(spec(), folder, kept(tmp_path / "other"))
    assert other.mark == mark and len(hashed) == 4
    assert not list((tmp_path / "other").glob("*/raw.json"))
    np.testing.assert_array_equal(other.ends, found.ends)
