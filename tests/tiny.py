"""Specifications of tiny networks on 8x8 images, that the tests of training share."""

import dataclasses
from types import SimpleNamespace

from ambient import specs
from ambient.jobs.identity import Identity
from ambient.jobs.state import State
from ambient.stages import train

RECORD = SimpleNamespace(facts={}, external=lambda *arguments: None)


def optimiser(**changes):
    return specs.OptimiserSpec(**{
        "nimg": 160, "batch": 16, "lr": 1e-3, "ramp_nimg": 32, "decay": "cosine", "clip": 1.0,
        "ema_halflife_nimg": 50, "ema_ramp": 0.5, "precision": "float32"} | changes)


NETWORK = specs.NetworkSpec(8, (1, 2), 1, (), 0.1)
AUGMENT = specs.AugmentSpec(0.3, ("scale", "rotate"))
NOISE = specs.NoiseSpec(-0.5, 1.2)
TRAINING = specs.TrainingSpec(NETWORK, AUGMENT, optimiser(), NOISE,
                             specs.LossSpec("ambient", None, 4.0, "sigma_min"), 0.5, (80, 160), 3)
# Of a network that is told captions, in steps that leave patches out.
TOLD = dataclasses.replace(
    TRAINING, augment=specs.AugmentSpec(0.0, ()), network=specs.NetworkSpec.KINDS["dit"].Spec(
        kind="dit", conditional=True, model_channels=16, depth=3, mixer_channels=16, mixer_depth=2,
        caption_channels=10, channels_per_head=8, round_to=8, num_experts=4),
    loss=specs.LossSpec("ambient", None, None, "sigma_min", margin=0.05, reduction="mean"),
    optimiser=optimiser(nimg=64, lr=0.01, algorithm="adamw", weight_decay=0.1, clip=0.25),
    snapshots=(64,), caption_dropout=0.1, mask=0.5, keep_state=True)
CLASSIFIER = specs.ClassifierSpec(NETWORK, AUGMENT, optimiser(), NOISE, "strict", None, "balanced", 0.25,
                                 2, "best", "none", 0)
SAMPLING = specs.SamplingSpec(specs.SamplerSpec(4, 0.01, 20.0, 7.0), 6, (0, 1), "float32")
DETECTOR = specs.DetectorSpec("classifier", features=6, channels=8, nimg=2560, batch=64, lr=3e-3)
DRAWN = (SAMPLING.sampler, SAMPLING.precision)  # what `Draw` is told of it


def kept(folder):
    """The state, in a folder, of a job that a test plays: one job a folder."""
    return State(folder, Identity("test", {"a.py": "1"}))


def run_training(mixture, annotations, folder, made=TRAINING):
    """The weights of a training in a folder, which goes on where it was stopped."""
    train.main(made, RECORD, data=mixture, annotations=annotations, state=kept(folder / "state"),
               out=folder / "denoiser.safetensors", log=folder / "loss.jsonl")
    return folder / "denoiser.safetensors"
