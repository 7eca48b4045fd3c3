"""Networks and augmentation: reference vectors, public parameter names, closed forms."""

import json
import math
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from ambient.annotation.classifier import NoiseClassifier
from ambient.diffusion.augment import (
    LABELS,
    SYM6,
    TRANSFORMS,
    augment,
    augmented,
    doubling,
    enlarging,
    numbers,
    reducing,
    rotation,
    warp,
)
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.networks.operators import attention, resized
from ambient.diffusion.networks.unet import Conv, HalfUNet, UNet
from tests.plain_unet import PlainUNet

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no vectors at {REFERENCE}")
SMALL = {"resolution": 8, "channels_in": 3, "model_channels": 16, "channel_mult": (1, 2),
         "num_blocks": 1, "attn_resolutions": (4,), "dropout": 0.2}

PAPER = {"model_channels": 128, "num_blocks": 4, "attn_resolutions": (16,), "dropout": 0.13,
         "generator": torch.Generator()}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def full(resolution=32, label_dim=0, channel_mult=(2, 2, 2)):
    return UNet(resolution=resolution, channels_in=3, channels_out=3, label_dim=label_dim,
                augment_dim=9, channel_mult=channel_mult, **PAPER)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("options", "parameters", "file"), [
    ({}, 55_733_891, "cifar10-uncond"),
    ({"label_dim": 10}, 55_735_299, "cifar10-cond"),
    ({"resolution": 64, "channel_mult": (1, 2, 2, 2)}, 61_805_571, "ffhq-64-uncond"),
    ({"resolution": 64}, 55_733_891, None)])
def test_parameters_are_the_public_checkpoints(options, parameters, file):
    network = full(**options)
    assert count(network) == parameters
    path = REFERENCE / f"edm_{file}-ddpmpp_keys.json"
    if path.is_file():
        public = json.loads(path.read_text())
        shapes = {name: list(t.shape) for name, t in Denoiser(network).state_dict().items()}
        assert shapes == public["state_dict"] and parameters == public["parameters"]
        about = {"resolution": "img_resolution", "label_dim": "label_dim", "channel_mult": "channel_mult"}
        assert {ours: options.get(ours, known) for ours, known in (
            ("resolution", 32), ("label_dim", 0), ("channel_mult", (2, 2, 2)))} == {
                ours: tuple(value) if isinstance(value := public["config"][theirs], list) else value
                for ours, theirs in about.items()}


def test_half_unet_parameters():
    encoder = HalfUNet(resolution=32, channels_in=3, augment_dim=9, channel_mult=(2, 2, 2), **PAPER)
    assert count(NoiseClassifier(encoder, torch.Generator())) == 19_633_025


@needs_reference
def test_half_unet_vectors():
    with safe_open(REFERENCE / "halfunet_small.safetensors", framework="pt") as file:
        t = {name: file.get_tensor(name) for name in file.keys()}
        about = json.loads(file.metadata()["config"])
    encoder = HalfUNet(resolution=about["img_resolution"], channels_in=about["img_channels"],
                       model_channels=about["model_channels"], channel_mult=about["channel_mult"],
                       num_blocks=about["num_blocks"], attn_resolutions=about["attn_resolutions"],
                       dropout=about["dropout"], generator=torch.Generator())
    network = NoiseClassifier(encoder, torch.Generator()).eval()
    network.load_state_dict({name.removeprefix("weights."): tensor for name, tensor in t.items()
                             if name.startswith("weights.")})
    with torch.no_grad():
        assert (network(t["x"], t["sigma"]) - t["logits"]).abs().max() < 2e-5


def small(seed=0, **changes):
    return UNet(channels_out=3, label_dim=4, augment_dim=9, generator=seeded(seed), **SMALL | changes)


def filled(network):
    """A network in float64 and evaluation mode, of which no weight is near 0."""
    network, generator = network.double().eval(), seeded(9)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return network


