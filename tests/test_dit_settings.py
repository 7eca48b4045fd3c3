"""MicroDiT's settings: sizes and costs of the public networks, and what is refused."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from t2i_vectors import needs_reference, read
from test_dit import SMALL, seeded, small
from tiny import TRAINING, optimiser, run_training
from torch.utils.flop_counter import FlopCounterMode

import ambient
from ambient import specs
from ambient.data.datasets import read as read_dataset
from ambient.data.datasets import to_float
from ambient.diffusion.networks.dit import Convolution
from ambient.diffusion.networks.experts import Experts
from ambient.diffusion.networks.layers import Linear
from ambient.diffusion.networks.widths import BlockWidths, attention_width, spread
from ambient.diffusion.patches import kept_patches
from ambient.settings import Experiments
from ambient.specs.strict import SpecError, build, plain
from ambient.stages import train
from ambient.training import batches
from ambient.training.build import build_network
from ambient.training.loop import ema_beta
from ambient.training.networks.dit import Counter

ROOT = Path(__file__).parents[1]
XL = {"kind": "dit", "model_channels": 1024, "depth": 28, "mixer_channels": 768, "mixer_depth": 6,
      "caption_channels": 1024, "conditional": True}
TINY = XL | {"model_channels": 512, "depth": 16, "mixer_channels": 512, "mixer_depth": 4,
             "channels_per_head": 32}


@needs_reference
@pytest.mark.parametrize(("preset", "settings"), [("MicroDiT_XL_2", XL), ("MicroDiT_Tiny_2", TINY)])
def test_presets_have_the_public_names_and_sizes(preset, settings):
    public = read("keys")[preset]
    with torch.device("meta"):
        network = build_network(build(specs.NetworkSpec, settings, "network"), 32, 4, 0, False, None)
    state = network.state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == public["shapes"]
    assert len(state) == public["tensors"] and [name for name, _ in network.named_buffers()] == public[
        "buffers"]
    assert sum(weight.numel() for weight in network.parameters()) == public["parameters"]
    experts = [part for part in network.modules() if isinstance(part, Experts)]
    assert sum(e.w1.numel() + e.w2.numel() for e in experts) == public["parameters_in_experts"]


def test_widths_are_those_of_the_public_networks():
    xl, tiny = (build(specs.NetworkSpec, one, "network") for one in (XL, TINY))
    assert [block.attention for block in xl.blocks] == [512, *[640] * 6, *[768] * 7, *[896] * 7, *[1024] * 7]
    assert [block.mlp for block in xl.blocks[:7]] == [512, 768, 768, 1024, 768, 1280, 1024]
    assert xl.blocks[25:] == [BlockWidths(1024, 3840, True), BlockWidths(1024, 2816), BlockWidths(1024, 2816)]
    assert xl.mixer == [BlockWidths(768, 3072 if i % 2 else 2048, bool(i % 2)) for i in range(6)]
    assert (xl.caption_mlp, tiny.caption_mlp) == (2816, 1536)
    assert attention_width(40, 1.0, 16) == 40 and attention_width(40, 0.9, 16) == 64
    assert spread(0.5, 4.0, 3) == [0.5, 2.25, 4.0] and spread(0.5, 4.0, 1) == [0.5]
    assert not any(block.experts for block in small(experts_every=0).blocks)
    assert [block.experts for block in small(depth=7, experts_every=3).blocks] == [
        False, False, True, False, False, True, False]


def test_what_a_mask_leaves_is_counted_as_it_is_drawn():
    """Of 100 patches 10 stay at a mask of 0.9, where floats give 9.999999999999998: one for each expert."""
    spec = small(experts_every=1, num_experts=10, capacity=1.0, patch=1)
    spec.check_patches(100, 0.9)
    assert kept_patches(torch.rand(1, 100), 0.9).shape[1] == 10
    with pytest.raises(SpecError, match="num_experts: got 10, allowed: at most 9, so that each takes one"):
        spec.check_patches(99, 0.9)
    count = Counter(100, 1)
    count.experts(4, 4, 5, 2.3)  # 46 of 100 tokens each, in floats 45.99999999999999
    assert count.features == 100 * 5 + 5 * 46 * (4 + 4)  # the gate of every token, and both layers


@pytest.mark.parametrize("changes, mask", [
    ({}, 0.0), ({"mixer_channels": 24, "patch": 4, "conditional": True}, 0.0), ({}, 0.75),
    ({"experts_every": 1, "capacity": 1.5, "num_experts": 5, "caption_tokens": 9, "conditional": True}, 0.4)])
def test_its_costs_are_those_that_torch_counts(changes, mask):
    spec, features = small(**changes), []
    with torch.device("meta"):
        network = build_network(spec, 16, 3, 0, False, None).eval()
        text = {"text": torch.zeros(1, spec.caption_tokens, 10)} if spec.conditional else {}
        image, noise = torch.zeros(1, 3, 16, 16), torch.zeros(1)
        kept = int((16 // spec.patch) ** 2 * (1 - mask))
        places = {"patches": torch.zeros(1, kept, dtype=torch.int64)} if mask else {}
    layers = [part for part in network.modules() if isinstance(part, (Linear, Convolution))]
    for layer in layers:
        layer.register_forward_hook(lambda layer, given, out: features.append(out.numel()))
    experts = [part for part in network.modules() if isinstance(part, Experts)]
    for layer in experts:
        layer.register_forward_hook(lambda layer, given, out: features.extend(
            int(layer.capacity * given[0].shape[1] / len(layer.w1)) * sum(layer.w1.shape[1:])
            for _ in layer.w1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, noise, text | places)
    parameters = sum(weight.numel() for layer in layers for weight in layer.parameters())
    parameters += sum(layer.w1.numel() + layer.w2.numel() for layer in experts)
    assert spec.parameters(16, 3, 0, False) == sum(weight.numel() for weight in network.parameters())
    assert spec.cost(16, 3, mask=mask) == (counter.get_total_flops() // 2, parameters, sum(features))


@pytest.mark.parametrize(("side", "measured", "tokens"), [(32, 246e9, 256), (64, 1132e9, 1024)])
def test_a_preset_costs_what_the_reference_costs_without_its_one_hot_products(side, measured, tokens):
    """The reference gathers tokens, and adds them up again, by products with one-hot rows: 4 E k T d each."""
    spec = build(specs.NetworkSpec, XL, "network")
    one_hot = sum(4 * (2 * tokens) * tokens * width for blocks, width in ((spec.blocks, 1024),
                  (spec.mixer, 768)) for block in blocks if block.experts)
    assert 2 * spec.cost(side, 4).multiply_adds == pytest.approx(measured - one_hot, rel=2e-3)


@pytest.mark.parametrize(("changes", "said"), [
    ({"model_channels": 20}, "model_channels: got 20, allowed: multiples of 4 and of channels_per_head = 8"),
    ({"model_channels": 30, "channels_per_head": 10}, "model_channels: got 30"),
    ({"mixer_channels": 12}, "mixer_channels: got 12"), ({"depth": 0}, "depth: got 0, allowed: >= 1"),
    ({"capacity": 4.5}, r"capacity: got 4.5, allowed: \(0, num_experts = 4\]"),
    ({"mlp_ratios": [1.0]}, "mlp_ratios"), ({"attention_ratios": [0.0, 1.0]}, "attention_ratios"),
    ({"mixer_mlp_ratio": 0.0}, "mixer_mlp_ratio"), ({"position_scale": 0.0}, "position_scale"),
    ({"channels_per_head": 0}, "channels_per_head"), ({"experts_every": -1}, "experts_every"),
    ({"round_to": 0}, "round_to"), ({"depths": 3}, "unknown key 'depths' .did you mean 'depth'")])
def test_settings_that_mean_nothing_are_refused(changes, said):
    with pytest.raises(SpecError, match=said):
        small(**changes)


def test_images_that_it_cannot_take_are_refused():
    with pytest.raises(SpecError, match="patch: got 2, allowed: a divisor of the side of images, 7"):
        small().check(7)
    with pytest.raises(SpecError, match="num_experts: got 4, allowed: at most 2, so that each takes one of"):
        small(capacity=0.5).check(4)
    small(capacity=0.5, experts_every=0).check(4)
    with pytest.raises(ValueError, match="dit has no input for classes or labels of augmentation"):
        build_network(small(conditional=True), 8, 3, 0, True, seeded())
    build_network(small(conditional=True), 8, 3, 3, False, seeded())  # the classes of its images say nothing


def test_a_training_that_has_no_captions_refuses_to_tell_them(mixture):
    values = plain(dataclasses.replace(TRAINING, augment=specs.AugmentSpec(0.0, ())))
    told = values | {"network": SMALL | {"conditional": True}}
    spec = build(specs.TrainingSpec, told, "training")
    data = read_dataset(mixture)
    with pytest.raises(ValueError, match="image 100 has no caption, nor have 59 others"):
        batches.check(spec, data)
    with pytest.raises(ValueError, match="--texts: 0 files, allowed: one or more, since the network is told"):
        train.told_of(spec, data, [])
    for key, changes in (("caption_dropout", {"caption_dropout": 0.1}), ("mask", {"mask": 1.0})):
        with pytest.raises(SpecError, match=f"training.{key}: got"):
            build(specs.TrainingSpec, values | {"network": SMALL} | changes, "training")


def test_it_is_trained_and_sampled_as_any_other_network(mixture, annotations, tmp_path):
    network = build(specs.NetworkSpec, SMALL | {"caption_channels": 4}, "network")
    made = dataclasses.replace(TRAINING, network=network, augment=specs.AugmentSpec(0.0, ()),
                               optimiser=optimiser(lr=0.01))
    trained = ambient.load_denoiser(run_training(mixture, annotations, tmp_path, made))
    assert trained.about["spec"]["network"]["kind"] == "dit"
    x0 = torch.from_numpy(to_float(read_dataset(mixture).images))
    x = x0 + 2 * torch.randn(x0.shape, generator=seeded())
    sigma = torch.full((len(x0),), 2.0)
    skip = 0.25 / 4.25 * x  # what D is at the initial weights
    with torch.no_grad():
        assert (trained(x, sigma) - skip).abs().max() > 1e-3
    images = ambient.sample(trained, 3, steps=4)
    assert images.shape == (3, 1, 8, 8)
    np.testing.assert_array_equal(images[:2], ambient.sample(trained, 2, steps=4))


@pytest.mark.parametrize(("study", "settings"), [("microdit-xl", XL), ("microdit-tiny", TINY)])
def test_the_studies_have_the_public_settings(tmp_path, study, settings):
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config, ignore=shutil.ignore_patterns("local.yaml", "site.yaml"))
    (config / "scales/presets.yaml").write_text(
        f"runs: {{a: {{study: {study}, corruption: none, annotation: all}}}}\n"
        "tables: {presets: {title: Presets, rows: [a]}}\n")
    spec = Experiments(config, "presets").training("a", 0)
    settings = settings | {"conditional": False, "position_scale": 2.0}
    assert spec.network == build(specs.NetworkSpec, settings, "network")
    rate = spec.optimiser
    assert (rate.batch, rate.nimg // 2048, rate.ramp_nimg // 2048, rate.lr, rate.decay, rate.algorithm,
            rate.weight_decay, rate.betas, rate.eps, rate.clip, rate.ema_start_nimg // 2048) == (
        2048, 50_000, 500, 8e-5, "constant", "adamw", 0.1, (0.9, 0.999), 1e-8, 0.5, 25_000)
    assert ema_beta(rate, 2048 * 25_001) == pytest.approx(0.99975, abs=1e-10)
    assert (spec.noise.P_mean, spec.noise.P_std, spec.sigma_data, spec.loss.margin, spec.loss.buffer,
            spec.loss.reduction, spec.loss.uncertainty) == (0.0, 0.6, 0.9, 0.05, None, "mean", False)
