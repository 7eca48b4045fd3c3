"""Weights of a training, its snapshots one after the other in one file."""

import subprocess
import sys

import torch

from ambient.training.weights import join_weights, read_description, read_weights, save_weights

# Eight pieces of 32 MiB. Printed: the most memory that joining them took, MiB.
JOIN = """
import sys, torch
from pathlib import Path
from ambient.provenance.manifest import peak_memory
from ambient.training.weights import join_weights, save_weights
pieces = [Path(sys.argv[1]) / str(k) for k in range(8)]
for k, path in enumerate(pieces):
    save_weights(path, {f"{k}/{i}": torch.full((2**20,), float(k)) for i in range(8)}, {})
before = peak_memory()
join_weights(Path(sys.argv[1]) / "all", pieces, {})
print((peak_memory() - before) // 2**20)
"""


def test_joined_pieces_are_as_if_saved_at_once(tmp_path):
    """To the byte: in float32 and float16, with whole numbers, truth values and numbers without an axis."""
    pieces = [{"160/a": torch.arange(6.0).reshape(2, 3), "160/step": torch.tensor(7.0)},
              {"320/a": torch.arange(6.0).half(), "320/seen": torch.tensor([2**40]),
               "320/x": torch.zeros(0, 2)},
              {"state/on": torch.tensor([True, False]), "state/b": torch.arange(12.0)[::2]}]
    about = {"spec": {"seed": 1}, "name": "é"}
    for k, tensors in enumerate(pieces):
        save_weights(tmp_path / str(k), tensors, {})
    save_weights(tmp_path / "at once", pieces[0] | pieces[1] | pieces[2], about)
    join_weights(tmp_path / "joined", [tmp_path / str(k) for k in range(3)], about)
    assert (tmp_path / "joined").read_bytes() == (tmp_path / "at once").read_bytes()
    assert read_description(tmp_path / "joined") == about
    assert read_weights(tmp_path / "joined", "320/")["seen"].tolist() == [2**40]


def test_joining_takes_no_memory_of_the_size_of_all(tmp_path):
    """256 MiB, of which no more than a block of rows is in memory."""
    grown = int(subprocess.run([sys.executable, "-c", JOIN, tmp_path], check=True, text=True,
                               stdout=subprocess.PIPE).stdout)
    assert (tmp_path / "all").stat().st_size > 2**28 and grown < 100