@pytest.mark.parametrize("side", [8, 16])
def test_the_networks_are_those_of_the_papers_formulas(side):
    """Against `PlainUNet`, written from them: with classes and labels of augmentation, and without."""
    options = {"resolution": side, "channel_mult": (1, 2, 2), "num_blocks": 2, "model_channels": 32}
    network, half = filled(small(**options)), filled(HalfUNet(**SMALL | options, generator=seeded()))
    x = torch.randn(2, 3, side, side, generator=seeded(1), dtype=torch.float64)
    c_noise = torch.tensor([-1.3, 0.9], dtype=torch.float64)
    told = {"classes": torch.eye(4, dtype=torch.float64)[[2, 0]],
            "augment": torch.randn(2, 9, generator=seeded(2), dtype=torch.float64)}
    plain = PlainUNet(network.state_dict(), side, (1, 2, 2), 2)
    for given in ({"classes": told["classes"]}, told):
        expected = plain(x, c_noise, *given.values())
        torch.testing.assert_close(network(x, c_noise, given), expected, rtol=1e-6, atol=1e-6)
    plain = PlainUNet(half.state_dict(), side, (1, 2, 2), 2)
    expected = plain.encoded(x, plain.embedding(c_noise))[-1]
    torch.testing.assert_close(half(x, c_noise), expected, rtol=1e-6, atol=1e-6)


def test_a_denoiser_scales_input_output_and_noise_level():
    """D = c_skip x + c_out F(c_in x, c_noise) for an F that tells its two inputs apart (EDM, equation 7)."""
    class Seen(torch.nn.Module):
        def masks(self, count, drawn):
            return []

        def forward(self, x, c_noise, condition, masks):
            return 3 * x + 100 * c_noise[:, None, None, None]

    x = torch.randn(3, 1, 2, 2, generator=seeded(3))
    for sigma_data in (0.5, 0.9):
        for s, image in zip((0.01, 1.0, 50.0), x, strict=True):
            total = s**2 + sigma_data**2
            inside = 3 * image / math.sqrt(total) + 100 * math.log(s) / 4
            expected = sigma_data**2 / total * image + s * sigma_data / math.sqrt(total) * inside
            found = Denoiser(Seen(), sigma_data)(image[None], torch.tensor([s]))[0]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_initial_weights_are_a_function_of_the_generator():
    torch.manual_seed(7)
    a, b, c = small(1), small(1), small(2)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.map_layer0.weight, c.map_layer0.weight)
    weight = UNet(channels_out=3, generator=seeded(), **SMALL | {"model_channels": 64}).map_layer1.weight
    assert weight.var().item() == pytest.approx(2 / (256 + 256), rel=0.02)  # Xavier


def test_initial_denoiser_is_the_skip_connection():
    """The last convolution starts near 0, so D(x, sigma) starts as c_skip x."""
    x, sigma = torch.randn(2, 3, 8, 8, generator=seeded()), torch.tensor([0.3, 2.0])
    D = Denoiser(small().eval())(x, sigma)
    skip = (0.25 / (sigma**2 + 0.25)).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(D, skip * x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.87, 1 - 2**-16])
def test_masks_keep_with_their_probability(p):
    drawn = Blocks(slice(30, 37), "cpu", 1).bernoulli((7, 3, 101, 101), p)
    assert drawn.shape == (7, 3, 101, 101) and drawn.dtype == torch.bool
    deviation = (p * (1 - p) / drawn.numel()) ** 0.5
    assert abs(drawn.double().mean().item() - p) <= 4 * deviation + 2**-17
    if 0.05 < p < 0.95:  # neighbours come from one draw, and know nothing of each other
        flat = drawn.flatten().double()
        assert abs(torch.corrcoef(torch.stack([flat[:-1], flat[1:]]))[0, 1]) < 4 / drawn.numel() ** 0.5


def awake():
    """A small network in which what follows the dropout counts."""
    network = small()
    for block in network.modules():
        if hasattr(block, "conv1"):
            torch.nn.init.normal_(block.conv1.weight, generator=seeded(5))
    torch.nn.init.normal_(network.dec["8x8_aux_conv"].weight, generator=seeded(6))
    return network


