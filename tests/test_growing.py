"""Raw images are prepared in a file that grows in the job's state: a stop or a kill costs no image twice."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest
from raw_images import encoded, make_folder, noisy
from tiny import kept

from ambient.data import corruptions
from ambient.data import raw as raw_data
from ambient.data.datasets import Dataset, write
from ambient.data.image_files import Folder
from ambient.data.sources import photos
from ambient.jobs import growing, stopping
from ambient.jobs.stage import Record
from ambient.specs import DatasetSpec, MixtureSpec
from ambient.stages import corrupt, prepare
from ambient.storage import files
from ambient.storage.files import sha256, sha256_of_raw

COUNT, SIDE = 20, 8
SPEC = DatasetSpec("imagenet", SIDE, 3)


@pytest.fixture
def folder(tmp_path):
    """Twenty images of two classes; every third is smaller than the resolution."""
    return make_folder(tmp_path / "raw", {
        f"n0{i % 2}000000/{i:02}.png": encoded(noisy(i, *((6, 7) if i % 3 == 0 else (12, 20))))
        for i in range(COUNT)})


@pytest.fixture
def four_at_once(monkeypatch):
    monkeypatch.setattr(growing, "TOGETHER", 4)
    monkeypatch.setenv(stopping.SAVE_SECONDS, "0")


class Asked:
    """`stopping.reason` that asks to stop after so many looks."""

    def __init__(self, monkeypatch, looks):
        self.left = looks
        monkeypatch.setattr(growing.stopping, "reason", self)

    def __call__(self):
        self.left -= 1
        return "told" if self.left < 0 else None


def run(folder, tmp_path, name, spec=SPEC):
    record, out = Record(), tmp_path / f"{name}.safetensors"
    prepare.main(spec, record, raw=folder, state=kept(tmp_path / f"state-{name}"), out=out)
    return out, record


def stopped(folder, tmp_path, monkeypatch, name, looks):
    """An attempt that is told to stop after so many looks for a reason: there is one before each save."""
    with monkeypatch.context() as patch:
        Asked(patch, looks)
        with pytest.raises(SystemExit) as left:
            run(folder, tmp_path, name)
    assert left.value.code == stopping.RESUME


def counted(monkeypatch):
    """The names of the image files that are read from now on."""
    names, read_file = [], Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, name: (names.append(name), read_file(self, name))[1])
    return names


def test_a_stopped_job_reads_only_what_it_has_not(folder, tmp_path, monkeypatch, four_at_once, capsys):
    whole, one = run(folder, tmp_path, "whole")
    stopped(folder, tmp_path, monkeypatch, "cut", 2)
    assert "prepare: stopped after 12 images (told), saved; the same command" in capsys.readouterr().err
    assert not (tmp_path / "cut.safetensors").exists()
    names, hashed, hash_file = counted(monkeypatch), [], raw_data.sha256
    monkeypatch.setattr(raw_data, "sha256", lambda path: (hashed.append(path), hash_file(path))[1])
    out, other = run(folder, tmp_path, "cut")
    assert len(names) == COUNT - 12 and not hashed
    assert out.read_bytes() == whole.read_bytes()
    assert other.facts == one.facts and other.outside == one.outside
    assert one.outside[0]["sha256"] == sha256_of_raw(folder)[0]
    assert one.facts["converted"] == {f"enlarged, and blurred by that, to {SIDE} pixels": 7}


def test_what_is_finished_is_no_second_copy_and_is_not_made_again(folder, tmp_path, monkeypatch):
    out, _ = run(folder, tmp_path, "a")
    grown = next((tmp_path / "state-a").glob("*/growing"))
    assert os.path.samefile(out, grown)
    out.unlink()  # as Snakemake does with what a job that was killed before its manifest had written
    names = counted(monkeypatch)
    run(folder, tmp_path, "a")
    assert not names and os.path.samefile(out, grown)
    monkeypatch.setattr(growing.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    copied, _ = run(folder, tmp_path, "a")
    assert not os.path.samefile(copied, grown) and copied.read_bytes() == grown.read_bytes()


@pytest.mark.parametrize("change", ["flipped", "cut short", "gone", "a record is damaged",
                                    "records exchanged", "another record"])
def test_damage_is_found_and_made_again(folder, tmp_path, monkeypatch, four_at_once, capsys, change):
    whole, one = run(folder, tmp_path, "whole")
    stopped(folder, tmp_path, monkeypatch, "cut", 3)
    grown = next((tmp_path / "state-cut").glob("*/growing"))
    content = bytearray(grown.read_bytes())
    if change == "flipped":  # within the second save of four images
        content[-200 - (COUNT - 6) * 3 * SIDE**2] ^= 1
        grown.write_bytes(content)
    elif change == "cut short":
        grown.write_bytes(content[:-1])
    elif change == "gone":
        grown.unlink()
    else:
        record, first = (grown.with_name(f"growing-{end}.json") for end in (4 * 3 * SIDE**2, 0))
        texts = record.read_text(), first.read_text()
        if change == "records exchanged":
            first.write_text(texts[0])
        record.write_text({"a record is damaged": texts[0].replace('"start"', '"begin"'),
                           "records exchanged": texts[1],
                           "another record": grown.with_name("growing.json").read_text()}[change])
    names = counted(monkeypatch)
    out, other = run(folder, tmp_path, "cut")
    assert out.read_bytes() == whole.read_bytes() and other.facts == one.facts
    assert len(names) == (COUNT if change in ("cut short", "gone", "records exchanged") else COUNT - 4)
    said = capsys.readouterr().err
    assert ("differ from their digest" in said) == ("record" not in change)
    assert ("it is the record of growing" in said) == (change in ("records exchanged", "another record"))


@pytest.mark.parametrize("change", ["an image", "a name", "the selection", "the decoder"])
def test_nothing_is_used_of_other_data(folder, tmp_path, monkeypatch, four_at_once, change, capsys):
    stopped(folder, tmp_path, monkeypatch, "cut", 3)
    spec, first = SPEC, next(folder.glob("n00*/*"))
    if change == "an image":
        first.write_bytes(encoded(noisy(99)))
    elif change == "a name":
        first.rename(first.with_name("99.png"))
    elif change == "the selection":
        spec = DatasetSpec("imagenet", SIDE, 3, classes=(1,))
    else:
        monkeypatch.setattr(prepare, "DECODERS", prepare.DECODERS | {"pillow": "0.1"})
    names = counted(monkeypatch)
    out, record = run(folder, tmp_path, "cut", spec)
    assert len(names) == (COUNT // 2 if change == "the selection" else COUNT)
    assert "what an earlier attempt made is of other data or choices; it" in capsys.readouterr().err
    expected, one = run(folder, tmp_path, "fresh", spec)
    assert out.read_bytes() == expected.read_bytes()
    assert record.facts == one.facts and record.outside == one.outside


def test_digests_that_are_taken_before_the_images_are_taken_once(tmp_path, monkeypatch, four_at_once):
    import tarfile

    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "raw/train.tar", "w") as archive:
        for i in range(COUNT):
            path = tmp_path / f"{i}.png"
            path.write_bytes(encoded(noisy(i)))
            archive.add(path, f"n00000000/{i:02}.png")
    stopped(tmp_path / "raw", tmp_path, monkeypatch, "cut", 2)
    hashed, hash_file = [], raw_data.sha256
    monkeypatch.setattr(raw_data, "sha256", lambda path: (hashed.append(path), hash_file(path))[1])
    _, record = run(tmp_path / "raw", tmp_path, "cut")
    assert not hashed and record.outside[0]["sha256"] == sha256_of_raw(tmp_path / "raw")[0]


def test_a_result_that_is_there_is_not_written_into(tmp_path):
    raw = make_folder(tmp_path / "raw", {f"{i:02}.png": encoded(noisy(i)) for i in range(COUNT)})
    spec, table = photos.Spec("photos", SIDE, 3, crop="centre", captions="table"), tmp_path / "table.csv"
    out, names = tmp_path / "out", [f"{i:02}.png" for i in range(COUNT)]

    def attempt(text):
        table.write_text("file,caption\n" + "".join(f"{name},{text}\n" for name in names))
        prepare.main(spec, Record(), raw=raw, state=kept(tmp_path / "state"), out=out, table=table)

    attempt("red")
    opened = open(out, "rb")  # noqa: SIM115 (the file itself, whatever takes its name)
    before = out.read_bytes()
    attempt("two")  # as where a kill left the state of a job whose manifests are written
    assert out.read_bytes() != before and opened.read() == before


def test_what_was_moved_to_another_disk_by_a_link_becomes_a_file(folder, tmp_path, monkeypatch, four_at_once):
    whole, _ = run(folder, tmp_path, "whole")
    stopped(folder, tmp_path, monkeypatch, "cut", 3)
    grown = next((tmp_path / "state-cut").glob("*/growing"))
    grown.rename(tmp_path / "elsewhere")
    grown.symlink_to(tmp_path / "elsewhere")
    out, _ = run(folder, tmp_path, "cut")
    assert out.is_file() and not out.is_symlink() and out.read_bytes() == whole.read_bytes()


def test_reading_may_take_longer_than_the_minutes_that_are_given(folder, tmp_path, monkeypatch, four_at_once):
    whole, _ = run(folder, tmp_path, "whole")
    monkeypatch.setenv(stopping.BUDGET, "0")
    for attempt in range(COUNT // 4 + 1):  # one save each, and then the end
        try:
            out, _ = run(folder, tmp_path, "cut")
        except SystemExit as left:
            assert left.code == stopping.RESUME and attempt < COUNT // 4
    assert out.read_bytes() == whole.read_bytes()


def test_a_disk_that_gets_full_meanwhile_is_waited_for(folder, tmp_path, monkeypatch, four_at_once, capsys):
    whole, _ = run(folder, tmp_path, "whole")
    monkeypatch.setattr(stopping, "DISK_POLL", 0.01)
    write, calls = os.pwrite, []

    def full(number, data, at):
        calls.append(at)
        if len(calls) == 3:
            return write(number, data[:100], at)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return write(number, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    out, _ = run(folder, tmp_path, "cut")
    assert out.read_bytes() == whole.read_bytes()
    assert "nothing is lost while this waits" in capsys.readouterr().err


def test_a_limit_of_file_sizes_is_told_with_the_file(folder, tmp_path, monkeypatch):
    def limited(*_):
        raise OSError(27, "File too large")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", limited)
        with pytest.raises(OSError, match="File too large, to write a.safetensors"):
            run(folder, tmp_path, "a")
    monkeypatch.setattr(files.os, "fsync", limited)
    with pytest.raises(OSError, match="File too large, to write x.json"):
        files.write_json(tmp_path / "x.json", {})


def test_a_small_mixture_is_resumed_too(tmp_path, monkeypatch, four_at_once, capsys):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIDE, SIDE), np.uint8)
    write(tmp_path / "data", Dataset(images, np.arange(COUNT) % 2, np.arange(COUNT)))
    spec, made = MixtureSpec(0.5, 0, "gaussian_blur", {"sigma_px": 0.7}), []
    blur = corruptions.corrupt
    monkeypatch.setattr(corruptions, "corrupt", lambda *given: (made.append(1), blur(*given))[1])

    def attempt(name):
        corrupt.main(spec, Record(), data=tmp_path / "data", state=kept(tmp_path / f"state-{name}"),
                     out=tmp_path / name)
        return (tmp_path / name).read_bytes()

    whole, once = attempt("whole"), len(made)
    with monkeypatch.context() as patch:
        Asked(patch, 1)
        with pytest.raises(SystemExit):
            attempt("cut")
    assert "corrupt: stopped after 8 images (told), saved" in capsys.readouterr().err
    assert attempt("cut") == whole and len(made) == 2 * once + 2  # parameters are tried twice
    assert f"corrupt: goes on after 8 of {COUNT} images" in capsys.readouterr().err


SLOW = """
import sys, time
from ambient.data import imagenet_files
from ambient.jobs import growing, run
growing.TOGETHER = 2
plain = imagenet_files.plain
imagenet_files.plain = lambda *arguments, **named: (time.sleep(0.2), plain(*arguments, **named))[1]
sys.exit(run.main(sys.argv[1:]))
"""


def slow(*arguments):
    return subprocess.Popen([sys.executable, "-c", SLOW, *map(str, arguments)], text=True,
                            stderr=subprocess.PIPE, cwd=Path(__file__).parents[1],
                            env=os.environ | {stopping.SAVE_SECONDS: "0"})


def test_five_kills_and_a_stop_end_with_the_same_bytes(folder, tmp_path):
    whole, _ = run(folder, tmp_path, "whole")
    out, state = tmp_path / "results/data.safetensors", tmp_path / "results/.state/prepare"
    line = commands.stage("prepare", SPEC, raw=folder, state=state, out=out)
    options = line[line.index("prepare"):]
    for attempt in range(6):
        job, last = slow(*options), False
        before = len(list(state.glob("*/growing-*.json")))
        while len(list(state.glob("*/growing-*.json"))) <= before:
            assert job.poll() is None, job.stderr.read()
        job.send_signal(signal.SIGTERM if (last := attempt == 5) else signal.SIGKILL)
        said = job.communicate(timeout=60)[1]
        assert job.returncode == (stopping.RESUME if last else -signal.SIGKILL) and not out.exists(), said
    assert re.search(r"stopped after \d+ images \(SIGTERM\), saved", said)
    subprocess.run(line, check=True, timeout=120)
    assert sha256(out) == sha256(whole) and not state.exists()


def test_what_needs_no_tensors_does_not_load_torch(folder, tmp_path):
    line = commands.stage("prepare", SPEC, raw=folder, state=tmp_path / "state", out=tmp_path / "out")
    program = ("import sys; from ambient.jobs import run; run.main(sys.argv[1:]); "
               "sys.exit('torch' in sys.modules)")
    subprocess.run([sys.executable, "-c", program, *line[line.index("prepare"):]], check=True, timeout=120)


def test_before_there_is_anything_to_save_a_stop_is_at_once(folder, tmp_path, monkeypatch, capsys):
    class Told(Folder):
        def __init__(self, raw):
            stopping.ask("told")
            raise AssertionError("it went on")

    monkeypatch.setattr("ambient.data.imagenet_files.Folder", Told)
    monkeypatch.setattr(stopping, "_asked", [])
    with pytest.raises(SystemExit) as left:
        run(folder, tmp_path, "a")
    assert left.value.code == stopping.RESUME
    assert "prepare: stopped (told); the same command" in capsys.readouterr().err


def test_a_full_disk_is_known_before_any_image_is_read(folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    names = counted(monkeypatch)
    with pytest.raises(OSError, match="no space left for a.safetensors"):
        run(folder, tmp_path, "a")
    assert not names and not list((tmp_path / "state-a").glob("*/growing"))
