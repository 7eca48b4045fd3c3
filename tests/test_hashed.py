"""Files are hashed by as many threads as a job has cores, to the same digests; a job says how far it is."""

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from artefacts import made
from tiny import kept

from ambient.audit import ahead
from ambient.audit.chain import Audit, artefacts_in
from ambient.cluster import overview
from ambient.jobs import growing, hashed, progress, stage, stopping
from ambient.provenance import manifest
from ambient.specs.stages import STAGES
from ambient.storage import files, hashing
from ambient.storage.arrays import Computed
from ambient.storage.files import sha256, sha256_of_raw, write_arrays

BLOCK = 64  # bytes, in these tests


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(hashing, "BLOCK", BLOCK)
    for name in hashing.GIVEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test moves on by itself."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_job", [])
    return now


class AtOnce:
    """A digest that waits until so many threads are at work on one; `most` is how many were."""

    def __init__(self, threads):
        self.barrier, self.lock, self.now, self.most = threading.Barrier(threads), threading.Lock(), 0, 0

    def __call__(self, item, seen):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.barrier.wait(20)
        with self.lock:
            self.now -= 1
        self.barrier.wait(20)
        return item


# --- digests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 7])
def test_a_file_has_the_digest_of_its_bytes_in_order(tmp_path, size):
    content, path, counts = np.random.default_rng(size).bytes(size), tmp_path / "a", []
    path.write_bytes(content)
    assert hashing.sha256(path, counts.append) == hashlib.sha256(content).hexdigest() == sha256(path)
    assert sum(counts) == size
    first, second = hashlib.sha256(), hashlib.md5()
    hashing.feed(path, [first.update, second.update])
    assert (first.digest(), second.digest()) == (hashlib.sha256(content).digest(),
                                                 hashlib.md5(content).digest())


def content_of(arrays):
    """The digest of tensors by name, by its definition."""
    names = {np.dtype("uint8"): "U8", np.dtype("float32"): "F32", np.dtype("int64"): "I64"}
    lines = []
    for name, array in sorted(arrays.items()):
        sha = hashlib.sha256(array.tobytes()).hexdigest()
        lines.append(f"{name}|{names[array.dtype]}|{list(array.shape)}|{sha}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_file_and_its_tensors_are_hashed_by_one_reading(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    arrays = {"images": random.integers(0, 256, (3, 5, 7), dtype=np.uint8), "labels": np.arange(9),
              "none": np.zeros((0, 4), np.float32), "one": np.float32([3]).reshape(()),
              "big": random.normal(size=200).astype(np.float32)}
    path, table, read = tmp_path / "a.safetensors", tmp_path / "a.csv", []
    write_arrays(path, arrays)
    table.write_text("a,b\n")
    feed = hashing.feed
    monkeypatch.setattr(hashing, "feed", lambda path, *rest: read.append(path) or feed(path, *rest))
    assert manifest.digests(path) == (sha256(path), content_of(arrays))
    assert manifest.digests(table) == (sha256(table), None) and read == [path, table]
    assert manifest.content_sha256(path) == content_of(arrays)


def test_a_file_that_is_cut_short_has_another_digest_and_a_tensor_out_of_place_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"a": np.arange(50)})
    whole, content = manifest.digests(path)[1], path.read_bytes()
    path.write_bytes(content[:-8])
    assert manifest.digests(path)[1] not in (None, whole)
    for wrong in (b"[400,0]", b"[-4,40]"):
        path.write_bytes(content.replace(b"[0,400]", wrong))
        with pytest.raises(ValueError, match=r"tensor 'a': data_offsets are \[.*allowed: 0 or more"):
            manifest.digests(path)


def test_a_raw_folder_has_its_digest_by_any_number_of_threads(tmp_path, monkeypatch):
    for k in range(9):
        (tmp_path / f"{k}.tar").write_bytes(bytes([k]) * 50 * k)
    sums = {f"{k}.tar": hashlib.sha256(bytes([k]) * 50 * k).hexdigest() for k in range(9)}
    for threads in (1, 4):
        assert sha256_of_raw(tmp_path, threads) == (files.digest(sums), 50 * sum(range(9)))
    asked = AtOnce(3)
    monkeypatch.setattr(hashing, "sha256", lambda path, seen: asked(path.name, seen))
    sha256_of_raw(tmp_path, 3)
    assert asked.most == 3


