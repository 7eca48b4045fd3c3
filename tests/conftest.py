"""Fixtures of several files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import results_tree

from ambient.data.datasets import Dataset, write

if "AMBIENT_TEST_GPU" not in os.environ:  # the tests know what a CPU computes, bit by bit
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


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