def test_dropout_is_a_function_of_its_generator_and_needs_one():
    network, x, c = awake().train(), torch.randn(2, 3, 8, 8, generator=seeded()), torch.zeros(2)
    draws = [Blocks(slice(0, 2), "cpu", seed).bernoulli for seed in (1, 1, 2)]
    one, same, other = (network(x, c, masks=network.masks(2, draw)) for draw in draws)
    assert torch.equal(one, same) and not torch.equal(one, other)
    with pytest.raises(ValueError, match=r"dropout is 0\.2"):
        network.masks(2, None)
    assert network.eval().masks(2, None) == []


@pytest.mark.filterwarnings("ignore:Dynamo detected")  # of caches, which it does without
def test_an_evaluation_is_one_graph():
    """Compiled for GPUs, it must not fall into pieces; traced without generating code, the same values."""
    network, x, c = awake().train(), torch.randn(2, 3, 8, 8, generator=seeded()), torch.zeros(2)
    masks = network.masks(2, Blocks(slice(0, 2), "cpu", 1).bernoulli)
    eager = network(x, c, masks=masks)
    assert not torch.allclose(eager, network(x, c))
    network.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(network(x, c, masks=masks), eager)
    torch.compiler.reset()


def test_labels_change_the_output_and_none_is_zero():
    network, x, c = small().eval(), torch.randn(2, 3, 8, 8, generator=seeded()), torch.zeros(2)
    torch.nn.init.normal_(network.dec["8x8_aux_conv"].weight, generator=seeded(6))
    none = network(x, c)
    assert torch.equal(none, network(x, c, {"classes": torch.zeros(2, 4)}))
    assert torch.equal(none, network(x, c, {"augment": torch.zeros(2, 9)}))
    assert torch.equal(none, network(x, c, {"text": torch.ones(2, 7, 3)}))  # it knows no such name
    assert not torch.allclose(none, network(x, c, {"classes": torch.eye(4)[:2]}))
    assert not torch.allclose(none, network(x, c, {"augment": torch.ones(2, 9)}))


def test_bfloat16_stays_near_float32():
    x, c = torch.randn(4, 3, 8, 8, generator=seeded()), torch.zeros(4)
    network = small().eval()
    torch.nn.init.normal_(network.dec["8x8_aux_conv"].weight, std=0.05, generator=seeded(6))
    exact = network(x, c)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, c).float()
    assert (low - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how, operator", [
    ("down", lambda x: F.avg_pool2d(x, 2)),
    ("up", lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"))])
def test_box_filters_are_torchs_operators(how, operator, dtype):
    x = torch.randn(3, 5, 12, 12, generator=seeded()).to(dtype).requires_grad_()
    expected, found = operator(x), resized(x, how)
    towards = torch.randn(expected.shape, generator=seeded(1)).to(dtype)
    options = {"atol": 1e-6, "rtol": 0} if dtype == torch.float32 else {"atol": 0, "rtol": 2**-7}
    torch.testing.assert_close(found, expected, **options)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, towards)[0] for y in (found, expected)), **options)


def test_pointwise_convolution_is_torchs_operator():
    conv = Conv(6, 10, 1, seeded()).double()
    torch.nn.init.normal_(conv.bias, generator=seeded(1))
    x = torch.randn(4, 6, 5, 5, generator=seeded(2), dtype=torch.float64)
    inputs = (x.requires_grad_(), conv.weight, conv.bias)
    expected, found = F.conv2d(*inputs), conv(x)
    torch.testing.assert_close(found, expected)
    towards = torch.randn(expected.shape, generator=seeded(3), dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(y, inputs, towards) for y in (found, expected)))


