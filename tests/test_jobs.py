"""Jobs and their state: what they read is checked, what they did not make is left alone, no work is lost."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import CLASSIFIER, NOISE, TRAINING, kept, optimiser

from ambient import specs
from ambient.annotation import crop_likeness
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, write
from ambient.jobs import guard, identity, launch, ranks, records, shards, stage, state, stopping
from ambient.provenance import manifest, parts, source_code
from ambient.specs import strict
from ambient.specs.stages import STAGES
from ambient.stages import annotate, classifier, corrupt, train
from ambient.storage.files import read_json, sha256, sha256_of_raw, write_arrays
from ambient.training.loop import Fit
from tests import commands

ROOT = Path(__file__).parents[1]
MADE = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
    "optimiser": strict.plain(optimiser(nimg=16 * 12)), "snapshots": [48, 16 * 12]}, "test")
STOP = 8  # steps after which a training is told to stop: a checkpoint at the mark, one at the stop

LOOP = "ambient/training/loop.py"


@pytest.fixture(scope="module")
def annotations(mixture):
    path = mixture.parent / "rows.safetensors"
    Annotations(np.arange(100, 160), np.where(np.arange(60) < 20, 0.0, 0.5), np.zeros(60)).write(path)
    return path


@pytest.fixture(scope="module")
def clean(mixture):
    path, found = mixture.parent / "clean.safetensors", read(mixture)
    write(path, Dataset(found.images, found.labels, found.ids))
    return path


@pytest.fixture
def run(mixture, clean, annotations, tmp_path, monkeypatch):
    """Run a stage in this process as its command line does; returns its status."""
    monkeypatch.setenv("AMBIENT_CHECKPOINT_SECONDS", "1000")
    files = {"train": {"data": mixture, "annotations": annotations, "state": tmp_path / "state",
                       "out": tmp_path / "d.safetensors", "log": tmp_path / "loss.jsonl"},
             "classifier": {"data": mixture, "state": tmp_path / "state", "out": tmp_path / "c.safetensors",
                            "calibration": tmp_path / "c.json"},
             "corrupt": {"data": clean, "out": tmp_path / "m.safetensors"}}
    kinds = {"train": (train, MADE), "corrupt": (corrupt, specs.MixtureSpec(0.5, 0)),
             "classifier": (classifier, CLASSIFIER)}

    def started(name="train", made=None, **changes):
        module, usual = kinds[name]
        line = commands.stage(name, made or usual, **files[name] | changes)
        try:
            stage.begin(STAGES[name], line[line.index("--spec"):]).run(module.main)
        except SystemExit as left:
            return left.code
        return 0

    return started


def stop_after(monkeypatch, steps):
    """Tell the next training to stop after so many steps."""
    whole, count = Fit.step, iter(range(1, 10**6))

    def step(self, *arguments):
        found = whole(self, *arguments)
        if next(count) == steps:
            stopping.ask("a test")
        return found

    monkeypatch.setattr(Fit, "step", step)


@pytest.fixture(scope="module")
def whole(mixture, annotations, tmp_path_factory):
    """The digests of an undisturbed training's weights and log."""
    folder = tmp_path_factory.mktemp("whole")
    train.main(MADE, SimpleNamespace(facts={}), data=mixture, annotations=annotations,
               state=kept(folder / "s"), out=folder / "d", log=folder / "l")
    return sha256(folder / "d"), sha256(folder / "l")


def result(folder):
    return sha256(folder / "d.safetensors"), sha256(folder / "loss.jsonl")


def facts(folder):
    return manifest.read(folder / "d.safetensors.manifest.json")["facts"]


# --- the state is removed last ------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(train, "save_weights"), (train, "write_text"), (guard, "unchanged"),
                                   (manifest, "build"), (stage, "write_json"),
                                   (identity.Identity, "forget")])
def test_a_training_that_is_killed_at_its_end_only_writes_what_is_missing(place, run, whole, tmp_path,
                                                                         monkeypatch):
    """Killed at every moment between the last step and the removal of the state: no step is done again."""
    class Killed(BaseException):
        pass

    def killed(*arguments, **named):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*place, killed)
        with pytest.raises(Killed):
            run()
    assert (tmp_path / "state").is_dir()
    monkeypatch.setattr(Fit, "step", killed)
    assert run() == 0 and result(tmp_path) == whole
    assert [path for path in tmp_path.iterdir() if "state" in path.name] == []
    found = facts(tmp_path)["attempts"]
    assert [attempt["from_nimg"] for attempt in found] == [0] + [16 * 12] * (place[1] != "forget")


