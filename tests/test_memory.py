"""What a long job frees is there for its next step."""

import ctypes
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from ambient.jobs import memory, stage
from ambient.training import parts

# Steps of 64 MiB in blocks of 4 MiB. Printed: the page faults of all steps but the first.
STEPS = """
import resource, sys
from ambient.jobs import memory
if sys.argv[1] == "kept":
    memory.keep_freed()
faults = []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"x") * 2**22 for _ in range(16)]
    del blocks
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[1:]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_freed_memory_is_kept():
    given_back, kept = (int(subprocess.run([sys.executable, "-c", STEPS, how], check=True, text=True,
                                           stdout=subprocess.PIPE).stdout) for how in ("plain", "kept"))
    assert given_back >= 4 * 32, "not even in huge pages of 2 MiB"
    assert kept < given_back / 10, (given_back, kept)


@pytest.mark.parametrize("resumes", [True, False])
def test_long_jobs_keep_it_from_their_start(resumes, monkeypatch):
    done = []
    monkeypatch.setattr(memory, "keep_freed", lambda: done.append("kept"))
    job = object.__new__(stage.Job)
    job.name, job.resumes, job.execute = "ambient.toy", resumes, lambda main, stack: done.append("worked")
    job.run(None)
    assert done == ["kept", "worked"][not resumes:]


def test_a_step_that_is_tried_again_holds_one_reserve(monkeypatch):
    """What the first try held beside the step is given back before the second one asks for as much."""
    held, alive = [], []

    def empty(size, **_):
        alive.append(sum(one() is not None for one in held))
        reserve = Reserve()
        held.append(weakref.ref(reserve))
        return reserve

    def backward(loss_of, nimg, parts, exchanged):
        if parts < 4:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(parts, "torch", SimpleNamespace(
        empty=empty, uint8=None, OutOfMemoryError=torch.OutOfMemoryError, cuda=torch.cuda))
    monkeypatch.setattr(parts, "backward", backward)
    assert parts.that_fit(None, torch.nn.Linear(1, 1), 0, 8, 1, 2**20) == (4, True)
    assert alive == [0, 0, 0]


class Reserve:
    """What can be weakly referred to."""
