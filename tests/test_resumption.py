"""A training that was stopped goes on from its newest good checkpoint."""

import os
import signal
import subprocess
import time
from pathlib import Path

import torch
from tiny import TRAINING, optimiser

from ambient import specs
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.specs import strict
from ambient.storage.files import sha256
from tests import commands

ROOT = Path(__file__).parents[1]


def test_killed_training_ends_in_the_same_bytes(mixture, annotations, tmp_path):
    """SIGKILL at five moments, resumed by the same command: equal digests, few steps done twice."""
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "optimiser": strict.plain(optimiser(nimg=16 * 200)), "snapshots": [16 * 100, 16 * 200]}, "test")
    inputs = {"data": mixture, "annotations": annotations}
    environment = os.environ | {"AMBIENT_CHECKPOINT_SECONDS": "0.05", "OMP_NUM_THREADS": "1",
                                "PYTHONPATH": str(ROOT)}

    def command(name):
        folder = tmp_path / name
        return commands.stage("train", made, **inputs, state=folder / "state", out=folder / "d.safetensors",
                              log=folder / "loss.jsonl")

    subprocess.run(command("whole"), check=True, env=environment, capture_output=True)
    state = tmp_path / "killed" / "state"
    for kill in range(1, 6):
        process = subprocess.Popen(command("killed"), env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        goal, deadline = 16 * 30 * kill + kill * 7, time.monotonic() + 120
        while newest(state) < goal and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        assert process.poll() is None, "training ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = subprocess.run(command("killed"), check=True, env=environment,
                          capture_output=True, text=True)
    assert "resuming after" in last.stdout + last.stderr
    for name in ("d.safetensors", "loss.jsonl"):
        assert sha256(tmp_path / "whole" / name) == sha256(tmp_path / "killed" / name)


def newest(state):
    found = [int(path.stem.split("-")[1]) for path in state.glob("*/checkpoint-*.json")]
    return max(found, default=0)


def test_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, capsys):
    state = State(tmp_path, Identity("job", {"a.py": "1"}))
    for position in (10, 20, 30):
        state.save(position, {"x": torch.full((4,), float(position))}, {})
    assert state.checkpoints() == [30, 20]
    path = state.folder / "checkpoint-30.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert state.newest() == 20 and state.get("checkpoint-20")[0]["x"][0] == 20
    assert "checkpoint-30.safetensors" in capsys.readouterr().err


def test_state_of_other_settings_is_kept_and_not_used(tmp_path, capsys):
    State(tmp_path, Identity("a", {})).save(10, {"x": torch.zeros(1)}, {})
    other = State(tmp_path, Identity("b", {}))
    assert other.newest() == 0 and "kept, not used" in capsys.readouterr().err
    assert State(tmp_path, Identity("a", {})).newest() == 10
