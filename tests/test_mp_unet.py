"""EDM2's network: vectors of the reference, public parameter names, magnitudes, costs, refusals."""

import json
import math

import pytest
import tiny
import torch
from edm2_vectors import REFERENCE, agree, needs_reference, of_reference, ours
from torch.utils.flop_counter import FlopCounterMode

from ambient import specs
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.network import constrain, constrained
from ambient.diffusion.networks import magnitude, mp_unet
from ambient.diffusion.networks.magnitude import Fourier, Weight, mp_cat, mp_sum, normalised
from ambient.diffusion.networks.mp_unet import MPUNet
from ambient.specs.strict import SpecError, build
from ambient.training.build import build_network
from ambient.training.edm_weights import mp_architecture
from ambient.training.loop import Fit

PRESET = {"resolution": 64, "channels": 4, "channel_mult": (1, 2, 3, 4), "num_blocks": 3,
          "attn_resolutions": (16, 8), "channels_per_head": 64}
SMALL = {"kind": "mp_unet", "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1, "dropout": 0.0,
         "attn_resolutions": [4], "channels_per_head": 16}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(**changes):
    return build(specs.NetworkSpec, SMALL | changes, "network")


def made(seed=0, classes=5, **changes):
    return build_network(small(conditional=True, **changes), 8, 4, classes, False, seeded(seed))


PRECISIONS = [(torch.float32, 5e-6), (torch.float64, 1e-12)]


@needs_reference
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_outputs_are_those_of_the_reference(dtype, tolerance):
    cases = (("unet_cond", True, "denoised", {}), ("unet_cond", False, "denoised_label_none", {}),
             ("unet_cond", True, "denoised_clip_act_0.9", {"largest": 0.9}),
             ("unet_uncond", False, "denoised", {}), ("unet_train", True, "denoised_eval_before", {}))
    for name, told, output, options in cases:
        denoiser, t = of_reference(name, dtype, **options)
        with torch.no_grad():
            D = denoiser(t["x"], t["sigma"], {"classes": t["class_labels"]} if told else {})
        assert D.dtype == dtype
        agree(D, t, output, tolerance)
        if not options and output == "denoised":
            agree(denoiser.log_variance(t["sigma"]), t, "logvar", tolerance)


@needs_reference
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_weights_are_forced_to_their_magnitude_as_in_the_reference(dtype, tolerance):
    denoiser, t = of_reference("unet_train", dtype)
    layers, condition = constrained(denoiser.train()), {"classes": t["class_labels"]}
    constrain(layers)
    agree(denoiser(t["x"], t["sigma"], condition), t, "denoised_train", tolerance)
    agree(denoiser.log_variance(t["sigma"]), t, "logvar_train", tolerance)
    after = {ours(key.removeprefix("after.")): tensor for key, tensor in t.items()
             if key.startswith("after.")}
    weights = {name: weight for name, weight in denoiser.named_parameters() if name.endswith("weight")}
    assert weights.keys() == after.keys() and len(after) == len(layers)
    for name, weight in weights.items():
        torch.testing.assert_close(weight.float(), after[name], atol=2e-6, rtol=0)
    agree(denoiser.eval()(t["x"], t["sigma"], condition), t, "denoised_eval_after", tolerance)
    constrain(layers)
    for name in ("unet.enc.8x8_conv.weight", "unet.out_conv.weight", "logvar_linear.weight"):
        torch.testing.assert_close(weights[ours(name)].float(), t[f"after_two.{name}"], atol=2e-6, rtol=0)


@needs_reference
@pytest.mark.parametrize("preset", ["img512-xxs", "img512-xs", "img512-xs-uncond", "img512-xxl", "img64-s"])
def test_presets_have_the_public_names_and_sizes(preset):
    public = json.loads((REFERENCE / "keys.json").read_text())[preset]
    with torch.device("meta"):
        network = MPUNet(**PRESET | {"channels": public["img_channels"]}, label_dim=public["label_dim"],
                         model_channels=public["model_channels"], dropout=public["dropout"], generator=None)
        denoiser = Denoiser(network)
        denoiser.logvar_fourier, denoiser.logvar_linear = Fourier(128, None), Weight(128, 1, 0, None)
    assert sum(p.numel() for p in denoiser.parameters()) == public["parameters"]
    assert sum(b.numel() for b in denoiser.buffers()) == public["buffers"]
    if "state_dict" in public:
        assert {name: list(tensor.shape) for name, tensor in denoiser.state_dict().items()} == {
            ours(name): shape for name, shape in public["state_dict"].items()}


