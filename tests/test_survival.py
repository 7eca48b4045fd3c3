"""Jobs that are stopped, doubled, starved of disk, or spread over ranks end in what they should."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import SoftFileLease
from tiny import kept

from ambient import specs
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, write
from ambient.jobs import journal, lock, ranks, stopping
from ambient.stages import train
from ambient.storage.files import sha256
from ambient.training import shares
from ambient.training.weights import read_weights
from tests import commands

ROOT = Path(__file__).parents[1]
STEPS = int(os.environ.get("AMBIENT_TEST_STEPS", "200"))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """60 random 8x8 images, 20 of them clean, and annotations for the others."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    write(folder / "m.safetensors", Dataset(images, np.arange(60) % 3, np.arange(60),
                                            (np.arange(60) >= 20).astype(np.uint8)))
    Annotations(np.arange(60), np.where(np.arange(60) < 20, 0.0, 0.5), np.zeros(60)).write(
        folder / "a.safetensors")
    return folder


def training(steps=STEPS, **optimiser):
    return specs.TrainingSpec(
        specs.NetworkSpec(8, (1, 2), 1, (), 0.1), specs.AugmentSpec(0.3, ("scale", "rotate")),
        specs.OptimiserSpec(**{"nimg": 16 * steps, "batch": 16, "lr": 1e-3, "ramp_nimg": 32,
                              "decay": "cosine", "clip": 1.0, "ema_halflife_nimg": 50, "ema_ramp": 0.5,
                              "precision": "float32"} | optimiser),
        specs.NoiseSpec(-0.5, 1.2), specs.LossSpec("ambient", None, 4.0, "sigma_min"), 0.5, (16 * steps,), 3)


def command(inputs, folder, made=None, ranks=1):
    return commands.stage("train", made or training(), ranks=ranks, data=inputs / "m.safetensors",
                          annotations=inputs / "a.safetensors", state=folder / "state",
                          out=folder / "d.safetensors", log=folder / "loss.jsonl")


def environment(**extra):
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                         "AMBIENT_CHECKPOINT_SECONDS": "1000"} | extra


def facts(folder):
    return json.loads((folder / "d.safetensors.manifest.json").read_text())["facts"]


def seen(folder):
    """Images seen, by the loss log of a training at work."""
    logs = list((folder / "state").glob("*/loss.jsonl"))
    return logs[0].read_text(errors="replace").count("\n") * 16 if logs else 0


