"""Stages that encode and score are killed five times, and end with the bytes of one that is not."""

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest

from ambient.data.datasets import Dataset, write
from ambient.jobs.state import State
from ambient.specs import EncoderSpec, EncodingSpec, ScorerSpec
from ambient.stages import encode, encoder, sample_scores, scores
from ambient.storage.files import sha256, write_arrays
from tests.tiny import RECORD, kept

CODER = EncoderSpec("autoencoder", latent_channels=2, widths=(8,), nimg=16 * 20, batch=16,
                    precision="float32")
LEGIBLE = ScorerSpec(kind="legibility", folds=2, features=8, channels=8, nimg=32 * 20, batch=32, lr=0.01)
CONTRAST = ScorerSpec(kind="measure", measure="contrast", patches=(16,))
KILLS = 5


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """96 random images of three classes, and 40 samples, with an encoder for them."""
    folder = tmp_path_factory.mktemp("inputs")
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (96, 1, 16, 16), np.uint8)
    write(folder / "data", Dataset(images, np.arange(96) % 3, np.arange(96)))
    write_arrays(folder / "samples", {"64": images[:80].reshape(2, 40, 1, 16, 16)})
    making("encoder", folder, folder / "made")()
    return folder


def making(stage, inputs, folder):
    """What runs a stage in a folder."""
    state, out = kept(folder / "state"), folder / "out"
    none = {"detector": None, "given": None}
    return {
        "encoder": lambda: encoder.main(CODER, RECORD, data=inputs / "data", weights=None, state=state,
                                        out=out),
        "encode": lambda: encode.main(EncodingSpec("autoencoder"), RECORD, data=inputs / "data",
                                      encoder=inputs / "made/out", state=state, out=out),
        "legibility": lambda: scores.main(LEGIBLE, RECORD, data=inputs / "data", state=state, out=out,
                                          table_out=folder / "table", **none),
        "contrast": lambda: scores.main(CONTRAST, RECORD, data=inputs / "data", state=state, out=out,
                                        table_out=folder / "table", **none),
        "sample_scores": lambda: sample_scores.main(CONTRAST, RECORD, samples=inputs / "samples", state=state,
                                                    out=out, **none)}[stage]


def killed(work):
    """Do the work until the second piece of state is written, checkpoints among them; then die at once."""
    put, written = State.put, []

    def counting(self, *arguments):
        put(self, *arguments)
        written.append(arguments[0])
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    State.put = counting
    work()


@pytest.mark.skipif(sys.platform != "linux", reason="a process that is made of this one")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("stage", ["encoder", "encode", "legibility", "contrast", "sample_scores"])
def test_killed_five_times_it_ends_with_the_same_bytes(stage, inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("AMBIENT_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(encode, "SHARD", 8)
    for spec in (CONTRAST, LEGIBLE):
        monkeypatch.setattr(type(spec), "SHARD", 8)
    making(stage, inputs, tmp_path / "whole")()
    work = making(stage, inputs, tmp_path / "killed")
    for _ in range(KILLS):
        process = multiprocessing.get_context("fork").Process(target=killed, args=(work,))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed/out").exists()
    work()
    assert sha256(tmp_path / "killed/out") == sha256(tmp_path / "whole/out")
