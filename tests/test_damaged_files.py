"""Weights, arrays and JSON from elsewhere, cut, or of another kind: one line that names the file."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from ambient.annotation.classifier import Classifier, NoiseClassifier
from ambient.data import annotations, datasets
from ambient.diffusion.denoiser import Denoiser
from ambient.evaluation import small_nets
from ambient.specs import strict
from ambient.storage.files import read_arrays, read_json, write_arrays
from ambient.training import loading
from ambient.training.build import build_network
from ambient.training.weights import save_weights
from tests.tiny import CLASSIFIER, NETWORK, TRAINING

CPU = torch.device("cpu")
ABOUT = {"resolution": 8, "channels": 1, "num_classes": 0}


def denoiser(path, **changes):
    network = build_network(NETWORK, 8, 1, 0, True, torch.Generator().manual_seed(0))
    tensors = {f"160/{k}": v for k, v in Denoiser(network, 0.5).state_dict().items()}
    save_weights(path, tensors, ABOUT | {"spec": strict.plain(TRAINING)} | changes)


def classifier(path, **changes):
    encoder = build_network(NETWORK, 8, 1, 0, True, torch.Generator().manual_seed(0), encoder_only=True)
    save_weights(path, NoiseClassifier(encoder, torch.Generator()).state_dict(),
                 ABOUT | {"spec": strict.plain(CLASSIFIER), "offsets": [[1.0, 0.0]]} | changes)


def detector(path, **changes):
    save_weights(path, small_nets.SmallNets(1, 1, 8, 4, 3).state_dict(),
                 {"members": 1, "channels_in": 1, "channels": 8, "features": 4, "classes": 3} | changes)


def dataset(path):
    datasets.write(path, datasets.Dataset(np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, int), np.arange(2)))


READERS = {
    "denoiser": (denoiser, lambda path: loading.load_denoiser(path, None, CPU)),
    "classifier": (classifier, lambda path: Classifier(path, CPU)),
    "detector": (detector, small_nets.features),
    "dataset": (dataset, datasets.read),
    "annotations": (lambda path: annotations.Annotations(
        np.arange(2), np.zeros(2), np.zeros(2)).write(path), annotations.Annotations.read),
    "arrays": (lambda path: write_arrays(path, {"mean": np.zeros(2)}),
               lambda path: read_arrays(path, ("mean",))),
}


def refused(read, path, *words):
    with pytest.raises(ValueError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)) and len(message) < 600
    for word in words:
        assert word in message


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("damage", [
    lambda whole: b"", lambda whole: whole[:5], lambda whole: whole[:-9], lambda whole: b"junk" * 50,
    lambda whole: struct.pack("<Q", 2**63) + whole[8:], lambda whole: struct.pack("<Q", 2**40) + whole[8:],
    lambda whole: whole[:8] + b"{" * 60 + whole[68:]])
def test_a_damaged_file_is_one_line(kind, damage, tmp_path):
    write, read = READERS[kind]
    path = tmp_path / "x.safetensors"
    write(path)
    read(path)
    path.write_bytes(damage(path.read_bytes()))
    refused(read, path)


@pytest.mark.parametrize("kind", READERS)
def test_a_file_of_another_kind_is_one_line(kind, tmp_path):
    _, read = READERS[kind]
    for other, (write, _) in READERS.items():
        path = tmp_path / f"{other}.safetensors"
        write(path)
        if other != kind:
            refused(read, path)


@pytest.mark.parametrize(("write", "read", "changes", "words"), [
    (denoiser, "denoiser", {"spec": 3}, ("keys and values",)),
    (denoiser, "denoiser", {"spec": {}}, ("missing key",)),
    (denoiser, "denoiser", {"resolution": 7}, ("can't be halved",)),
    (denoiser, "denoiser", {"channels": 3}, ("size mismatch",)),
    (classifier, "classifier", {"offsets": [1]}, ()),
    (classifier, "classifier", {"offsets": None}, ()),
    (detector, "detector", {"channels": 16}, ("size mismatch",)),
    (detector, "detector", {"features": -1}, ()),
])
def test_a_description_that_does_not_fit_its_tensors(write, read, changes, words, tmp_path):
    write(tmp_path / "x.safetensors", **changes)
    refused(READERS[read][1], tmp_path / "x.safetensors", *words)


def test_a_description_that_is_missing_something_or_is_no_json(tmp_path):
    from safetensors.numpy import save_file
    path = tmp_path / "x.safetensors"
    for text in ("{", "[1]", "{}", "3", json.dumps({"spec": strict.plain(TRAINING)})):
        save_file({"a": np.zeros(2, np.float32)}, path, metadata={"ambient": text})
        for kind in ("denoiser", "classifier", "detector"):
            refused(READERS[kind][1], path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{", b"[" * 100_000])
def test_a_damaged_json_file_is_one_line(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    refused(read_json, tmp_path / "x.json")


def test_text_is_utf_8_whatever_the_locale_says(tmp_path):
    code = ("import sys; from ambient.storage.files import read_json, write_text; "
            "write_text(sys.argv[1], chr(34) + chr(177) + chr(34)); "
            "assert read_json(sys.argv[1]) == chr(177)")
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "x.json"], check=True, env=environment)
    assert (tmp_path / "x.json").read_bytes() == b'"\xc2\xb1"'
