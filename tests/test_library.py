"""What `import ambient` offers: names, trained denoisers, public weights, annotation of own images."""

import dataclasses
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_networks import REFERENCE
from tiny import CLASSIFIER, DRAWN, SAMPLING, TRAINING, kept

import ambient
from ambient.__main__ import COMMANDS
from ambient.annotation.classifier import Classifier
from ambient.annotation.trajectories import SharedNoise
from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion.randomness import torch_generator
from ambient.evaluation.draw import Draw
from ambient.specs import AnnotationSpec, NoiseSpec
from ambient.stages import classifier, train
from ambient.training import hardware, loading

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


def record():
    return SimpleNamespace(facts={}, state=None)


def test_import_loads_nothing_heavy():
    code = "import sys, ambient; print(sorted({'torch', 'numpy', 'pandas', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_public_name_is_there_and_says_what_it_is():
    for name in ambient.__all__:
        assert getattr(ambient, name).__doc__, name
    assert dir(ambient) == sorted(ambient.__all__)
    with pytest.raises(AttributeError, match="no attribute 'sampel'; it has Admission"):
        ambient.sampel  # noqa: B018


def test_a_trained_denoiser_is_sampled_as_the_workflow_samples_it(mixture, tmp_path):
    rows, out = tmp_path / "rows.safetensors", tmp_path / "denoiser.safetensors"
    Annotations(np.arange(100, 160), np.where(np.arange(60) < 20, 0.0, 0.5), np.zeros(60)).write(rows)
    train.main(TRAINING, record(), data=mixture, annotations=rows, state=kept(tmp_path / "state"), out=out,
               log=tmp_path / "loss.jsonl")
    trained, sampler = ambient.load_denoiser(out), SAMPLING.sampler
    images = ambient.sample(trained, 5, seed=1, steps=sampler.num_steps, sigma_min=sampler.sigma_min,
                            sigma_max=sampler.sigma_max, rho=sampler.rho)
    expected = Draw(trained.denoiser, trained.about, *DRAWN, CPU).images(1, range(6))
    np.testing.assert_array_equal(images, expected[:5])
    for more in ({"S_churn": 4.0, "S_max": 50.0, "S_noise": 1.003}, {"draws": "generators"}):
        other = Draw(trained.denoiser, trained.about, dataclasses.replace(sampler, **more), "float32", CPU)
        images = ambient.sample(trained, 2, seed=1, steps=sampler.num_steps, sigma_min=sampler.sigma_min,
                                sigma_max=sampler.sigma_max, rho=sampler.rho, **more)
        np.testing.assert_array_equal(images, other.images(1, range(2)))
        assert (images != expected[:2]).any()
    x = torch.zeros(2, 1, 8, 8)
    assert trained(x, torch.ones(2)).shape == x.shape
    for wrong in ({"count": 0}, {"steps": 1}, {"sigma_min": 100.0}, {"captions": ["cat"]}, {"guidance": 2},
                  {"S_churn": -1.0}, {"draws": "dice"}):
        with pytest.raises(ValueError, match="allowed"):
            ambient.sample(trained, **{"count": 2} | wrong)
    with pytest.raises(ValueError, match="no snapshot at nimg 7"):
        ambient.load_denoiser(out, snapshot=7)
    with pytest.raises(ValueError, match="is a folder, allowed: a file of weights"):
        ambient.load_denoiser(tmp_path)
    with pytest.raises(ValueError, match="denoiser.safetensors: holds a denoiser, allowed: a noise cl"):
        ambient.annotate(out, np.zeros((2, 1, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="denoiser.safetensors: holds a denoiser, allowed: a noise cl"):
        Classifier(out, CPU)
    with pytest.raises(ValueError, match="trained: got 'Denoiser', allowed: .*`heun` samples any other"):
        ambient.sample(trained.denoiser, 2)


NETWORK = {"resolution": 16, "channels_in": 3, "channels_out": 3, "model_channels": 32,
           "channel_mult": (1, 2), "num_blocks": 2, "attn_resolutions": (8,), "dropout": 0.0,
           "label_dim": 10, "augment_dim": 9}


@pytest.mark.parametrize("changes", [{}, {"label_dim": 0, "augment_dim": 0}, {
    "channel_mult": (2, 2, 1), "num_blocks": 1, "attn_resolutions": (), "channels_in": 1, "channels_out": 1}])
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_public_weights_are_loaded_by_name_and_tell_their_network(changes, prefix, tmp_path):
    network = ambient.UNet(**NETWORK | changes, generator=torch_generator("cpu", 0)).eval()
    path = tmp_path / "edm.safetensors"
    save_file({prefix + name: tensor for name, tensor in network.state_dict().items()}, path)
    loaded = ambient.load_edm(path)
    shape = (2, network.enc["16x16_conv"].weight.shape[1], 16, 16)
    x = torch.randn(shape, generator=torch_generator("cpu", 1))
    sigma = torch.tensor([0.3, 2.0])
    torch.testing.assert_close(loaded(x, sigma), ambient.Denoiser(network)(x, sigma), rtol=0, atol=0)


def test_weights_that_are_none_of_edms_are_refused_by_name(tmp_path):
    path = tmp_path / "edm.safetensors"
    whole = ambient.UNet(**NETWORK, generator=torch_generator("cpu", 0)).state_dict()
    bias = "dec.8x8_in0.conv0.bias"
    for tensors, words in (
            ({"a": torch.zeros(1)}, "map_layer0.weight"),
            ({k: v for k, v in whole.items() if k != bias}, f"{bias}: .* None"),
            (whole | {"extra": torch.zeros(1)}, r"extra: has the shape \(1,\), allowed: None"),
            (whole | {"map_layer1.bias": torch.zeros(3)}, r"map_layer1\.bias: has the shape \(3,\)")):
        save_file(dict(tensors), path)
        with pytest.raises(ValueError, match=words) as caught:
            ambient.load_edm(path)
        assert str(path) in str(caught.value)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference vectors")
def test_the_public_network_gives_its_reference_values(tmp_path):
    from safetensors.torch import load_file

    vectors = load_file(REFERENCE / "edm_songunet_small.safetensors")
    path = tmp_path / "edm.safetensors"
    save_file({k.removeprefix("weights."): v for k, v in vectors.items() if k.startswith("weights.")}, path)
    condition = {"classes": vectors["class_labels"], "augment": vectors["augment_labels"]}
    made = ambient.load_edm(path)(vectors["x"], vectors["sigma"], condition)
    torch.testing.assert_close(made, vectors["denoised"], rtol=0, atol=2e-5)


def test_own_images_are_annotated_as_the_workflow_annotates_them(mixture, tmp_path):
    out = tmp_path / "classifier.safetensors"
    classifier.main(CLASSIFIER, record(), data=mixture, state=kept(tmp_path / "s"), out=out,
                    calibration=tmp_path / "c.json")
    images = read(mixture).images[20:30]
    found = ambient.annotate(out, images, levels=6, sigma_high=20.0, seed=3)
    spec = AnnotationSpec("per_sample", None, 0.05, 6, "geometric", NoiseSpec(0.0, 1.0), 0.05, 20.0, 2, 1,
                          "exclude", "float32", 3, protocol="shared_noise")
    asked = SharedNoise(spec, Classifier(out, CPU), CPU)
    expected = asked.crossing(asked.curves(asked.of(images, np.arange(10)), images))
    np.testing.assert_array_equal(found, expected)
    assert found.shape == (10,) and (found >= 0.05).all()
    with pytest.raises(ValueError, match="holds a noise classifier, allowed: a denoiser$"):
        ambient.load_denoiser(out)
    with pytest.raises(ValueError, match="num_trials"):
        ambient.annotate(out, images, trials=3)
    for wrong in (images.astype(int), images / np.float32(127.5) - 1, images[:, 0], images[:0],
                  images.tolist(), images[..., :4, :4], images.repeat(3, 1), torch.from_numpy(images)):
        with pytest.raises(ValueError, match=r"images: got .*allowed: a numpy array of uint8 \(N, 1, 8, 8"):
            ambient.annotate(out, wrong, levels=6)
    with pytest.raises(ValueError, match="one for each of the 10"):
        ambient.annotate(out, images, [1, 2])


def test_pip_gives_a_command_with_help_version_and_statuses(tmp_path):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["ambient"].partition(":")
    code = f"import sys; from {module} import {name}; sys.exit({name}())"

    def run(*arguments):
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                              cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})

    helped = run("--help")
    assert helped.returncode == 0 and run().stdout == helped.stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", helped.stdout, re.MULTILINE), command
    assert re.match(r"ambient \d+\.\d+\.\d+", run("--version").stdout)
    assert run("sampel").returncode == 2 and run("audit", str(tmp_path / "gone")).returncode == 2


