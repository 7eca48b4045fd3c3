"""Stages that encode, score and measure are killed five times, and end with the bytes of one that is not."""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, write
from ambient.evaluation import features
from ambient.jobs.state import State
from ambient.specs import (
    DetectorSpec,
    EncoderSpec,
    EncodingSpec,
    EvaluationSpec,
    LandmarksSpec,
    NoiseFloorSpec,
    ScorerSpec,
)
from ambient.stages import (
    detector,
    encode,
    encoder,
    evaluate,
    landmarks,
    noise_floor,
    reference,
    sample_scores,
    scores,
    train,
)
from ambient.storage.files import sha256, write_arrays
from tests.forks import Ranks
from tests.tiny import RECORD, TRAINING, kept

ROOT = Path(__file__).parents[1]
CODER = EncoderSpec("autoencoder", latent_channels=2, widths=(8,), nimg=16 * 20, batch=16,
                    precision="float32")
LEGIBLE = ScorerSpec(kind="legibility", folds=2, features=8, channels=8, nimg=32 * 20, batch=32, lr=0.01)
CONTRAST = ScorerSpec(kind="measure", measure="contrast", patches=(16,))
NET = DetectorSpec("classifier", features=6, channels=8, nimg=64 * 10, batch=64, lr=3e-3)
CERTAIN = dataclasses.replace(TRAINING, loss=dataclasses.replace(TRAINING.loss, uncertainty=True))
STAGES = ("encoder", "encode", "legibility", "contrast", "sample_scores", "reference", "evaluate",
          "landmarks", "noise_floor")
KILLS = 5


def making(stage, inputs, folder):
    """What runs a stage in a folder."""
    state, out = kept(folder / "state"), folder / "out"
    none = {"detector": None, "given": None}
    return {
        "encoder": lambda: encoder.main(CODER, RECORD, data=inputs / "data", weights=None, state=state,
                                        out=out),
        "encode": lambda: encode.main(EncodingSpec("autoencoder"), RECORD, data=inputs / "data",
                                      encoder=inputs / "out", state=state, out=out),
        "legibility": lambda: scores.main(LEGIBLE, RECORD, data=inputs / "data", state=state, out=out,
                                          table_out=folder / "table", **none),
        "contrast": lambda: scores.main(CONTRAST, RECORD, data=inputs / "data", state=state, out=out,
                                        table_out=folder / "table", **none),
        "sample_scores": lambda: sample_scores.main(CONTRAST, RECORD, samples=inputs / "samples", state=state,
                                                    out=out, **none),
        "detector": lambda: detector.main(NET, RECORD, data=inputs / "data", weights=None, state=state,
                                          out=out),
        "reference": lambda: reference.main(NET, RECORD, data=inputs / "data", detector=inputs / "net/out",
                                            state=state, out=out),
        "evaluate": lambda: evaluate.main(
            EvaluationSpec("fd-net", NET, (0, 1)), RECORD, samples=inputs / "samples", state=state,
            detector=inputs / "net/out", reference=inputs / "moments/out", out=folder / "metrics",
            moments_out=out),
        "landmarks": lambda: landmarks.main(
            LandmarksSpec("fd-net", NET, 20, 2), RECORD, data=inputs / "data", mixture=inputs / "mixture",
            detector=inputs / "net/out", state=state, out=out),
        "train": lambda: train.main(
            dataclasses.replace(CERTAIN, seed=int(folder.name)), RECORD, data=inputs / "mixture",
            annotations=inputs / "annotations", state=state, out=out, log=folder / "log"),
        "noise_floor": lambda: noise_floor.main(
            NoiseFloorSpec(("a", "b"), 0.5, 0.1, 2.0, 3, 30, 0), RECORD, data=inputs / "mixture",
            annotations=inputs / "annotations", denoisers=[inputs / f"{seed}/out" for seed in (0, 1)],
            state=state, out=out)}[stage]


def cut_small():
    """Have stages save after few images."""
    encode.SHARD = type(CONTRAST).SHARD = type(LEGIBLE).SHARD = features.SHARD = 8
    features.PART = 4


def share(stage, inputs, folder):
    """Run a stage as one of several ranks."""
    cut_small()
    making(stage, inputs, folder)()


def of_a_child(work):
    """The status of a process that does some work, a copy of this one, which has no threads yet."""
    if not (number := os.fork()):
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


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


def main(folder):
    """Kill each stage in a folder five times and let it end; and once without. Prints how attempts ended."""
    importlib.import_module("torch._dynamo")  # as every optimiser does: once here, and not in each child
    inputs, found = folder / "inputs", {}
    cut_small()
    for stage, place in (("encoder", "."), ("detector", "net"), ("reference", "moments"), ("train", "0"),
                         ("train", "1")):
        of_a_child(lambda stage=stage, place=place: making(stage, inputs, inputs / place)())
    for stage in STAGES:
        work = making(stage, inputs, folder / "killed" / stage)
        found[stage] = [of_a_child(lambda work=work: killed(work)) for _ in range(KILLS)]
        found[stage] += [(folder / "killed" / stage / "out").exists(), of_a_child(work),
                         of_a_child(making(stage, inputs, folder / "whole" / stage))]
    print(json.dumps(found))


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """96 random images of three classes, 80 of them as samples, half of them corrupted in a mixture; and what
    `main` makes of them."""
    folder = tmp_path_factory.mktemp("killed")
    images = np.random.default_rng(0).integers(0, 256, (96, 1, 16, 16), np.uint8)
    about, bad = (np.arange(96) % 3, np.arange(96)), np.arange(96) % 2
    write(folder / "inputs/data", Dataset(images, *about))
    write(folder / "inputs/mixture", Dataset(images, *about, corrupted=bad.astype(np.uint8)))
    Annotations(np.arange(96), 0.5 * bad, np.zeros(96)).write(folder / "inputs/annotations")
    write_arrays(folder / "inputs/samples", {"64": images[:80].reshape(2, 40, 1, 16, 16)})
    done = subprocess.run([sys.executable, "-m", "tests.test_killed_stages", folder], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, check=True, timeout=600, env=os.environ | {
                              "AMBIENT_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"})
    return folder, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that is made of another")
@pytest.mark.parametrize("stage", STAGES)
def test_killed_five_times_it_ends_with_the_same_bytes(stage, ended):
    folder, statuses = ended
    *attempts, there, after, alone = statuses[stage]
    assert attempts == [-signal.SIGKILL] * KILLS and not there and (after, alone) == (0, 0)
    assert sha256(folder / "killed" / stage / "out") == sha256(folder / "whole" / stage / "out")


@pytest.mark.parametrize("stage", ["landmarks", "noise_floor"])
def test_ranks_that_share_it_end_with_the_bytes_of_one(stage, ended):
    shared = ended[0] / f"ranks-{stage}"
    Ranks(3, shared, share, stage, ended[0] / "inputs", shared).done()
    assert len(list(shared.glob("state/*/*.safetensors"))) >= 12
    assert sha256(shared / "out") == sha256(ended[0] / "whole" / stage / "out")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
