"""What a long job frees is there for its next step."""

import ctypes
import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ambient.jobs import memory, stage
from ambient.training import parts
from tests.clones import clone

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


@pytest.mark.parametrize("own, found", [(None, "glibc.malloc.hugetlb=1"), ("glibc.malloc.check=0",) * 2])
def test_jobs_ask_for_large_pages_unless_somebody_has_set_what_glibc_does(own, found, tmp_path, monkeypatch):
    """In the place of `python`, which the workflow's jobs call, is a program that notes what it is told."""
    workflow, noted, programs = clone(tmp_path / "clone", "tiny"), tmp_path / "noted", tmp_path / "bin"
    programs.mkdir()
    program = programs / "python"
    program.write_text(f'#!/bin/sh\necho "$GLIBC_TUNABLES" > {noted}\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    snakemake = [Path(sys.executable).parent / "snakemake", "--cores", "1"]
    done = subprocess.run([*snakemake, "--config", "scale=tiny", "--", "results/tiny/theory.png"],
                          cwd=workflow, capture_output=True, text=True)
    assert noted.is_file(), done.stderr
    assert noted.read_text().strip() == found


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