@pytest.mark.parametrize("heads", [(), (3,)])
@pytest.mark.parametrize("cast", [False, True])
def test_attention_in_bfloat16_is_that_of_float32_rounded_once(heads, cast):
    """Under autocast, too, which would have torch compute its weights in bfloat16."""
    q, k, v = (torch.randn(2, *heads, length, 8, generator=seeded(i)).bfloat16() for i, length in
               enumerate((5, 7, 7)))
    weights = (q.double() @ k.double().transpose(-2, -1) / 8**0.5).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        found = attention(q, k, v)
    exact = weights @ v.double()
    half = torch.finfo(torch.bfloat16).eps / 2  # of a number's power of two: half a unit in the last place
    assert found.dtype == torch.bfloat16
    assert ((found.double() - exact).abs() <= half * exact.abs() + 1e-6).all()


def test_resolution_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="resolution 10"):
        HalfUNet(resolution=10, channels_in=1, channel_mult=(1, 1, 1), **PAPER)


# --- augmentation -----------------------------------------------------------------------------------


def smooth(middle=(6, 9.5), widths=(8, 12), side=16):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    bump = torch.exp(-((x - middle[0]) ** 2 / widths[0] + (y - middle[1]) ** 2 / widths[1]))
    return bump[None, None] * 2 - 1


def test_wavelet_is_orthonormal_so_that_halving_undoes_doubling():
    taps = torch.tensor(SYM6, dtype=torch.float64)
    assert taps.sum().item() == pytest.approx(math.sqrt(2))
    for shift in range(6):
        product = (taps[:12 - 2 * shift] * taps[2 * shift:]).sum().item()
        assert product == pytest.approx(1.0 if shift == 0 else 0.0, abs=1e-10)
    torch.testing.assert_close((doubling(24).T @ doubling(24))[6:-6], torch.eye(24)[6:-6])


def test_matrices_of_the_filters_are_the_convolutions():
    x = torch.randn(5, 1, 12, generator=seeded())
    taps = torch.tensor(SYM6).reshape(1, 1, -1)
    enlarged = F.conv_transpose1d(F.pad(x, (4, 4), mode="reflect"), taps, stride=2, padding=5)
    torch.testing.assert_close(x @ enlarging(12, 4, x.device).T, enlarged)
    long = torch.randn(5, 1, 36, generator=seeded())
    torch.testing.assert_close(long @ reducing(12, 3, x.device).T,
                               F.conv1d(long, taps, stride=2, padding=5)[..., 3:-3])


def test_warps_against_exact_transforms():
    x, eye, still = smooth(), torch.eye(2)[None], torch.zeros(1, 2)
    assert (warp(x, eye, still) - x).abs().max() < 1e-5
    moved = warp(x, eye, torch.tensor([[2.0, -3.0]]))
    assert (moved[..., :-3, 2:] - x[..., 3:, :-2]).abs().max() < 1e-5
    assert (warp(x, -eye, still) - x.flip(2, 3)).abs().max() < 0.04
    quarter = warp(x, rotation(torch.tensor([math.pi / 2])), still)
    assert (quarter - torch.rot90(x, -1, (2, 3))).abs().max() < 0.03
    # Twice as large about the centre 7.5: the bump's middle moves away from it, its widths double.
    assert (warp(x, 2 * eye, still) - smooth(middle=(4.5, 11.5), widths=(32, 48))).abs().max() < 0.03


def test_probability_zero_flips_only_and_labels_say_so():
    x = torch.randn(64, 1, 8, 8, generator=seeded())
    out, labels = augment(x, seeded(1), p=0.0)
    flipped = labels[:, 0] == 1
    assert 16 < flipped.sum() < 48 and (labels[:, 1:] == 0).all()
    assert torch.equal(out[flipped], x[flipped].flip(3)) and torch.equal(out[~flipped], x[~flipped])
    same, none = augment(x, seeded(1), p=0.0, transforms=("rotate",))
    assert torch.equal(same, x) and (none == 0).all()