def test_a_preset_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = MPUNet(**PRESET, label_dim=1000, model_channels=128, dropout=0.0, generator=None)
    assert sum(p.numel() for p in network.parameters()) == 124_713_253 - 128


def test_a_first_level_of_another_factor_is_as_wide_from_the_input_on():
    network = made(channel_mult=[2, 3], attn_resolutions=[8, 4])
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes["enc.8x8_conv.weight"] == (32, 5, 3, 3) and shapes["emb_noise.weight"] == (48, 32)
    assert "enc.8x8_block0.conv_skip.weight" not in shapes
    assert mp_architecture(network.state_dict()) == {
        "resolution": 8, "channels": 4, "model_channels": 16, "channel_mult": [2, 3], "num_blocks": 1,
        "attn_resolutions": [4, 8], "label_dim": 5}


def test_a_level_that_is_narrower_than_a_head_has_no_attention():
    network = made(channel_mult=[1, 2], attn_resolutions=[8, 4], channels_per_head=32)
    attending = {name.split(".")[1] for name in network.state_dict() if "attn_qkv" in name}
    assert attending and all(name.startswith("4x4") for name in attending)
    x = torch.randn(2, 4, 8, 8, generator=seeded())
    classes = {"classes": torch.eye(5)[:2]}
    assert network.eval()(x, torch.zeros(2), classes).shape == x.shape


def test_the_initial_denoiser_is_the_skip_connection():
    """All gains of blocks and of the output start at 0, so D(x, sigma) starts as c_skip x, exactly."""
    x, sigma = torch.randn(2, 4, 8, 8, generator=seeded()), torch.tensor([0.3, 2.0])
    skip = (0.25 / (sigma**2 + 0.25)).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(Denoiser(made()).eval()(x, sigma), skip * x, atol=0, rtol=1e-6)


def test_activations_have_unit_magnitude_from_the_input_to_the_output():
    """Of a wide network at its initial weights, told noise levels and classes, on white noise."""
    network = build_network(small(conditional=True, model_channels=64), 8, 4, 5, False, seeded()).eval()
    torch.nn.init.ones_(network.out_gain)
    seen = {}
    for name, layer in network.named_modules():
        if isinstance(layer, mp_unet.Block):
            layer.register_forward_hook(lambda layer, given, y, name=name: seen.update({name: y}))
    x = torch.randn(32, 4, 8, 8, generator=seeded(1))
    with torch.no_grad():
        seen["output"] = network(x, torch.randn(32, generator=seeded(2)),
                                 {"classes": torch.eye(5)[torch.arange(32) % 5]})
        seen["embedding"] = network.embed(torch.zeros(3), {"classes": torch.eye(5)[:3]})
    assert len(seen) == 12
    for name, values in seen.items():
        assert values.square().mean().sqrt().item() == pytest.approx(1, abs=0.25), name


def test_operations_preserve_magnitudes():
    a, b = (torch.randn(64, 40, 50, generator=seeded(seed)) for seed in (1, 2))
    assert mp_sum(a, b, 0.3).std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(mp_sum(a, b, 0.3), (0.7 * a + 0.3 * b) / math.sqrt(0.58))
    joined = mp_cat(a, b[:, :10], 0.5)
    assert joined.std().item() == pytest.approx(1, abs=0.01)
    # Each of the two has half of all squares, whatever its number of channels.
    assert joined[:, :40].square().sum() == pytest.approx(joined[:, 40:].square().sum().item(), rel=0.02)
    assert torch.nn.functional.silu(a).square().mean().sqrt() == pytest.approx(magnitude.SILU_RMS, abs=0.005)
    waves = Fourier(4000, seeded(3))(torch.tensor([-1.0, 0.4]))
    torch.testing.assert_close(waves.square().mean(1), torch.ones(2), atol=0.05, rtol=0)
    layer = Weight(40, 30, 0, seeded(4))
    torch.nn.init.normal_(layer.weight, std=7.0, generator=seeded(5))  # its scale does nothing
    assert layer(a.transpose(1, 2)).std().item() == pytest.approx(1, abs=0.03)
    assert layer(a.transpose(1, 2), gain=3.0).std().item() == pytest.approx(3, abs=0.1)


