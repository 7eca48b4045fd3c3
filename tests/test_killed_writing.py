"""A process that is killed while it writes a large file leaves nothing that nobody removes."""

import signal
import subprocess
import sys

import pytest
import torch

from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.storage.files import remove_temporaries

# The system kills a process that writes beyond a limit: here in the middle of 8 MiB.
KILLED = """
import resource, signal, sys
from pathlib import Path
import torch
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.storage.files import write_arrays
from ambient.training.weights import save_weights
folder, numbers = Path(sys.argv[1]), torch.zeros(2**21)
state = State(folder, Identity("test", {"a.py": "1"})) if sys.argv[2] == "state" else None
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**22, 2**22))
if state:
    state.put("checkpoint-16", {"a": numbers})
elif sys.argv[2] == "weights":
    save_weights(folder / "out", {"a": numbers}, {})
else:
    write_arrays(folder / "out", {"a": numbers.numpy()})
"""


def kept(folder, alone=True):
    """The state of the job, which holds its lock."""
    return State(folder, Identity("test", {"a.py": "1"}), alone)


def killed(folder, what):
    """Write in a process that is killed meanwhile."""
    ended = subprocess.run([sys.executable, "-c", KILLED, folder, what], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGXFSZ, ended.stderr


@pytest.mark.parametrize("what", ["weights", "arrays"])
def test_the_next_attempt_knows_all_that_is_left_of_an_output(what, tmp_path):
    killed(tmp_path, what)
    assert len(list(tmp_path.iterdir())) == 1, "one file that the next attempt knows by its name"
    remove_temporaries(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_next_attempt_removes_half_a_checkpoint(tmp_path):
    killed(tmp_path, "state")
    folder, = (path for path in tmp_path.iterdir() if path.is_dir())
    assert len(list(folder.iterdir())) == 2
    kept(tmp_path, alone=False)  # as a command that holds no lock: another copy may be at work
    assert len(list(folder.iterdir())) == 2
    assert kept(tmp_path).checkpoints() == []
    assert [path.name for path in folder.iterdir()] == ["identity.json"]


def test_a_piece_without_its_record_is_removed_and_nothing_else(tmp_path):
    """Killed between the two, and by several ranks: of a folder, too. What was set aside is kept."""
    state = kept(tmp_path)
    for position in (16, 32, 48):
        state.put(f"checkpoint-{position}", {"a": torch.ones(3)}, {"at": position})
    state.note("parts", {"ranks": 2, "parts": 4})
    state.set_aside("checkpoint-16", "asked for by this test")
    (state.folder / "checkpoint-48.json").unlink()
    (state.folder / "checkpoint-64").mkdir()
    (state.folder / "checkpoint-64" / "shard-00001").write_bytes(b"rows")
    (state.folder / "loss.jsonl").write_text("")
    assert {path.name for path in kept(tmp_path).folder.iterdir()} == {
        "identity.json", "parts.json", "loss.jsonl", "checkpoint-32.json", "checkpoint-32.safetensors",
        "checkpoint-16.json.aside-1", "checkpoint-16.safetensors.aside-1"}
    assert kept(tmp_path).facts("checkpoint-32") == {"at": 32}
