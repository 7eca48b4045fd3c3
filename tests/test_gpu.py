"""What a GPU computes: near to the CPU's numbers, and the same bits however often it is interrupted.

A GPU is used where it is asked for: `AMBIENT_TEST_GPU=1 python -m pytest tests/test_gpu.py`. Without one the
CPU takes its place, so that the tests themselves stay sound. What only a GPU can show is skipped then.
"""

import copy
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import CLASSIFIER, DRAWN, NOISE, RECORD, TRAINING, kept, optimiser

from ambient import specs
from ambient.annotation.classifier import Classifier
from ambient.annotation.trajectories import Dense
from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.networks import operators
from ambient.diffusion.randomness import torch_generator
from ambient.evaluation import features, small_nets
from ambient.provenance import manifest
from ambient.specs import strict
from ambient.stages import classifier, detector, sample, train
from ambient.storage.files import sha256
from ambient.training import hardware, loading
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_network
from ambient.training.loop import Fit
from ambient.training.points import Points
from ambient.training.weights import read_weights
from benchmarks import works
from tests import commands

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU, or AMBIENT_TEST_GPU is not set")
ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def annotations(mixture):
    path = mixture.parent / "annotations.safetensors"
    Annotations(np.arange(100, 160), np.where(np.arange(60) < 20, 0.0, 0.5), np.zeros(60)).write(path)
    return path


@pytest.fixture(scope="module")
def trained(mixture, annotations, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train.main(TRAINING, RECORD, data=mixture, annotations=annotations, state=kept(folder / "state"),
               out=folder / "denoiser.safetensors", log=folder / "loss.jsonl")
    return folder / "denoiser.safetensors"


def apart(a, b):
    """|a - b| / |b|, on the CPU."""
    a, b = (t.detach().cpu().double() for t in (a, b))
    return ((a - b).norm() / b.norm()).item()


# --- one evaluation -----------------------------------------------------------------------------------


def network():
    """Attention, dropout, all ways of resampling; the layers that start near zero do not."""
    made = specs.NetworkSpec(32, (1, 2), 2, (8,), 0.1)
    built = build_network(made, 16, 3, 0, False, torch_generator("cpu", 0))
    for name, weight in built.named_parameters():
        if name.endswith(("conv1.weight", "proj.weight", "aux_conv.weight")):
            torch.nn.init.normal_(weight, std=0.05, generator=torch_generator("cpu", name))
    return built.train()


def evaluated(built, masks, where, precision="float32"):
    """(output, gradient of its mean square by all weights) for the same eight images."""
    x = torch.randn(8, 3, 16, 16, generator=torch_generator("cpu", 1)).to(where)
    levels, masks = torch.linspace(-1, 1, 8, device=where), [mask.to(where) for mask in masks]
    with hardware.autocast(precision, where):
        out = built(x, levels, masks=masks).float()
    gradients = torch.autograd.grad(out.square().mean(), list(built.parameters()))
    return out, torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_gpu)])
def test_network_and_gradient_are_those_of_the_cpu(compiled):
    where, reference = hardware.device(), network()
    ours = copy.deepcopy(reference).to(where)
    masks = reference.masks(8, Blocks(slice(0, 8), "cpu", 2).bernoulli)
    assert len(masks) > 10
    if compiled:
        hardware.compile_for(ours, 10**9)
    expected = evaluated(reference, masks, CPU)
    for found, wanted in zip(evaluated(ours, masks, where), expected, strict=True):
        assert apart(found, wanted) < 1e-4  # with TF32 ten times as much
    # Where a processor has no bfloat16, float32 takes its place.
    least = 1e-4 if hardware.has_bfloat16(where) else -1
    for found, wanted in zip(evaluated(ours, masks, where, "bfloat16"), expected, strict=True):
        assert least < apart(found, wanted) < 0.05


@needs_gpu
def test_masks_are_a_function_of_the_generator():
    ours = network().to(hardware.device())
    draws = [Blocks(slice(0, 8), "cuda", seed).bernoulli for seed in (1, 1, 2)]
    one, same, other = (ours.masks(8, draw) for draw in draws)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])
    kept = torch.cat([mask.flatten() for mask in one]).float()
    assert kept.mean().item() == pytest.approx(0.9, abs=4 * (0.09 / len(kept)) ** 0.5)


# --- training -----------------------------------------------------------------------------------------