def test_a_normalised_zero_is_zero_and_has_a_gradient():
    x = torch.zeros(2, 3, requires_grad=True)
    normalised(x, 1).sum().backward()
    assert torch.isfinite(x.grad).all() and (normalised(x, 1) == 0).all()


def test_training_forces_magnitudes_once_a_step_and_leaves_averages_alone():
    """What a loss sees has RMS 1, but for eps; what Adam makes of it stays until the next step begins."""
    network, seen = made().train(), []
    layers = constrained(network)
    for layer in layers:
        torch.nn.init.normal_(layer.weight, std=3.0, generator=seeded(6))
    fitting = Fit(network, tiny.optimiser(ramp_nimg=0, decay="constant", lr=0.1, ema_halflife_nimg=1e9,
                                          ema_ramp=1.0))

    def loss(nimg, share):
        seen.append(sizes())
        return sum((layer.weight - 1).square().mean() for layer in layers)

    def sizes():
        return torch.cat([layer.magnitude().flatten() for layer in layers])

    for step in range(2):
        fitting.step(loss, 16 * step)
        torch.testing.assert_close(seen[step], torch.ones_like(seen[step]), atol=3e-4, rtol=0)
    assert (sizes() - 1).abs().max() > 0.01
    averaged = fitting.averages[0][fitting.names.index("emb_noise.weight")]  # a quarter are initial weights
    assert averaged.square().mean().sqrt() > 1.05


def test_evaluation_and_training_differ_by_nothing_but_dropout():
    network, x, c = made(), torch.randn(2, 4, 8, 8, generator=seeded()), torch.zeros(2)
    torch.nn.init.ones_(network.out_gain)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.equal(network.train()(x, c), network.eval()(x, c))
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_dropout_is_a_function_of_its_generator_and_needs_one():
    network, x, c = made(dropout=0.3).train(), torch.randn(2, 4, 8, 8, generator=seeded()), torch.zeros(2)
    torch.nn.init.ones_(network.out_gain)
    draws = [Blocks(slice(0, 2), "cpu", seed).bernoulli for seed in (1, 1, 2)]
    one, same, other = (network(x, c, masks=network.masks(2, draw)) for draw in draws)
    assert torch.equal(one, same) and not torch.equal(one, other)
    with pytest.raises(ValueError, match=r"dropout is 0\.3"):
        network.masks(2, None)
    assert network.eval().masks(2, None) == []


def test_classes_change_the_output_and_none_is_zero():
    network, x, c = made().eval(), torch.randn(2, 4, 8, 8, generator=seeded()), torch.zeros(2)
    for name, gain in network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(gain)
    none = network(x, c)
    assert torch.equal(none, network(x, c, {"classes": torch.zeros(2, 5)}))
    assert not torch.allclose(none, network(x, c, {"classes": torch.eye(5)[:2]}))
    alone = build_network(small(conditional=False), 8, 4, 5, False, seeded())
    assert "emb_label.weight" not in alone.state_dict()


def test_bfloat16_stays_near_float32_and_leaves_the_embedding_exact():
    x, c = torch.randn(4, 4, 8, 8, generator=seeded()), torch.linspace(-1, 1, 4)
    network = made().eval()
    torch.nn.init.ones_(network.out_gain)
    exact = network(x, c)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, c)
        assert network.embed(c, {}).dtype == torch.float32
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.filterwarnings("ignore:Dynamo detected")  # of caches, which it does without
def test_an_evaluation_is_one_graph():
    network, x = made(dropout=0.3, channel_mult=[1]).train(), torch.randn(2, 4, 8, 8, generator=seeded())
    c = torch.zeros(2)
    torch.nn.init.ones_(network.out_gain)
    masks = network.masks(2, Blocks(slice(0, 2), "cpu", 1).bernoulli)
    eager = network(x, c, masks=masks)
    network.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(network(x, c, masks=masks), eager)
    torch.compiler.reset()


@pytest.mark.parametrize("changes", [{}, {"channel_mult": [2], "num_blocks": 2}, {
    "channel_mult": [1, 3, 2], "attn_resolutions": [16, 8], "model_channels": 32, "channels_per_head": 32}])
