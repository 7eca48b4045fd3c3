"""Digests that the workflow notes when a job ends: what it need not read again, and what it says of that."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ambient.cluster import adopt, told
from ambient.cluster.told import Judge
from ambient.provenance import manifest
from ambient.storage.digests import STORE, Digests, signature
from ambient.storage.files import sha256
from tests.clones import clone
from tests.test_workflow import TINY, snakemake

LOGGING = """
import hashlib, os
real = hashlib.file_digest
def logged(file, *given, **more):
    with open(os.environ["HASHED"], "a") as log:
        log.write(os.readlink(f"/proc/self/fd/{file.fileno()}") + "\\n")
    return real(file, *given, **more)
hashlib.file_digest = logged
"""
MIXTURE = "results/tiny/mixtures/controlled/blur-0.6/clean-0.2.safetensors"
WANTED = (*TINY, "--", "results/tiny/annotations/controlled/blur-0.6/all.json")


@pytest.fixture
def hashed(tmp_path, monkeypatch):
    """What a dry run of the workflow says, and which results it hashes, by their paths in the tree."""
    log = tmp_path / "hashed"
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LOGGING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("HASHED", str(log))

    def dry(folder):
        log.write_text("")
        done = snakemake(folder, "-n", *WANTED)
        top = os.path.realpath(folder)
        paths = [os.path.relpath(line, top) for line in log.read_text().splitlines()]
        return done.stdout + done.stderr, [path for path in paths if path.startswith("results/")]

    return dry


@pytest.mark.minutes
def test_what_a_run_has_made_is_not_hashed_by_the_next_and_what_changed_is(tmp_path, hashed):
    folder = clone(tmp_path / "clone", "tiny")
    snakemake(folder, *WANTED)
    said, read = hashed(folder)
    assert read == [] and "Nothing to be done" in said
    path = folder / MIXTURE
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    said, read = hashed(folder)
    assert read == [MIXTURE] and f"Made again: {MIXTURE}: sha256: was" in said
    snakemake(folder, *WANTED)
    said, read = hashed(folder)
    assert read == [] and "Nothing to be done" in said
    os.utime(path)
    said, read = hashed(folder)
    assert read == [MIXTURE] and "Nothing to be done" in said


@pytest.fixture
def finished(tree, monkeypatch):
    """The job of a tree's table, as of a workflow that runs in the folder where we are."""
    monkeypatch.chdir(tree.parents[1])
    table = os.path.relpath(tree / "t.csv")
    for path in tree.rglob(f"*{manifest.SUFFIX}"):
        os.utime(path)
    STORE.parent.mkdir()
    return SimpleNamespace(output=[table], input=[
        os.path.relpath(tree / "runs" / name / "seed-0/metrics.json")
        for name in ("only-clean", "all-data", "ambient")])


def judge(said=None):
    return Judge(lambda job: job, print if said is None else said.append)


def test_the_digest_of_an_output_is_that_of_its_manifest_and_no_byte_is_read(finished, monkeypatch):
    (table,) = map(Path, finished.output)
    expected = sha256(table)
    monkeypatch.setattr("ambient.storage.digests.sha256", lambda path: pytest.fail(f"{path} is read"))
    found = judge()
    found.note_made(finished)
    assert found.digests.read_before(table) == found.digests.of(table) == expected


@pytest.mark.parametrize("what", ["bytes", "bytes, time put back", "time", "size", "manifest gone",
                                  "manifest of another", "no stage"])
def test_what_may_have_changed_since_its_job_is_not_noted(finished, what):
    (table,) = map(Path, finished.output)
    record, times = manifest.path_for(table), table.stat()
    if what.startswith("bytes"):
        table.write_bytes(table.read_bytes()[:-2] + b"9\n")
    if what == "bytes, time put back":
        os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif what == "time":
        os.utime(table, ns=(times.st_atime_ns, record.stat().st_mtime_ns + 1))
    elif what == "size":
        table.write_bytes(table.read_bytes() + b"\n")
        os.utime(record)
    elif what == "manifest gone":
        record.unlink()
    elif what == "manifest of another":
        other = manifest.path_for(table.with_name("summary.csv"))
        record.write_bytes(other.read_bytes())
    found = judge()
    if what == "no stage":
        found.told = lambda job: None
    found.note_made(finished)
    assert found.digests.read_before(table) is None


def test_what_was_hashed_here_is_not_replaced_by_what_a_manifest_says(finished):
    (table,) = map(Path, finished.output)
    found = judge()
    found.digests.note_file(table, signature(table), "read before")
    found.note_made(finished)
    assert found.digests.of(table) == "read before"


def test_manifests_stay_as_late_as_their_files_unless_the_files_changed_before(finished):
    one, other = Path(finished.output[0]), Path(finished.input[0])
    other.write_bytes(other.read_bytes())
    assert (manifest.is_current(one), manifest.is_current(other)) == (True, False)
    with manifest.staying_current([one, other, Path("gone")]):
        for path in (one, other):
            os.utime(path)
    assert (manifest.is_current(one), manifest.is_current(other)) == (True, False)


def test_much_to_read_is_said_once_with_its_bytes_and_files(finished, monkeypatch):
    monkeypatch.setattr(told, "LARGE", 1)
    said, paths = [], [*map(Path, (*finished.output, *finished.input))]
    one = judge(said)
    assert one.unread([finished]) == {path: path.stat().st_size for path in paths}
    one.announce([finished, finished])
    assert len(said) == 1 and said[0].startswith("Reading 0 GB in 4 files of results, to compare")
    record = manifest.path_for(paths[0])
    record.rename("kept")
    assert one.unread([finished]) == {}  # what has no manifest is made again, and not read
    Path("kept").rename(record)
    one.note_made(finished)
    assert len(one.unread([finished])) == 3
    for path in paths:
        one.digests.of(path)
    one.announce([finished])
    assert one.unread([finished]) == {} and len(said) == 1
    monkeypatch.setattr(told, "LARGE", 10**10)
    judge(said).announce([finished])
    assert len(said) == 1


def test_raw_data_that_are_read_again_are_announced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(told, "LARGE", 7)
    raw, said = tmp_path / "raw", []
    raw.mkdir()
    for name in ("a", "b"):
        (raw / name).write_text("1234")
    found = {"execution": {"started": "2001-01-01T00:00:00+00:00"}, "external": [{"sha256": "before"}]}
    assert len(list(judge(said).of_outside(found, [raw]))) == 1
    assert len(said) == 1 and said[0].startswith(f"Reading 0 GB in 2 files of raw data in {raw}, to compare")
    found["execution"]["started"] = "2101-01-01T00:00:00+00:00"
    assert list(judge(said).of_outside(found, [raw])) == [] and len(said) == 1


def test_what_an_interrupted_start_has_read_is_kept(finished, monkeypatch):
    (table,) = map(Path, finished.output)
    dag = adopt.Adopting.__new__(adopt.Adopting)
    monkeypatch.setattr(adopt.Adopting, "judge", judge(), raising=False)
    dag.forcefiles = set()

    def settle():
        dag.judge.digests.of(table)
        raise KeyboardInterrupt

    dag.settle = settle
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(dag.check_incomplete())
    assert Digests(STORE).read_before(table) == sha256(table)