# --- threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "cores"), [
    ({}, 8), ({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "2,1"}, 2), ({"OMP_NUM_THREADS": "x"}, 8),
    ({"SLURM_CPUS_PER_TASK": "4", "OMP_NUM_THREADS": "1"}, 4), ({"SLURM_CPUS_PER_TASK": "64"}, 8)])
def test_the_cores_of_a_job_are_slurms_or_snakemakes_or_all(monkeypatch, given, cores):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert hashing.cores() == cores


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_so_many_are_hashed_at_once_and_come_in_their_order(threads):
    asked = AtOnce(threads)
    assert hashing.of_each(asked, range(10), [1] * 10, threads) == list(range(10)) and asked.most == threads
    assert hashing.of_each(asked, [], [], threads) == []


def test_the_largest_is_begun_first():
    begun = []
    hashing.of_each(lambda item, seen: begun.append(item), "abcd", [3, 9, 8, 8], 1)
    assert begun == ["b", "c", "d", "a"]


def read_until_left(item, seen, ended):
    """Read without end, until nobody waits for the digest any more; say so in `ended`."""
    try:
        while True:
            seen(1)
    except hashing.Left:
        ended.append(item)
        raise


def test_the_first_error_ends_all_and_no_thread_is_left(monkeypatch):
    monkeypatch.setattr(hashing, "TICK", 0.01)
    before, ended = threading.active_count(), []

    def digest(item, seen):
        if item == "bad":
            raise OSError(5, "Input/output error", "bad")
        read_until_left(item, seen, ended)

    with pytest.raises(OSError, match="Input/output error: 'bad'"):
        hashing.of_each(digest, ["good", "fine", "bad", "late"], [4, 3, 2, 1], 3)
    assert sorted(ended) == ["fine", "good"] and threading.active_count() == before


def test_what_cant_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors"):
        manifest.digests(tmp_path / "gone.safetensors")
    with pytest.raises(OSError, match=r"Input/output error: '/proc/self/mem'"):  # it opens, and can't be read
        hashing.sha256("/proc/self/mem")


# --- jobs ---------------------------------------------------------------------------------------------


def test_a_job_hashes_its_inputs_and_outputs_by_its_cores(tmp_path, monkeypatch):
    """Four inputs of terabytes are hashed at once, in the place of one after the other."""
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(name * 200)
    paths, identify, digests = sorted(tmp_path.glob("*.csv")), AtOnce(2), AtOnce(2)
    told = {path: (path, sha256(path), None) for path in paths}
    monkeypatch.setattr(stage.manifest, "identify", lambda path, seen: told[identify(path, seen)])
    monkeypatch.setattr(stage.guard, "sound", lambda recorded: None)
    job = SimpleNamespace(inputs={"data": paths[:2]}, given=lambda: paths[:2], stage=STAGES["combine"],
                          name="ambient.combine", spec={}, clock=manifest.Clock(), resumes=False)
    assert stage.Job.identified(job) == {"data": [told[path] for path in paths[:2]]} and identify.most == 2
    monkeypatch.setattr(stage.manifest, "digests", lambda path, seen: (sha256(digests(path, seen)), None))
    targets = {"out": paths[1], "table": paths[2]}
    stage.Job.record(job, {}, [], targets, {"data": [told[paths[0]]]},
                     {"module": "x", "files": {}, "sha256": files.digest({})}, [])
    assert digests.most == 2
    found = [manifest.read(manifest.path_for(path)) for path in targets.values()]
    assert [one["sha256"] for one in found] == [sha256(path) for path in targets.values()]
    assert found[0]["outputs"] == found[1]["outputs"]