def test_before_a_gpu_is_used_torch_is_set_as_in_the_workflow(monkeypatch):
    done = []
    monkeypatch.setattr(hardware, "device", lambda: done.append("set"))
    monkeypatch.setattr(loading, "load_denoiser", lambda path, nimg, where: (done.append(where.type), {}))
    ambient.load_denoiser("denoiser.safetensors")
    ambient.load_denoiser("denoiser.safetensors", device="cuda")
    assert done == ["cpu", "set", "cuda"]


@pytest.mark.parametrize("seed", [1.0, True, "1", None, -1, torch.tensor(1)])
def test_a_seed_is_a_whole_number(seed):
    trained = ambient.api.Trained(None, {}, CPU)
    with pytest.raises(ValueError, match="seed: got .*, allowed: a whole number >= 0"):
        ambient.sample(trained, 2, seed=seed)
    with pytest.raises(ValueError, match="count: got 2.0, allowed: a whole number >= 1"):
        ambient.sample(trained, 2.0)


def test_a_denoiser_is_told_what_it_knows_alone():
    told = []
    for about, known in (({}, []), ({"conditional": True}, ["classes"])):
        network = {"spec": {"network": {"conditional": False} | about}}
        trained = ambient.api.Trained(lambda x, sigma, condition: told.append(condition), network, CPU)
        trained(None, None, dict.fromkeys(known))
        for name in {"classes", "clases", "text"} - set(known):
            with pytest.raises(ValueError, match=rf"condition: got \['{name}'\], allowed: some of"):
                trained(None, None, {name: None})
    assert told == [{}, {"classes": None}]