def test_its_costs_are_those_that_torch_counts(changes, monkeypatch):
    """On tensors without memory; halving and doubling a side, matrix products on CPUs alone, left out."""
    monkeypatch.setattr(mp_unet, "resized", lambda x, how: x[..., ::2, ::2] if how == "down"
                        else x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    spec, features = small(**changes), []
    with torch.device("meta"):
        network = build_network(spec, 16, 3, 0, False, None).eval()
        image, noise = torch.zeros(1, 3, 16, 16), torch.zeros(1)
    for layer in constrained(network):
        layer.register_forward_hook(lambda layer, given, made: features.append(made.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, noise)
    parameters = sum(layer.weight.numel() for layer in constrained(network))
    assert spec.cost(16, 3) == (counter.get_total_flops() // 2, parameters, sum(features))


@pytest.mark.parametrize("changes", [{}, {"conditional": True}, {
    "conditional": True, "channel_mult": [1, 3, 2], "attn_resolutions": [16, 8], "num_blocks": 3}])
def test_its_parameters_are_those_of_the_built_network(changes):
    with torch.device("meta"):
        network = build_network(small(**changes), 16, 3, 7, False, None)
    assert small(**changes).parameters(16, 3, 7, False) == sum(p.numel() for p in network.parameters())


def test_a_preset_costs_what_was_published():
    """45.0 billion multiply-adds an evaluation at 64 x 64."""
    spec = small(model_channels=128, channel_mult=[1, 2, 3, 4], num_blocks=3, attn_resolutions=[16, 8],
                 channels_per_head=64)
    assert spec.cost(64, 4).multiply_adds == pytest.approx(45.0e9, rel=2e-3)


@pytest.mark.parametrize(("changes", "said"), [
    ({"channels_per_head": 24}, "channels_per_head: got 24, allowed: a divisor .* attention: 32"),
    ({"channel_mult": []}, "channel_mult"), ({"dropout": 1.0}, "dropout"), ({"num_blocks": 0}, "num_blocks"),
    ({"model_channels": 0}, "model_channels"), ({"attn_resolutions": [0]}, "attn_resolutions")])
def test_settings_that_mean_nothing_are_refused(changes, said):
    with pytest.raises(SpecError, match=said):
        small(**changes)


def test_images_that_it_cannot_take_are_refused():
    with pytest.raises(SpecError, match="images of 6 pixels can't be halved 2 times"):
        small(channel_mult=[1, 1, 2]).check(6)
    with pytest.raises(SpecError, match="channels_per_head: got 32, .* attention: 16"):
        small(channels_per_head=32, attn_resolutions=[8]).check(8)
    small().check(8)


def test_augmentation_is_refused_which_it_cannot_be_told_of():
    values = {"network": SMALL, "augment": {"p": 0.1, "transforms": ["xflip"]},
              "optimiser": specs.strict.plain(tiny.optimiser()), "noise": {"P_mean": -0.4, "P_std": 1.0},
              "loss": {"weight": "ambient", "weight_clip": None, "buffer": None, "sigma_tn": "sigma_min"},
              "sigma_data": 0.5, "snapshots": [160], "seed": 0}
    with pytest.raises(SpecError, match=r"augment.transforms: got \('xflip',\), allowed: .* mp_unet has no"):
        build(specs.TrainingSpec, values, "training")
    build(specs.TrainingSpec, values | {"augment": {"p": 0.1, "transforms": []}}, "training")
    with pytest.raises(ValueError, match="mp_unet has no input"):
        build_network(small(), 8, 4, 0, True, seeded())


def test_a_crop_is_seen_as_a_network_of_its_size_sees_it():
    """crop(sigma) is measured on crops: attention has as many pixels as these have."""
    whole = made(attn_resolutions=[4, 8])
    small_one = build_network(small(conditional=True, attn_resolutions=[2, 4]), 4, 4, 5, False, seeded())
    small_one.load_state_dict(dict(zip(small_one.state_dict(), whole.state_dict().values(), strict=True)))
    for network in (whole, small_one):
        torch.nn.init.ones_(network.out_gain)
    x, noise = torch.randn(3, 4, 4, 4, generator=seeded(1)), torch.zeros(3)
    with torch.no_grad():
        torch.testing.assert_close(whole(x, noise, {}), small_one(x, noise, {}))
        assert whole(x, noise, {}).abs().max() > 0.1


def test_activations_end_at_their_largest():
    block = mp_unet.Block(8, 8, 3, embedding=4, dropout=0.0, largest=0.8, decodes=True, head=4,
                          generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(2))
    assert block(x, torch.zeros(2, 4), None).abs().max().item() == pytest.approx(0.8)