def wait_until(condition, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """An undisturbed training."""
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(command(inputs, folder), check=True, env=environment(), capture_output=True)
    return folder


def test_told_to_stop_it_saves_and_leaves_with_75_and_nothing_is_done_twice(inputs, whole, tmp_path):
    """Every signal, and no checkpoint by the clock: each attempt begins where the last ended."""
    for count, number in enumerate(stopping.SIGNALS, 1):
        # Where the tests themselves run under nohup, the training would not hear of a closed terminal.
        process = subprocess.Popen(command(inputs, tmp_path), env=environment(), stderr=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        wait_until(lambda count=count: seen(tmp_path) >= 16 * (STEPS // 7) * count)
        process.send_signal(number)
        _, errors = process.communicate(timeout=240)
        assert process.returncode == stopping.RESUME == 75
        assert f"({signal.Signals(number).name}), state saved; the same command goes on" in errors
        assert journal.saved(tmp_path / "state", count + 3) == count  # what a scheduler is asked for by
    subprocess.run(command(inputs, tmp_path), check=True, env=environment(), capture_output=True)
    found = facts(tmp_path)
    assert found["resumptions"] == len(stopping.SIGNALS) == 5 and found["repeated_images"] == 0
    starts = [attempt["from_nimg"] for attempt in found["attempts"]]
    assert starts == sorted(set(starts)) and starts[0] == 0
    for name in ("d.safetensors", "loss.jsonl"):
        assert sha256(whole / name) == sha256(tmp_path / name)


def test_run_of_many_time_budgets_finishes_by_itself(inputs, tmp_path, monkeypatch, capsys):
    """A budget of no time at all: one step an attempt, five times over."""
    monkeypatch.setenv("AMBIENT_MINUTES", "1e-9")
    record = SimpleNamespace(facts={})

    def attempted(out):
        train.main(training(steps=6), record, state=kept(tmp_path / "state"), out=tmp_path / out,
                   data=inputs / "m.safetensors", annotations=inputs / "a.safetensors",
                   log=tmp_path / "loss.jsonl")

    for attempt in range(5):
        with pytest.raises(SystemExit) as stopped:
            attempted("d.safetensors")
        assert stopped.value.code == 75
        said = capsys.readouterr().err
        assert f"stopped after {16 * (attempt + 1)} images (its 1e-9 minutes are over" in said
    attempted("d.safetensors")
    assert [a["from_nimg"] for a in record.facts["attempts"]] == [0, 16, 32, 48, 64, 80]
    assert record.facts["resumptions"] == 5 and record.facts["repeated_images"] == 0
    monkeypatch.delenv("AMBIENT_MINUTES")
    attempted("whole.safetensors")
    assert sha256(tmp_path / "d.safetensors") == sha256(tmp_path / "whole.safetensors")
    for name in stopping.SETTINGS:
        monkeypatch.setenv(name, "a day")
        with pytest.raises(ValueError, match=f"{name}: got 'a day', allowed: a number"), stopping.watch():
            pass
        monkeypatch.delenv(name)


def test_two_copies_started_at_once_train_once(inputs, whole, tmp_path):
    copies = [subprocess.Popen(command(inputs, tmp_path), env=environment(), stderr=subprocess.PIPE,
                               stdout=subprocess.DEVNULL, text=True) for _ in range(2)]
    errors = [copy.communicate(timeout=480)[1] for copy in copies]
    assert [copy.returncode for copy in copies] == [0, 0], errors
    assert facts(tmp_path)["resumptions"] == 0
    assert sha256(whole / "d.safetensors") == sha256(tmp_path / "d.safetensors")
    assert sum("another copy of this job has just made" in text for text in errors) == 1, errors
    assert not list(tmp_path.glob("*.lock")) and not (tmp_path / "state").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system is mounted, which needs root")
def test_full_disk_costs_nothing(inputs, whole, tmp_path):
    """The state's file system fills up in training; it waits, says so, and goes on once there is space."""
    state = tmp_path / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", state]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    process = None
    try:
        process = subprocess.Popen(
            command(inputs, tmp_path), env=environment(AMBIENT_CHECKPOINT_SECONDS="0.05"), text=True,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_until(lambda: seen(tmp_path) >= 16 * (STEPS // 10))
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr))
        reader.start()

        def complains():
            with open(state / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
                while True:  # what a checkpoint that was given up has freed is taken too
                    filler.write(bytes(1024))
            return any("nothing is lost while this waits" in line for line in lines)

        wait_until(complains)
        assert any("no space left" in line.lower() for line in lines)
        (state / "filler").unlink()
        assert process.wait(timeout=240) == 0, lines
        reader.join()
        assert facts(tmp_path)["resumptions"] == 0
        for name in ("d.safetensors", "loss.jsonl"):
            assert sha256(whole / name) == sha256(tmp_path / name)
    finally:
        if process and process.poll() is None:
            process.kill()
            process.wait()
        subprocess.run(["umount", "-l", state], check=False)


def marker(host, duration, pid=1):
    """A lock file as the library writes it for a holder of any machine."""
    return f"filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken=a\nduration={duration!r}\n"


def quick_locks(monkeypatch, lease):
    for name, value in {"LEASE": lease, "RENEWAL": lease / 4, "POLL": lease / 20}.items():
        monkeypatch.setattr(lock, name, value)


def test_lock_of_a_holder_that_was_killed_here_is_taken_over_at_once(tmp_path, capsys):
    """With the product's own times: nobody waits for a lease of 90 s to end."""
    path = tmp_path / "x.lock"
    program = f"from ambient.jobs import lock\nwith lock.held(lock.Path({str(path)!r})): input()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as holder:
        wait_until(lambda: path.exists() and path.stat().st_size > 0)
        assert SoftFileLease(path, lease_duration=lock.LEASE).owner.pid == holder.pid
        holder.kill()
    assert path.exists()
    began = time.monotonic()
    with lock.held(path) as waited:
        assert not waited and time.monotonic() - began < 10
    assert not path.exists() and capsys.readouterr().err == ""


@pytest.mark.parametrize("left", [marker("elsewhere", 0.6), "", '{"host": "elsewhere", "pid": 1}'])
def test_lock_of_another_machine_is_taken_over_once_it_stands_still(tmp_path, monkeypatch, capsys, left):
    """An empty file too, which a machine leaves that loses its power, and one that is no lock of ours."""
    quick_locks(monkeypatch, lease=0.6)
    path = tmp_path / "x.lock"
    path.write_text(left)
    began = time.monotonic()
    with lock.held(path) as waited:
        assert waited and 0.6 <= time.monotonic() - began < 20
        assert SoftFileLease(path, lease_duration=0.6).owner.pid == os.getpid()
    assert not path.exists()
    host = "elsewhere, process 1" if left.startswith("filelock") else "unknown, process unknown"
    assert f"{path}: another copy of this job runs (host {host}); waiting" in capsys.readouterr().err


def test_holder_that_renews_its_lock_is_waited_for(tmp_path, monkeypatch):
    """Another machine's, for four times as long as a lease lasts."""
    quick_locks(monkeypatch, lease=0.5)
    path = tmp_path / "x.lock"
    path.write_text(marker("elsewhere", 0.5))

    def renew():
        for _ in range(20):
            time.sleep(0.1)
            os.utime(path)
        path.unlink()

    other, began = threading.Thread(target=renew), time.monotonic()
    other.start()
    with lock.held(path) as waited:
        assert waited and time.monotonic() - began >= 2
    other.join()


def test_told_to_stop_while_it_waits_it_leaves_with_75(tmp_path, monkeypatch):
    quick_locks(monkeypatch, lease=8.0)
    path = tmp_path / "x.lock"
    path.write_text(marker("elsewhere", 8.0))
    threading.Timer(0.3, stopping.ask, ["SIGTERM"]).start()
    with stopping.watch(), pytest.raises(SystemExit) as stopped, lock.held(path):
        pass
    assert stopped.value.code == stopping.RESUME and path.read_text() == marker("elsewhere", 8.0)


@pytest.mark.parametrize("taken_over", [True, False])
def test_holder_whose_lock_is_lost_stops(tmp_path, monkeypatch, taken_over):
    quick_locks(monkeypatch, lease=0.4)
    path = tmp_path / "x.lock"
    with stopping.watch(), lock.held(path):
        path.unlink()
        if taken_over:
            path.write_text(marker("elsewhere", 0.4))
        wait_until(lambda: stopping.reason() is not None, 10)
        assert ("another copy has taken over" if taken_over else "is lost") in stopping.reason()
    assert path.exists() == taken_over  # it is the other's


# --- ranks --------------------------------------------------------------------------------------------


def test_two_ranks_train_what_one_does(inputs, tmp_path):
    """Twenty steps with dropout and augmentation on two ranks: equal to one but for the order of sums."""
    made = training(steps=20)
    found = {}
    for number in (1, 2):
        folder = tmp_path / str(number)
        done = subprocess.run(command(inputs, folder, made, number), env=environment(), text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stderr[-3000:]
        found[number] = read_weights(folder / "d.safetensors")
        losses = [json.loads(line)["loss"] for line in (folder / "loss.jsonl").read_text().splitlines()]
        found[number]["losses"] = torch.tensor(losses)
    assert found[1].keys() == found[2].keys()
    for name, one in found[1].items():
        torch.testing.assert_close(found[2][name], one, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word of a parent's end is Linux's")
@pytest.mark.parametrize("at_work", [False, True])
def test_ranks_do_not_outlive_a_launcher_that_is_killed(inputs, tmp_path, at_work):
    """Before they have met they would wait for each other for days; at work they save, and can go on."""
    line = command(inputs, tmp_path, training(steps=20_000), 2)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(line, env=environment(), **silent) as job:
        wait_until(lambda: len(children(job.pid)) == 2 and (seen(tmp_path) > 0 or not at_work), 120)
        ranks = children(job.pid)
        job.kill()
    wait_until(lambda: not any(Path(f"/proc/{rank}").exists() for rank in ranks), 60)
    assert bool(list((tmp_path / "state").glob("*/checkpoint-*.json"))) == at_work


def children(pid):
    """The processes that a process started, of its main thread."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_one_rank_is_alone():
    assert shares.WHOLE.rows(7) == slice(0, 7) and ranks.agree(None) is None and ranks.agree("x") == "x"
