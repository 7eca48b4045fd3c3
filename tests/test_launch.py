"""Processes of a job: who is a rank, how one ends, which signals ask it to stop; the files it makes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import TORCHRUN

from ambient.jobs import launch, records, stage, stopping
from ambient.specs.stages import STAGES
from ambient.storage.files import write_arrays

ROOT = Path(__file__).parents[1]
SRUN = {"AMBIENT_SRUN": "1", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1",
        "MASTER_ADDR": "node", "MASTER_PORT": "1"}


@pytest.mark.parametrize(("given", "expected"), [
    ({}, (0, 1, 0)), ({"AMBIENT_SRUN": "0"}, (0, 1, 0)), ({"AMBIENT_SRUN": ""}, (0, 1, 0)),
    ({"RANK": "1"}, (0, 1, 0)), ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1, 0)),
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


def test_a_rank_ends_without_tearing_its_interpreter_down():
    """What it said is written, its status is what was asked for, and nothing registered for the end runs."""
    for leave, status, said in (("pass", 0, ""), ("raise SystemExit(75)", 75, ""),
                                ("raise SystemExit('stage: error: x')", 1, "stage: error: x\n")):
        code = (f"import atexit\nfrom ambient.jobs import launch\natexit.register(print, 'torn down')\n"
                f"with launch.departure(2):\n    print('done', end='')\n    {leave}")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert (done.returncode, done.stdout, done.stderr) == (status, "done", said)


@pytest.mark.parametrize(("given", "raised"), [
    (None, SystemExit), ("", SystemExit), ("0", SystemExit), ("1", ValueError), ("yes", ValueError)])
def test_an_error_shows_where_it_arose_if_that_is_switched_on(given, raised, monkeypatch):
    monkeypatch.delenv("AMBIENT_TRACEBACK", raising=False)
    if given is not None:
        monkeypatch.setenv("AMBIENT_TRACEBACK", given)
    with pytest.raises(raised, match="not valid JSON"):
        stage.begin(STAGES["prepare"], ["--spec", "{", "--state", "s", "--out", "o"])


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