def command(mixture, annotations, folder, steps, precision="bfloat16"):
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "optimiser": strict.plain(optimiser(nimg=16 * steps, precision=precision)),
        "snapshots": [16 * steps]}, "test")
    return commands.stage("train", made, data=mixture, annotations=annotations, state=folder / "state",
                          out=folder / "denoiser.safetensors", log=folder / "loss.jsonl")


@needs_gpu
@pytest.mark.parametrize("compile_from", ["1000000", "1"])
def test_stopped_training_ends_with_the_same_bits(mixture, annotations, tmp_path, compile_from):
    """Three processes: an undisturbed one, one that is told to stop, and one that goes on."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "AMBIENT_COMPILE_FROM": compile_from}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir(), stopped.mkdir()
    subprocess.run(command(mixture, annotations, whole, 150), check=True, env=environment)
    process = subprocess.Popen(command(mixture, annotations, stopped, 150), env=environment)
    while not any(path.stat().st_size for path in stopped.glob("state/*/loss.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    subprocess.run(command(mixture, annotations, stopped, 150), check=True, env=environment)
    found = manifest.read(stopped / "denoiser.safetensors.manifest.json")
    assert found["facts"]["resumptions"] == 1 and found["facts"]["repeated_images"] == 0
    for name in ("denoiser.safetensors", "loss.jsonl"):
        assert sha256(whole / name) == sha256(stopped / name)
    assert found["environment"]["gpu"] == [torch.cuda.get_device_name()]
    assert found["execution"]["peak_gpu_bytes"] > 2**20 and found["execution"]["gpu_sec"] > 0


def by_the_cpu(*shape, generator=None, device="cpu", randn=torch.randn, **options):
    """`torch.randn`, by a generator of the CPU's that gives the same each time."""
    return randn(*shape, generator=torch_generator("cpu", 5), **options).to(device)


def test_training_is_that_of_the_cpu(mixture, annotations):
    """Two steps without random numbers of the device's own: no dropout, no augmentation, the same noise."""
    weights = []
    for where in (CPU, hardware.device()):
        made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
            "network": strict.plain(TRAINING.network) | {"dropout": 0.0},
            "augment": {"p": 0.0, "transforms": []}}, "test")
        data = read(mixture)
        built = build_network(made.network, 8, 1, 3, False, torch_generator("cpu", 0))
        batches = AmbientBatches(made, data, Points(data), Annotations.read(annotations),
                                 Denoiser(built).to(where), where)
        fitting = Fit(batches.denoiser, made.optimiser)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn", by_the_cpu)
            losses = [float(fitting.step(batches.loss, nimg)) for nimg in (32, 48)]
        weights.append((losses, torch.cat([w.detach().cpu().flatten() for w in fitting.weights])))
    assert weights[1][0] == pytest.approx(weights[0][0], rel=1e-4)
    assert apart(weights[1][1], weights[0][1]) < 1e-4


@needs_gpu
def test_too_small_a_memory_cuts_the_batch_into_parts(mixture, annotations):
    """A batch of 4,096 with room for 1/3 of what it takes: the same losses but for rounding."""
    where, found, peak = hardware.device(), {}, 0
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "network": strict.plain(TRAINING.network) | {"model_channels": 64},
        "optimiser": strict.plain(optimiser(batch=4096, nimg=40960)), "snapshots": [40960]}, "test")
    for limited in (False, True):
        built = build_network(made.network, 8, 1, 3, True, torch_generator("cpu", 0))
        data = read(mixture)
        batches = AmbientBatches(made, data, Points(data), Annotations.read(annotations),
                                 Denoiser(built).to(where).train(), where)
        fitting = Fit(batches.denoiser, made.optimiser)
        torch.cuda.empty_cache()
        if limited:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(peak / 3 / total)
        torch.cuda.reset_peak_memory_stats()
        try:
            found[limited] = [float(fitting.step(batches.loss, nimg)) for nimg in (4096, 8192)]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        peak = torch.cuda.max_memory_reserved()
    assert fitting.parts > 1 and found[True] == pytest.approx(found[False], rel=1e-4)


# Gloo in place of NCCL, which refuses two ranks on one GPU.
TWO_RANKS = """
import runpy
from torch import distributed
begin = distributed.init_process_group
distributed.init_process_group = lambda backend, **options: begin(backend.replace("nccl", "gloo"), **options)
runpy.run_module("ambient", run_name="__main__", alter_sys=True)
"""