def test_a_manifest_holds_the_digest_of_the_tensors_that_was_taken(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"a": np.arange(50)})
    sha, tensors = manifest.digests(path)
    monkeypatch.setattr(manifest, "content_sha256", None)  # it is not called
    found = manifest.build(path, "ambient.train", {}, {}, [], {}, manifest.Clock(),
                           outputs={"out": (path, sha)}, tensors={path: tensors})
    assert found["content_sha256"] == content_of({"a": np.arange(50)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_told_to_stop_while_it_hashes_leaves_at_once(monkeypatch, capsys, number):
    before, ended = threading.active_count(), []

    def digest(item, seen):
        time.sleep(0.2)  # until the other thread waits for this one
        os.kill(os.getpid(), number)
        read_until_left(item, seen, ended)

    with stopping.watch(), pytest.raises(SystemExit) as left:
        hashed.of_each("train", "its inputs", digest, ["a"], [10**12])
    assert left.value.code == stopping.RESUME and ended == ["a"] and threading.active_count() == before
    assert f"train hashes its inputs: stopped ({number.name}); the same command" in capsys.readouterr().err


def test_who_waits_sees_whose_hashing_it_is_and_how_far(tmp_path, clock, capsys):
    progress.begin(tmp_path / "results/paper/runs/x/seed-0/denoiser.safetensors")
    asked = progress.Aside("train", "hashes its inputs", 300_000, "MB", 0.0)
    for second in range(1, 301):
        clock[0] = second
        asked.update(1000 * second)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"train x seed 0 hashes its inputs: {n},000/300,000 MB  1,000/s  ETA {left}"
                     for n, left in ((60, "4 min"), (120, "3 min"), (180, "2 min"), (240, "60 s"))]
    [path] = (tmp_path / "results/.state/progress").glob("*")
    found = json.loads(path.read_text())
    assert found["name"] == "train x seed 0 hashes its inputs" and found["of_job"] == 0.0


def test_the_thread_that_waits_is_told_of_the_bytes_that_were_read(monkeypatch):
    monkeypatch.setattr(hashing, "TICK", 0.01)
    told, heard = [], threading.Event()

    def digest(item, seen):
        seen(item)
        return heard.wait(20)

    def tell(size):
        told.append((size, threading.current_thread()))
        if size == 12:
            heard.set()

    assert hashing.of_each(digest, [5, 7], [5, 7], 2, tell) == [True, True]
    assert told[-1] == (12, threading.main_thread())


def test_of_what_takes_seconds_nothing_is_said(tmp_path, clock, capsys):
    progress.begin(tmp_path / "results/demo/runs/x/seed-0/denoiser.safetensors")
    assert hashed.of_each("train", "its inputs", lambda item, seen: seen(10), ["a"], [10]) == [None]
    assert capsys.readouterr().err == "" and not (tmp_path / "results").exists()


def test_the_whole_workflow_counts_hashing_as_none_or_all_of_the_jobs_work():
    jobs = {name: (1.0, False) for name in "abcd"}
    said = {"a": {"name": "train a hashes its inputs", "done": 9, "total": 10, "of_job": 0.0},
            "b": {"name": "train b", "done": 5, "total": 10},
            "c": {"name": "train c hashes its outputs", "done": 1, "total": 10, "of_job": 1.0}}
    assert overview.summary(jobs, said, 60) == (
        "Overall: 0 of 4 jobs, 38% of the work, about 2 min left; train a hashes its inputs 90%; "
        "train b 50%; train c hashes its outputs 10%")


# --- what grows in a state ------------------------------------------------------------------------------


def grow(tmp_path, monkeypatch, stop_after=None):
    """Forty rows of 8 bytes, saved four at a time; how many of them this attempt made."""
    rows = []
    array = Computed((40, 8), np.uint8, lambda index: rows.extend(index) or np.repeat(
        index[:, None], 8, 1).astype(np.uint8))
    monkeypatch.setattr(growing, "TOGETHER", 4)
    monkeypatch.setenv(stopping.SAVE_SECONDS, "0")
    monkeypatch.setattr(growing.stopping, "reason",
                        lambda: "told" if stop_after and len(rows) >= stop_after else None)
    growing.Growing(kept(tmp_path / "state"), {}).write(
        "corrupt", tmp_path / "out.safetensors", {"images": array}, "images")
    return len(rows)


def test_what_is_saved_is_hashed_by_all_cores(tmp_path, monkeypatch):
    """A mixture of 9 TB took nine hours to look at, in each attempt that went on."""
    with pytest.raises(SystemExit):
        grow(tmp_path, monkeypatch, 24)
    asked, sha = AtOnce(3), growing.Writer.sha256
    monkeypatch.setattr(growing.Writer, "sha256",
                        lambda writer, *rest: asked(None, None) or sha(writer, *rest))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert grow(tmp_path, monkeypatch) == 16 and asked.most == 3
    assert files.read_arrays(tmp_path / "out.safetensors")["images"][:, 3].tolist() == list(range(40))


def test_of_several_damaged_saves_the_first_one_counts(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        grow(tmp_path, monkeypatch, 24)
    path = next((tmp_path / "state").glob("*/growing"))
    content = bytearray(path.read_bytes())
    begin = len(content) - 40 * 8
    for row in (21, 9, 14):
        content[begin + 8 * row] ^= 1
    path.write_bytes(content)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert grow(tmp_path, monkeypatch) == 32
    assert "growing: bytes 64 to 96 of images differ from their digest; what lies" in capsys.readouterr().err
    assert files.read_arrays(tmp_path / "out.safetensors")["images"][:, 3].tolist() == list(range(40))


# --- audits -------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Three results of which each was made from the one before, and a small one."""
    monkeypatch.setattr(ahead, "LARGE", 100)
    folder, paths = tmp_path / "results/paper", []
    for name in ("data", "mixture", "samples"):
        paths.append(folder / f"{name}.csv")
        folder.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(name * 50)
        made(paths[-1], inputs=paths[-2:-1])
    made(folder / "small.csv", inputs=paths[:1])
    return folder


@pytest.mark.parametrize(("of", "names"), [
    ("", {"data", "mixture", "samples"}), ("mixture.csv", {"data", "mixture"}), ("small.csv", {"data"})])
def test_an_audit_hashes_the_large_files_first_and_at_once(tree, monkeypatch, of, names):
    asked = artefacts_in(tree) if not of else [tree / of]
    audit, plain = Audit(tree / of), Audit(tree / of)
    ahead.hash_ahead(audit, asked)
    assert audit.digests == {str(tree / f"{name}.csv"): sha256(tree / f"{name}.csv") for name in names}
    for path in asked:
        audit.artefact(path)
        plain.artefact(path)
    assert {path: (one.level, one.problems) for path, one in audit.results.items()} == {
        path: (one.level, one.problems) for path, one in plain.results.items()}
    assert audit.digests == plain.digests
    at_once = AtOnce(len(names))
    monkeypatch.setattr(ahead, "sha256", at_once)
    ahead.hash_ahead(Audit(tree / of), asked)
    assert at_once.most == len(names)


def test_an_audit_hashes_nothing_ahead_that_the_judge_would_not_or_that_was_noted(tree):
    (tree / "data.csv").unlink()
    os.mkfifo(tree / "data.csv")
    with open(tree / "mixture.csv", "r+b") as file:
        file.truncate(2**40)  # no bytes on the disk, and a day to read
    audit = Audit(tree)
    ahead.hash_ahead(audit, artefacts_in(tree))
    assert set(audit.digests) == {str(tree / "samples.csv")}
    noted = Audit(tree, noted=SimpleNamespace(of=lambda path: None))
    ahead.hash_ahead(noted, artefacts_in(tree))
    assert noted.digests == {}


def test_an_audit_leaves_what_cant_be_read_to_the_judge(tree, monkeypatch):
    monkeypatch.setattr(ahead.regular, "opened", lambda path: Path("/proc/self/mem").open("rb"))  # noqa: SIM115
    audit = Audit(tree)
    ahead.hash_ahead(audit, artefacts_in(tree))
    assert audit.digests == {}