def test_a_full_disk_at_the_manifest_is_waited_for(run, whole, tmp_path, monkeypatch, capsys):
    tried = []

    def full_at_first(path, value, write=stage.write_json):
        tried.append(path.name)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "no space left", str(path))
        write(path, value)

    monkeypatch.setattr(stage, "write_json", full_at_first)
    monkeypatch.setattr(stopping, "DISK_POLL", 0.01)
    assert run() == 0 and result(tmp_path) == whole
    assert tried == ["d.safetensors.manifest.json"] * 2 + ["loss.jsonl.manifest.json"]
    assert "nothing is lost while this waits" in capsys.readouterr().err


def test_what_a_manifest_refuses_is_refused_before_compute(run, monkeypatch, tmp_path):
    monkeypatch.setattr(Fit, "step", None)
    monkeypatch.setenv("SLURM_JOB_PARTITION", "/gpu")
    assert "scheduler.partition: got '/gpu', allowed: no absolute path" in run()
    monkeypatch.delenv("SLURM_JOB_PARTITION")
    assert "artefact: got 'a\\\\b', allowed: a file name" in run(out=tmp_path / "a\\b")
    record = stage.Record()
    with pytest.raises(ValueError, match="allowed: a file name"):
        record.external("raw", tmp_path / "a\\b.zip", "x")


# --- inputs -------------------------------------------------------------------------------------------


def test_an_input_whose_time_changes_is_hashed_again(run, mixture, whole, tmp_path, monkeypatch):
    data = Path(shutil.copy(mixture, tmp_path / "data.safetensors"))
    changes = [lambda: os.utime(data), lambda: data.write_bytes(data.read_bytes() + b" ")]
    original = train.write_text

    def change(*arguments):
        changes.pop(0)()
        original(*arguments)

    monkeypatch.setattr(train, "write_text", change)
    assert run(data=data) == 0 and result(tmp_path) == whole
    out = tmp_path / "other.safetensors"
    assert "data.safetensors changed while it was read" in run(data=data, out=out)
    assert not manifest.path_for(out).exists() and list((tmp_path / "state").iterdir())


def test_an_input_that_differs_from_its_own_manifest_is_refused(run, mixture, tmp_path):
    data = Path(shutil.copy(mixture, tmp_path / "data.safetensors"))
    made = manifest.build(data, "ambient.corrupt", {}, {}, [], {}, manifest.Clock())
    manifest.path_for(data).write_text(manifest.json_text(made))
    content = bytearray(data.read_bytes())
    content[-700] ^= 0x55
    data.write_bytes(content)
    said = run(data=data)
    assert said.startswith(f"ambient.train: error: --data {data}: its sha256 is {sha256(data)}, its manifest "
                           f"says {made['sha256']}") and "\n" not in said
    assert not (tmp_path / "state").exists()


def test_raw_data_that_change_while_they_are_read_are_refused(tmp_path):
    (tmp_path / "raw/a").mkdir(parents=True)
    (tmp_path / "raw/a/1.png").write_text("x")
    before = {tmp_path / "raw": guard.fingerprint(tmp_path / "raw")}
    outside = [{"sha256": sha256_of_raw(tmp_path / "raw")[0]}]
    guard.unchanged(before, {}, [])
    os.utime(tmp_path / "raw/a/1.png", (1, 1))
    guard.unchanged(before, {}, outside)
    (tmp_path / "raw/a/2.png").write_text("y")
    with pytest.raises(ValueError, match="raw changed while it was read"):
        guard.unchanged(before, {}, outside)


# --- outputs ------------------------------------------------------------------------------------------


