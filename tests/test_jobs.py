"""Jobs and their state: what they read is checked, what they did not make is left alone, no work is lost."""

import errno
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from damage import DAMAGES, UNNAMED, flip, with_facts
from tiny import CLASSIFIER, TRAINING, kept, optimiser

from ambient import specs
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, write
from ambient.jobs import guard, identity, stage, stopping
from ambient.provenance import manifest, source_code
from ambient.specs import strict
from ambient.specs.stages import STAGES
from ambient.stages import classifier, corrupt, train
from ambient.storage.files import sha256
from ambient.training.loop import Fit
from tests import commands

pytestmark = pytest.mark.minutes
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


def test_a_time_that_is_no_number_is_refused(monkeypatch):
    for value in ("nan", "soon"):  # none is beyond NaN: nothing would be saved
        monkeypatch.setenv("AMBIENT_CHECKPOINT_SECONDS", value)
        with pytest.raises(ValueError, match=f"AMBIENT_CHECKPOINT_SECONDS: got '{value}', allowed: a number"):
            stopping.setting("AMBIENT_CHECKPOINT_SECONDS")


@pytest.fixture
def run(mixture, clean, annotations, tmp_path, monkeypatch):
    """Run a stage in this process as its command line does; returns its status."""
    monkeypatch.setenv("AMBIENT_CHECKPOINT_SECONDS", "1000")
    files = {"train": {"data": mixture, "annotations": annotations, "state": tmp_path / "state",
                       "out": tmp_path / "d.safetensors", "log": tmp_path / "loss.jsonl"},
             "classifier": {"data": mixture, "state": tmp_path / "state", "out": tmp_path / "c.safetensors",
                            "calibration": tmp_path / "c.json"},
             "corrupt": {"data": clean, "state": tmp_path / "mixing", "out": tmp_path / "m.safetensors"}}
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


@pytest.mark.parametrize("place", [(train, "join_weights"), (train, "write_text"), (guard, "unchanged"),
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


def test_of_several_ranks_the_first_alone_hashes_what_all_read(mixture, annotations, tmp_path, monkeypatch):
    """The latents of ImageNet are 168 GB: 32 ranks would read 5 TB before a training begins."""
    line = commands.stage("train", MADE, data=mixture, annotations=annotations, state=tmp_path / "state",
                          out=tmp_path / "d.safetensors", log=tmp_path / "loss.jsonl")
    job, seen = stage.begin(STAGES["train"], line[line.index("--spec"):]), []
    monkeypatch.setattr(stage.manifest, "identify",
                        lambda path, _: seen.append(path) or (path, "0" * 64, None))
    assert set(job.identified()) >= {"data", "annotations"} and set(seen) == {mixture, annotations}
    monkeypatch.setattr(stage.launch, "first", lambda: False)
    assert job.identified() is None and len(seen) == 2


def test_an_input_that_is_given_twice_is_hashed_once(mixture, monkeypatch, tmp_path):
    """Pictures of Table 9a read the same images for each of three rows: 30 TB, not 81."""
    row, seen = STAGES["combine"], []
    given = {role: [mixture] for role in row.reads} | {"data": [mixture, mixture]}
    monkeypatch.setattr(stage.manifest, "identify",
                        lambda path, _: seen.append(path) or (path, "0" * 64, None))
    job = SimpleNamespace(inputs=given, given=lambda: [path for paths in given.values() for path in paths],
                          stage=row)
    monkeypatch.setattr(stage.guard, "sound", lambda recorded: None)
    found = stage.Job.identified(job)
    assert seen == [mixture] and found["data"] == [(mixture, "0" * 64, None)] * 2


def test_an_output_is_hashed_once(tmp_path, monkeypatch):
    """Its digest stands in the manifests of all outputs of its job."""
    path, seen = tmp_path / "a.csv", []
    path.write_text("a\n")
    monkeypatch.setattr(manifest, "sha256", lambda path: seen.append(path) or sha256(path))
    found = manifest.build(path, "ambient.tables", {}, {}, [], {}, manifest.Clock(),
                           outputs={"out": (path, sha256(path))})
    assert path not in seen and found["sha256"] == sha256(path) == found["outputs"]["out"]["sha256"]


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


def test_a_rank_left_in_the_environment_is_named_and_does_not_count(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert run("corrupt") == 0 and manifest.path_for(tmp_path / "m.safetensors").exists()
    assert "RANK=1 in the environment is ignored" in capsys.readouterr().err
    for name, value in commands.TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert "2 ranks were started, and this stage runs on one" in run("corrupt")
