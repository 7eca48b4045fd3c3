"""Fixtures of several files."""

import contextlib
import os
import shutil
from pathlib import Path

import finished
import numpy as np
import pytest
import results_tree

from ambient.audit.rederive import Rederive
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, write
from ambient.jobs import progress, stopping
from ambient.settings import Experiments
from ambient.storage.files import digest, sha256

if not stopping.is_on("AMBIENT_TEST_GPU"):  # the tests know what a CPU computes, bit by bit
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


ROOT = Path(__file__).parents[1]
SLURM = {"sinfo": 'echo "cpu*|1-00:00:00|(null)"; echo "gpu|2-00:00:00|gpu:a100:4"',
         "scontrol": 'echo "MinJobAge = 30 sec"',
         "sbatch": 'case "$*" in *--account=none*) echo "Invalid account" >&2; exit 1;; esac',
         "squeue": "true", "srun": "true", "scancel": "true", "sacctmgr": "exit 1", "sshare": "exit 1"}
DRAWN: dict[str, dict[str, str]] = {}  # digests of figures, by the digest of all that they are drawn from


def pytest_xdist_auto_num_workers():
    """One process more than there are processors: tests of the workflow mostly wait for its jobs."""
    return os.cpu_count() + 1


def pytest_collection_modifyitems(items):
    """Files that take minutes come first: begun last, they would leave the other processes without work."""
    items.sort(key=lambda item: item.get_closest_marker("minutes") is None)


@pytest.fixture(autouse=True)
def progress_is_of_no_job(monkeypatch):
    """Lines of progress are called after the last job that this process ran, which another test began."""
    monkeypatch.setattr(progress, "_job", [])


@pytest.fixture(autouse=True)
def equal_figures_are_drawn_once(request, monkeypatch):
    """An audit draws every figure again, for seconds. Of equal files and settings that is done once.

    A test marked `draws_anew` draws in any case: where it asks whether a tree's place shows in its figures.
    """
    if request.node.get_closest_marker("draws_anew"):
        return
    draw = Rederive.draw

    def drawn_once(self, result):
        read = self.inputs(result, *result.manifest["inputs"])
        files = {role: [sha256(path) for path in paths] for role, paths in read.items()}
        key = digest([result.manifest["spec"], sorted(result.manifest["outputs"]), files])
        if key not in DRAWN:
            DRAWN[key] = draw(self, result)
        return DRAWN[key]

    monkeypatch.setattr(Rederive, "draw", drawn_once)


@pytest.fixture(scope="session")
def mixture(tmp_path_factory):
    """60 8x8 images, 20 clean, 40 of them lowered in contrast."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    corrupted = (np.arange(60) >= 20).astype(np.uint8)
    images[20:] = images[20:] // 4 + 96
    path = tmp_path_factory.mktemp("data") / "mixture.safetensors"
    write(path, Dataset(images, np.arange(60) % 3, np.arange(100, 160), corrupted))
    return path


@pytest.fixture(scope="module")
def annotations(mixture):
    """Annotations of these: of the clean ones 0, of the others rising levels."""
    path = mixture.parent / "annotations.safetensors"
    sigma_min = np.where(np.arange(60) < 20, 0.0, np.linspace(0.2, 2.0, 60))
    Annotations(np.arange(100, 160), sigma_min, np.zeros(60)).write(path)
    return path


@pytest.fixture(scope="session")
def paper():
    """The experiments of the paper's scale."""
    return Experiments(ROOT / "config", "paper")


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A finished results tree in miniature, to be read only."""
    folder = tmp_path_factory.mktemp("o") / "results/tiny"
    results_tree.make(folder)
    return folder


@pytest.fixture
def tree(original, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "results/tiny"))


@pytest.fixture(scope="session")
def finished_scale(tmp_path_factory):
    """A folder in which the scale `away` has run up to its table and figures."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder):
        finished.configure(folder)
        finished.make(folder, "results/away/table2a.csv")
    return folder


@pytest.fixture
def away(finished_scale, monkeypatch):
    """That folder, in which the test works; it leaves it as it is."""
    monkeypatch.chdir(finished_scale)
    return finished_scale


@pytest.fixture
def copy(finished_scale, tmp_path, monkeypatch):
    """A copy of it, in which the test works and may write."""
    monkeypatch.chdir(shutil.copytree(finished_scale, tmp_path / "copy"))
    return tmp_path / "copy"


@pytest.fixture
def slurm_commands(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands, for what the doctor makes of their answers; writes others."""
    def write(**commands):
        for name, text in commands.items():
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
    write(**SLURM)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return write