def test_a_job_writes_over_nothing_that_it_reads_or_did_not_make(run, clean, tmp_path):
    data, own = Path(shutil.copy(clean, tmp_path / "data.safetensors")), tmp_path / "thesis.safetensors"
    before = sha256(data)
    (tmp_path / "link.safetensors").symlink_to(data)
    own.write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    for out, words in ((data, "would be written over"),
                       (tmp_path / "link.safetensors", "would be written over"),
                       (manifest.path_for(data), "over the manifest of"), (tmp_path, "no ordinary file"),
                       (tmp_path / "fifo", "no ordinary file"), (own, "has no manifest"),
                       (tmp_path / "x.manifest.json", "this ending is a manifest's"),
                       (data / "x", "data.safetensors"), (tmp_path / ("n" * 250), "name too long")):
        said = run("corrupt", data=data, out=out)
        assert isinstance(said, str) and words in str(said).replace("File name", "name"), said
    assert sha256(data) == before and own.read_text() == "mine"
    assert "--log" in run(log=tmp_path / "d.safetensors")
    assert "which the job reads" in run(out=tmp_path / "state/d.safetensors")
    assert run("corrupt", data=data) == 0 and run("corrupt", data=data) == 0  # its own it may make again


# --- what is read back from the state -----------------------------------------------------------------


def flip(path, place=-5):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def with_facts(path, **changes):
    found = read_json(path)
    path.write_text(json.dumps(found | {"facts": found["facts"] | changes}))


def append(content):
    return lambda path: path.write_bytes(path.read_bytes() + content)


DAMAGES = {
    "a line cut short": ("attempts.jsonl", append(b'{"from_nimg": 640, "repea')),
    "zeros": ("attempts.jsonl", append(bytes(40))),
    "an altered attempt": ("attempts.jsonl", lambda path: path.write_text(
        path.read_text().replace('"from_nimg": 0', '"from_nimg": 1'))),
    "a journal of another shape": ("../../state.attempts.jsonl", lambda path: path.write_text("[]\n")),
    "a log of other bytes": ("loss.jsonl", lambda path: flip(path, 20)),
    "no log": ("loss.jsonl", Path.unlink),
    "a record that is none": ("checkpoint-128.json", lambda path: path.write_text("[]")),
    "a record without facts": ("checkpoint-128.json", lambda path: path.write_text(
        json.dumps(read_json(path) | {"facts": {}}))),
    "an altered record": ("checkpoint-128.json", lambda path: with_facts(path, total=1.0)),
    "a checkpoint cut short": ("checkpoint-128.safetensors", lambda path: path.write_bytes(b"x" * 20)),
    "a bit of a checkpoint": ("checkpoint-128.safetensors", flip),
    "a bit of a snapshot": ("snapshot-48.safetensors", flip),
    "no snapshot": ("snapshot-48.safetensors", Path.unlink),
    "no record of a snapshot": ("snapshot-48.json", Path.unlink),
    "an identity of another shape": ("identity.json", lambda path: path.write_text("{")),
    "a stray copy": ("checkpoint-128.json", lambda path: shutil.copy(
        path, path.with_name("checkpoint-128 (1).json"))),
}
UNNAMED = {"a stray copy", "no log", "no record of a snapshot"}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_in_the_state_is_named_and_changes_nothing(kind, run, whole, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, STOP)
        assert run() == stopping.RESUME
    (folder,) = (tmp_path / "state").iterdir()
    name, damage = DAMAGES[kind]
    damage(folder / name)
    capsys.readouterr()
    assert run() == 0 and result(tmp_path) == whole
    said = capsys.readouterr().err
    if kind not in UNNAMED:
        stem = name.split("/")[-1].split(".")[0]
        assert re.search(rf"{stem}\S*: damaged \(.+\); set aside as {stem}", said)
    if kind not in UNNAMED and "journal" not in kind:
        assert facts(tmp_path)["set_aside"]


def test_a_lost_snapshot_is_made_again_from_the_checkpoint_before(run, whole, tmp_path, monkeypatch):
    """At 48 of 192 images there is a checkpoint: from there, not from the beginning."""
    with monkeypatch.context() as patch:
        stop_after(patch, STOP)
        assert run() == stopping.RESUME
    next((tmp_path / "state").glob("*/snapshot-48.safetensors")).unlink()
    assert run() == 0 and result(tmp_path) == whole
    assert [attempt["from_nimg"] for attempt in facts(tmp_path)["attempts"]] == [0, 48]