def test_untouched_labels_mean_untouched_images_and_draws_repeat():
    x = torch.rand(400, 1, 8, 8, generator=seeded()) * 2 - 1
    out, labels = augment(x, seeded(2), p=0.2)
    again, _ = augment(x, seeded(2), p=0.2)
    assert torch.equal(out, again) and labels.shape == (400, LABELS)
    still = (labels == 0).all(dim=1)
    assert torch.equal(out[still], x[still]) and 0 < still.sum() < 200
    assert ((labels[:, 2] != 0).float().mean() - 0.2).abs() < 0.06  # scale fires with p
    assert ((labels[:, 1] != 0).float().mean() - 0.1).abs() < 0.05  # y flip: p times a fair coin


def test_all_transforms_together_are_one_linear_map_of_the_flipped_image():
    """Against the function that the image samples, at places that no border reaches: flips first, then scale,
    rotation, anisotropy and shift, from the random numbers in the order in which they are drawn."""
    def f(x, y):
        bright, dark = (x - 3) ** 2 / 40 + (y + 4) ** 2 / 60, (x + 5) ** 2 / 50 + y**2 / 30
        return torch.exp(-bright) - torch.exp(-dark)
    axis = torch.arange(32.0) - 15.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    drawn = numbers(60, seeded(8))
    out, _ = augmented(f(x, y).repeat(60, 1, 1, 1), drawn, 1.0, TRANSFORMS)
    for image, row in zip(out[:, 0], drawn.double(), strict=True):
        u, w = row.split([10, 4])
        turn, towards = ((2 * u[k:k + 1] - 1) * math.pi for k in (8, 9))
        towards = rotation(towards * (u[0] < 0.5))[0]
        stretch = torch.diag(torch.stack([2 ** (0.2 * w[1]), 2 ** (-0.2 * w[1])]))
        flips = torch.diag(1 - 2.0 * (u[6:8] < 0.5).double())
        whole = towards @ stretch @ towards.T @ rotation(turn)[0] * 2 ** (0.2 * w[0]) @ flips
        places = torch.stack([x, y], -1).double() - 4 * w[2:]
        found = places @ torch.linalg.inv(whole).T
        inside = (found.abs() < 13).all(-1)
        assert inside.sum() > 100
        assert ((f(*found.unbind(-1)) - image).abs() * inside).max() < 0.01


def test_labels_have_the_transforms_numbers():
    x = smooth().expand(4000, 1, 16, 16)
    out, labels = augment(x, seeded(3), p=1.0, transforms=("translate",))
    shift = (2 * labels[:, 7:]).round()  # 0.125 * 16 pixels
    close = ((2 * labels[:, 7:] - shift).abs() < 0.03).all(1) & (shift.abs() <= 4).all(1)
    row = int(close.nonzero()[0])
    dx, dy = int(shift[row, 0]), int(shift[row, 1])
    torch.testing.assert_close(out[row, 0, 4:-4, 4:-4], x[0, 0].roll((dy, dx), (0, 1))[4:-4, 4:-4],
                               atol=0.05, rtol=0)
    _, turned = augment(x, seeded(3), p=1.0, transforms=("rotate",))
    torch.testing.assert_close((turned[:, 3] + 1) ** 2 + turned[:, 4] ** 2, torch.ones(4000))


def test_networks_and_classifiers_compute_in_the_precision_of_their_weights():
    """In float64 the derivative along a direction is a difference quotient to six digits."""
    options = SMALL | {"dropout": 0.0, "generator": seeded(3)}
    x, towards = torch.randn(2, 2, 3, 8, 8, generator=seeded(6), dtype=torch.float64)
    sigma = torch.tensor([0.5, 2.0], dtype=torch.float64)
    classifier = NoiseClassifier(HalfUNet(**options), seeded(4))
    for network in (Denoiser(UNet(channels_out=3, **options)), classifier):
        network.double().eval()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.1, generator=seeded(5))
        low, high = (network(x + step * towards, sigma) for step in (-1e-5, 1e-5))
        exact = torch.func.jvp(partial(network, sigma=sigma), (x,), (towards,))[1]
        assert low.dtype == torch.float64
        torch.testing.assert_close((high - low) / 2e-5, exact, rtol=1e-6, atol=1e-8)