@needs_gpu
def test_two_ranks_train_what_one_does(mixture, annotations, tmp_path):
    script, found = tmp_path / "ranks.py", []
    script.write_text(TWO_RANKS)
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        line = command(mixture, annotations, folder, 20, "float32")
        line[1:3] = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number), "--",
                     script]
        subprocess.run(line, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        weights = read_weights(folder / "denoiser.safetensors")
        found.append(torch.cat([weights[name].flatten() for name in sorted(weights)]))
    assert apart(found[1], found[0]) < 1e-3


# --- what is asked of trained networks ----------------------------------------------------------------


def test_samples_are_those_of_the_cpu(trained):
    found = []
    for where in (CPU, hardware.device()):
        draw = sample.Draw(*loading.load_denoiser(trained, None, where), *DRAWN, where)
        found.append(draw.images(0, range(50)).astype(int))
    assert found[0].std() > 20
    assert (abs(found[1] - found[0]) <= 1).mean() > 0.999  # of 255


def test_annotations_are_those_of_the_cpu(mixture, tmp_path):
    files = {"state": kept(tmp_path / "state"), "out": tmp_path / "c.safetensors"}
    classifier.main(CLASSIFIER, RECORD, data=mixture, calibration=tmp_path / "c.json", **files)
    asked = specs.AnnotationSpec("per_sample", None, 0.05, 8, "geometric", NOISE, 0.1, 10.0, 4, 2, "last",
                                "float32", 0)
    data = read(mixture)
    found = []
    for where in (CPU, hardware.device()):
        dense = Dense(asked, Classifier(files["out"], where), where)
        found.append(dense.of(data.images[20:], data.ids[20:]))
    assert np.ptp(found[0]) > 1e-3
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def test_features_are_those_of_the_cpu(mixture, tmp_path, monkeypatch):
    made = specs.DetectorSpec("classifier", nimg=640, batch=32, lr=1e-3, channels=8, features=16)
    weights = tmp_path / "detector.safetensors"
    detector.main(made, RECORD, data=mixture, weights=None, state=kept(tmp_path / "s"), out=weights)
    images, found = read(mixture).images, []
    for where in (CPU, hardware.device()):
        monkeypatch.setattr(small_nets, "device", lambda where=where: where)
        found.append(features.extract(made, weights, images))
    assert apart(torch.from_numpy(found[1]), torch.from_numpy(found[0])) < 1e-4


# --- the networks of all tracks -----------------------------------------------------------------------

SMALLER = {"cifar10": {"num_blocks": 1}, "edm2-xs": {"num_blocks": 1},
           "microdit-xl": {"depth": 2, "mixer_depth": 1}}


def weights_after(name, translate, steps=3):
    """Those of a training of fewer blocks than the paper's, in bfloat16, on random images."""
    made = works.Training(works.Size(False), works.WORKS[name], batch=32, **SMALLER[name])
    if translate:
        works.compiled(made.network)
    losses = [float(made.step()) for _ in range(steps)]
    return losses, torch.cat([weight.detach().flatten() for weight in made.network.parameters()])


@needs_gpu
@pytest.mark.parametrize("translate", [False, True])
@pytest.mark.parametrize("name", SMALLER)
def test_trainings_of_each_track_repeat_their_bits(name, translate):
    (losses, weights), (again, same) = (weights_after(name, translate) for _ in range(2))
    assert losses == again and torch.equal(weights, same)
    assert np.isfinite(losses).all() and len(set(losses)) > 1


def test_attention_is_that_of_float64():
    q, k, v = (torch.randn(4, 64, 100, generator=torch_generator("cpu", name)).transpose(1, 2)
               for name in "qkv")
    exact = torch.softmax(q.double() @ k.double().transpose(1, 2) / 8, 2) @ v.double()
    heads = [one.to(hardware.device()) for one in (q, k, v)]
    assert apart(operators.attention(*heads), exact) < 1e-6
    assert apart(operators.attention(*(one[:, None] for one in heads)), exact[:, None]) < 1e-6
    assert 1e-4 < apart(operators.attention(*(one.bfloat16() for one in heads)), exact) < 1e-2


def test_repetition_is_that_of_torch_and_its_gradient():
    x = torch.randn(2, 3, 8, 8, device=hardware.device(), requires_grad=True)
    up, wanted = operators.resized(x, "up"), torch.nn.functional.interpolate(x, scale_factor=2.0)
    assert torch.equal(up, wanted)
    weight = torch.randn_like(up)
    found, other = (torch.autograd.grad((one * weight).sum(), x)[0] for one in (up, wanted))
    assert apart(found, other) < 1e-6