def test_held_out_reports_of_a_classifier_are_checked_too(run, tmp_path, monkeypatch, capsys):
    assert run("classifier") == 0
    expected = sha256(tmp_path / "c.safetensors"), sha256(tmp_path / "c.json")
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        again = {"out": tmp_path / "e.safetensors", "calibration": tmp_path / "e.json"}
        assert run("classifier", **again) == stopping.RESUME
    with_facts(next((tmp_path / "state").glob("*/weights-80.json")), cross_entropy=0.0)
    assert run("classifier", **again) == 0 and "weights-80.json: damaged" in capsys.readouterr().err
    assert (sha256(tmp_path / "e.safetensors"), sha256(tmp_path / "e.json")) == expected


@pytest.fixture
def keep(tmp_path):
    return state.State(tmp_path / "state", identity.Identity("job", {"a.py": "1"}))


def numbered(made):
    def make(k):
        made.append(k)
        return {"x": np.full(3, k)}
    return make


PIECES = [(f"piece-{k}", 3) for k in range(5)]


def test_a_flipped_bit_in_a_shard_is_found_and_the_shard_made_again(keep, capsys):
    made = []
    first = [shard["x"].copy() for shard in shards.collect("test", keep, PIECES, numbered(made))]
    flip(keep.folder / "piece-3.safetensors")
    (keep.folder / "piece-1.json").write_text("{}")
    again = shards.collect("test", keep, PIECES, numbered(made))
    assert made == [0, 1, 2, 3, 4, 1, 3]
    np.testing.assert_array_equal([shard["x"] for shard in again], first)
    said = capsys.readouterr().err
    assert "piece-3.safetensors: damaged" in said and "piece-1.json: damaged" in said
    keep.put("piece-4", {"x": torch.zeros(2)}, {"images": 2})  # by a machine that cuts smaller pieces
    shards.collect("test", keep, PIECES, numbered(made))
    assert made[7:] == [4]
    assert keep.remarks()["set_aside"] == ["piece-1.json.aside-1", "piece-1.safetensors.aside-1",
                                           "piece-3.json.aside-1", "piece-3.safetensors.aside-1"]


def test_ranks_take_pieces_in_turn_and_stop_together(keep, monkeypatch, capsys):
    """Two ranks, one after the other in this process: each makes its own pieces, one of them gathers."""
    made = {0: [], 1: []}
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "barrier", lambda: None)
    for number in (1, 0):
        monkeypatch.setattr(ranks, "rank", lambda number=number: number)
        monkeypatch.setattr(ranks, "agree", lambda why: why)
        found = shards.collect("test", keep, PIECES, numbered(made[number]))
        assert (found is None) == (number == 1)
    assert made == {0: [0, 2, 4], 1: [1, 3]} and [shard["x"][0] for shard in found] == [0, 1, 2, 3, 4]
    monkeypatch.setattr(ranks, "agree", lambda why: "another rank was asked")
    with pytest.raises(SystemExit) as left:
        shards.collect("test", keep, PIECES, None)
    assert left.value.code == stopping.RESUME and "another rank was asked" in capsys.readouterr().err


def test_crops_annotation_is_shared_out_stopped_and_resumed(keep, mixture, tmp_path, monkeypatch):
    made = strict.build(specs.ClassifierSpec, strict.plain(CLASSIFIER) | {"crop": 4}, "test")
    files = {"out": tmp_path / "c.safetensors", "calibration": tmp_path / "c.json"}
    classifier.main(made, SimpleNamespace(facts={}), data=mixture, state=kept(tmp_path / "s"), **files)
    asked = specs.AnnotationSpec("crops", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 1, 1, "last",
                                "float32", 0, crop_map="measured")
    data, rows = Dataset(*(np.arange(1200 * n).reshape(1200, *shape).astype(kind) for n, shape, kind in (
        (64, (1, 8, 8), np.uint8), (1, (), np.int64), (1, (), np.int64))), np.ones(1200, np.uint8)), []
    write(tmp_path / "m.safetensors", data)
    crop_map = {"sigmas": [0.1, 1.0], "crop_px": [1, 4], "tolerance": 1e-3}
    (tmp_path / "map.json").write_text(json.dumps(crop_map))
    whole = crop_likeness.patch_probability

    def counted(*arguments):
        rows.append(len(arguments[1]))
        if len(rows) == 1:
            stopping.ask("a test")
        return whole(*arguments)

    monkeypatch.setattr(crop_likeness, "patch_probability", counted)
    files = {"data": tmp_path / "m.safetensors", "classifier": None, "crops": [files["out"]],
             "locality": tmp_path / "map.json", "state": kept(tmp_path / "t"), "summary": tmp_path / "a.json"}
    with stopping.watch(), pytest.raises(SystemExit) as left:
        annotate.main(asked, SimpleNamespace(facts={}), out=tmp_path / "a.safetensors", **files)
    assert left.value.code == stopping.RESUME and len(rows) == 1
    annotate.main(asked, SimpleNamespace(facts={}), out=tmp_path / "a.safetensors", **files)
    assert sum(rows) == 1200
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "barrier", lambda: None)
    monkeypatch.setattr(ranks, "agree", lambda why: why)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    rows.append(0)
    annotate.main(asked, SimpleNamespace(facts={}), out=tmp_path / "b.safetensors",
                  **files | {"state": kept(tmp_path / "u")})
    assert 0 < sum(rows) - 1200 < 1200 and not (tmp_path / "b.safetensors").exists()


# --- whose state it is --------------------------------------------------------------------------------


def test_state_of_other_settings_outlives_the_job(run, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, STOP)
        assert run() == stopping.RESUME
    (folder,) = (tmp_path / "state").iterdir()
    other = strict.build(specs.TrainingSpec, strict.plain(MADE) | {"seed": 9}, "test")
    assert run(made=other) == 0
    said = capsys.readouterr().err
    assert f"{folder}: state of other settings, data or code; kept, not used here (rm -r {folder} rem" in said
    assert (folder / "checkpoint-128.safetensors").exists()
    manifest.path_for(tmp_path / "d.safetensors").unlink()
    (tmp_path / "d.safetensors").unlink()
    assert run() == 0 and not (tmp_path / "state").exists()
    found = manifest.read(tmp_path / "d.safetensors.manifest.json")
    assert [a["from_nimg"] for a in found["facts"]["attempts"]] == [0, 128]
    assert len(found["execution"]["interrupted"]) == 1  # the other job took no record of this one's with it


def test_code_means_what_its_statements_do():
    def meaning(text, name="x.py"):
        return parts.meaning(name, text.encode())

    plain = meaning('def f(x):\n    return x + 1\n')
    assert plain == meaning('"""Words."""\n\n\ndef f(x):  # a comment\n    """What it does."""\n'
                            '    return (x\n            + 1)\n')
    assert plain != meaning('def f(x):\n    return x + 2\n')
    assert meaning('x = "a"\n') != meaning('x = "b"\n')
    assert meaning('def f():\n    "only words"\n') == meaning('def f():\n    "others"\n')
    both = 'def f(x):\n    return x\n\n\ndef g(x):\n    return {}\n\n\nTABLE = {{"f": f, "g": g}}\n'
    assert meaning(both.format(1), "x.py:f") == meaning(both.format(2), "x.py:f")
    assert meaning(both.format(1), "x.py:g") != meaning(both.format(2), "x.py:g")


def test_state_by_other_code_is_gone_on_from_where_that_is_said(run, whole, tmp_path, monkeypatch, capsys):
    """Both codes are in the manifest; what the second had done by itself is set aside."""
    real = source_code.meanings
    with monkeypatch.context() as patch:
        stop_after(patch, STOP)
        patch.setattr(source_code, "meanings", lambda *job: real(*job) | {LOOP: "0" * 64})
        assert run() == stopping.RESUME
    (folder,) = (tmp_path / "state").iterdir()
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert run() == stopping.RESUME
    said = capsys.readouterr().err
    assert f"{folder}: state of this very job by other code ({LOOP}); kept, not used here; " \
        f"AMBIENT_GO_ON_FROM={folder.name} goes on from it and records both codes" in said
    monkeypatch.setenv("AMBIENT_GO_ON_FROM", folder.name)
    assert run() == 0 and result(tmp_path) == whole
    found = facts(tmp_path)
    assert [attempt["from_nimg"] for attempt in found["attempts"]] == [0, 128]
    (went_on,) = found["went_on_by_other_code"]
    assert went_on["files"] == {LOOP: ["0" * 64, real("ambient.train")[LOOP]]}
    assert len(went_on["code_sha256"]) == 2 and not folder.exists()
    assert [path.name[17:] for path in (tmp_path / "state").iterdir()] == ["aside-1"]


def test_a_finished_job_is_not_done_again(run, tmp_path, monkeypatch, capsys):
    assert run() == 0
    before = (tmp_path / "d.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(Fit, "step", None)
    assert run() == 0 and "was made by this very job; nothing left to do" in capsys.readouterr().err
    assert (tmp_path / "d.safetensors").stat().st_mtime_ns == before
    flip(tmp_path / "d.safetensors")
    with pytest.raises(TypeError):  # a damaged one is
        run()


# --- ranks and signals --------------------------------------------------------------------------------


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1",
            "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
SRUN = {"AMBIENT_SRUN": "1", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1",
        "MASTER_ADDR": "node", "MASTER_PORT": "1"}


@pytest.mark.parametrize(("given", "expected"), [
    ({}, (0, 1, 0)), ({"RANK": "1"}, (0, 1, 0)), ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1, 0)),
    (TORCHRUN, (1, 2, 1)), (SRUN, (3, 4, 1)), (TORCHRUN | {"RANK": "2"}, None),
    (TORCHRUN | {"WORLD_SIZE": ""}, None), ({"AMBIENT_SRUN": "1"}, None),
    (SRUN | {"SLURM_NTASKS": "x"}, None), (SRUN | {"MASTER_ADDR": ""}, None)])
def test_a_rank_is_one_that_a_launcher_started(given, expected, monkeypatch):
    for name in (*TORCHRUN, *SRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if expected is None:
        with pytest.raises(ValueError, match="as for one of several ranks, but the rest does not fit"):
            launch.place()
    else:
        assert launch.place() == expected
        names = [name for name in ("RANK", "WORLD_SIZE") if name in given]
        assert launch.left_over() == (names if expected[1] == 1 else [])


def test_a_rank_left_in_the_environment_is_named_and_does_not_count(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert run("corrupt") == 0 and manifest.path_for(tmp_path / "m.safetensors").exists()
    assert "RANK=1 in the environment is ignored" in capsys.readouterr().err
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert "2 ranks were started, and this stage runs on one" in run("corrupt")


def test_a_rank_ends_without_tearing_its_interpreter_down():
    """What it said is written, its status is what was asked for, and nothing registered for the end runs."""
    for leave, status, said in (("pass", 0, ""), ("raise SystemExit(75)", 75, ""),
                                ("raise SystemExit('stage: error: x')", 1, "stage: error: x\n")):
        code = (f"import atexit\nfrom ambient.jobs import launch\natexit.register(print, 'torn down')\n"
                f"with launch.departure(2):\n    print('done', end='')\n    {leave}")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert (done.returncode, done.stdout, done.stderr) == (status, "done", said)


def test_every_signal_asks_to_stop_but_a_hangup_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    for number in stopping.SIGNALS:
        with stopping.watch():
            os.kill(os.getpid(), number)
            assert stopping.reason() == signal.Signals(number).name
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGHUP} <= set(stopping.SIGNALS)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.watch():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stopping.reason() is None
    finally:
        signal.signal(signal.SIGHUP, before)


# --- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o002])
def test_files_obey_the_umask(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_arrays(tmp_path / "x.safetensors", {"x": np.zeros(3)})
        records.write(tmp_path / "x.json", {"a": 1})
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_repository_of_another_owner_is_read(monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    alone = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if "dubious" not in alone.stderr:
        pytest.skip("no git repository here, or a git that asks no owner")
    assert len(source_code.commit()["commit"]) == 40


def test_a_checkpoint_holds_its_log(tmp_path):
    """The log of the losses is no file of its own that could be lost or altered between two attempts."""
    keep = state.State(tmp_path, identity.Identity("job", {}))
    keep.save(10, {"x": torch.zeros(2)}, {"log": ["a"]})
    assert keep.get("checkpoint-10")[1]["log"] == ["a"] and keep.newest() == 10
