"""What GPUs ask of the networks, as far as a machine without one can tell.

torch's fake tensors say that they lie on a GPU, and hold no numbers. So code that is for GPUs alone runs,
and the operators of a gradient have names. `torch.compile` without its backend traces a network, and computes
it as it is.
"""

import dataclasses
import subprocess
import sys

import pytest
import tiny
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ambient import specs
from ambient.annotation.classifier import NoiseClassifier
from ambient.diffusion.networks import operators
from ambient.diffusion.networks.autoencoder import Autoencoder
from ambient.diffusion.networks.contrastive import ImageTower, TextTower
from ambient.diffusion.randomness import torch_generator
from ambient.evaluation.small_nets import SmallNets
from ambient.training.build import build_network
from ambient.training.hardware import COMPILED, autocast

# Operators whose gradient on a GPU repeats its bits in no mode. torch has the list, at
# `use_deterministic_algorithms`.
NEVER_REPEATED = ("AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool3D", "Bicubic", "Bilinear", "CtcLoss",
                  "Cumsum", "EmbeddingBag", "FractionalMaxPool", "GridSampler", "Linear1D", "MaxPool3D",
                  "MaxUnpool", "NllLoss2D", "ReflectionPad", "ReplicationPad", "Trilinear")
SIDE, COUNT = 16, 2
MP = specs.NetworkSpec.KINDS["mp_unet"].Spec(
    kind="mp_unet", model_channels=16, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(8,),
    channels_per_head=8, dropout=0.1)


def built(network, **options):
    """A network of a specification, for images of three channels."""
    return build_network(network, SIDE, 3, 0, False, torch_generator("cpu", 0), **options)


def generator():
    return torch_generator("cpu", 0)


def noised(where):
    return torch.zeros(COUNT, 3, SIDE, SIDE, device=where), torch.ones(COUNT, device=where)


def told(where):
    """What a transformer is told in a training step: captions, and which patches stay."""
    return *noised(where), {"text": torch.zeros(COUNT, 4, 10, device=where),
                            "patches": torch.arange(32, device=where).expand(COUNT, -1)}


def pictures(where):
    return torch.zeros(COUNT, 3, SIDE, SIDE, device=where),


UNET = dataclasses.replace(tiny.NETWORK, model_channels=16, attn_resolutions=(8,))
NETWORKS = {
    "unet": (lambda: built(UNET), noised),
    "classifier": (lambda: NoiseClassifier(built(UNET, encoder_only=True), generator()), noised),
    "mp_unet": (lambda: built(MP), noised),
    "dit": (lambda: built(tiny.TOLD.network), told),
    "detector": (lambda: SmallNets(2, 3, 8, 6, 4), pictures),
    "autoencoder": (lambda: Autoencoder(3, 4, (16, 32), generator()).decoder,
                    lambda where: (torch.zeros(COUNT, 4, 4, 4, device=where),)),
    "images": (lambda: ImageTower(3, 8, 6), pictures),
    "captions": (lambda: TextTower(20, 4, 16, 1, 2, 6),
                 lambda where: (torch.zeros(COUNT, 4, dtype=torch.long, device=where),)),
}


def of_gradient(output):
    """The names of the operators that a gradient goes through."""
    found, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
    return {node.name() for node in found}


def on_a_fake_gpu(network, arguments, times=1):
    """What a network gives for `arguments(device)`. Its weights and all between lie on a GPU that is none."""
    named = dict([*network.named_parameters(), *network.named_buffers()])
    with FakeTensorMode(allow_non_fake_inputs=True):
        state = {name: torch.empty(one.shape, dtype=one.dtype, device="cuda",
                                   requires_grad=one.dtype.is_floating_point) for name, one in named.items()}
        for _ in range(times - 1):
            functional_call(network, state, arguments("cuda"))
        given = arguments("cuda")
        with Sent() as sent:
            output = functional_call(network, state, given)
    return output, sent.found


class Sent(TorchDispatchMode):
    """Notes the operators that take a tensor of the CPU and give one of the GPU."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        taken, given = ({one.device.type for one in tree_leaves(tree) if isinstance(one, torch.Tensor)}
                        for tree in (arguments, output))
        if "cpu" in taken and "cuda" in given:
            self.found.append(str(function))
        return output


@pytest.mark.parametrize("name", NETWORKS)
def test_no_gradient_goes_through_what_never_repeats_its_bits(name):
    make, arguments = NETWORKS[name]
    output, _ = on_a_fake_gpu(make().eval(), arguments)
    names = of_gradient(output)
    assert output.is_cuda and len(names) > 5
    assert not [one for one in names if any(word in one for word in NEVER_REPEATED)]


def test_the_list_knows_an_operator_that_does_not():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.AdaptiveAvgPool2d(2))
    output, _ = on_a_fake_gpu(network, pictures)
    assert any("AdaptiveAvgPool" in one for one in of_gradient(output))


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_sent_to_the_gpu_in_a_second_call(name):
    """The host would wait for it in each step. A first call may send what is kept."""
    make, arguments = NETWORKS[name]
    assert on_a_fake_gpu(make().eval(), arguments, times=2)[1] == []


def test_what_is_sent_in_each_call_is_seen():
    class Sending(torch.nn.Module):
        def forward(self, x):
            return x * torch.ones(x.shape[-1]).to(x.device)

    assert on_a_fake_gpu(Sending(), pictures, times=2)[1] == ["aten._to_copy.default"]


def test_float32_on_a_gpu_is_float32_by_old_and_new_names():
    """torch keeps both, and raises where one that is asked for contradicts the other."""
    asked = ("import torch; torch.cuda.is_available = lambda: True\n"
             "from ambient.training import hardware; print(hardware.device())\n"
             "print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)\n"
             "print(torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)\n"
             "with torch.backends.cudnn.flags(allow_tf32=False): pass")
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["cuda", "False", "False", "ieee", "ieee"]


def test_torchs_compiler_knows_the_options():
    """Where it did not, it would say so in the first job on a GPU."""
    torch.compile(torch.nn.Linear(1, 1), options=COMPILED)
    with pytest.raises(RuntimeError, match="Unexpected optimization option"):
        torch.compile(torch.nn.Linear(1, 1), options=COMPILED | {"dynamic_scale_block": False})


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 2), (7, 5, 2), (9, 4, 4), (3, 3, 1)])
def test_pooling_on_gpus_has_the_windows_of_torchs(height, width, side):
    x = torch.randn(2, 3, height, width, generator=generator())
    rows, columns = (operators.windows(size, side, x.device) for size in (height, width))
    torch.testing.assert_close(rows @ x @ columns.T, F.adaptive_avg_pool2d(x, side))


@pytest.mark.parametrize(("channels", "groups"), [(8, 8), (8, 2), (24, 8), (6, 1)])
def test_group_norm_by_channel_has_torchs_values_and_gradients(channels, groups):
    values = torch.randn(3, channels, 5, 4, generator=generator(), dtype=torch.float64)
    values = values * torch.arange(1, channels + 1)[:, None, None] + 7 * torch.arange(channels)[:, None, None]
    weight, bias, towards = (torch.randn(shape, generator=generator(), dtype=torch.float64)
                             for shape in (channels, channels, values.shape))
    found = []
    for norm in (lambda x, w, b: operators.by_channel(x, groups, w, b, 1e-6),
                 lambda x, w, b: F.group_norm(x, groups, w, b, 1e-6)):
        leaves = [one.clone().requires_grad_() for one in (values, weight, bias)]
        output = norm(*leaves)
        found.append((output, *torch.autograd.grad((output * towards).sum(), leaves)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_large_mean_costs_group_norm_by_channel_no_digits():
    values = torch.randn(2, 8, 16, 16, generator=generator(), dtype=torch.float64) + 1000
    one, zero = torch.ones(8), torch.zeros(8)
    expected = F.group_norm(values, 2, one.double(), zero.double(), 1e-6)
    ours, theirs = (norm(values.float()).double() - expected for norm in (
        lambda x: operators.by_channel(x, 2, one, zero, 1e-6), lambda x: F.group_norm(x, 2, one, zero, 1e-6)))
    assert ours.abs().max() < 2 * theirs.abs().max() < 1e-2


def test_group_norm_is_by_channel_only_where_it_is_compiled_for_a_gpu(monkeypatch):
    make, arguments = NETWORKS["unet"]
    output, _ = on_a_fake_gpu(make().eval(), arguments)
    assert "NativeGroupNormBackward0" in of_gradient(output)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    output, _ = on_a_fake_gpu(make().eval(), arguments)
    assert "NativeGroupNormBackward0" not in of_gradient(output)
    network = make().eval()
    assert "NativeGroupNormBackward0" in of_gradient(network(*arguments("cpu")))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")  # of pure functions
@pytest.mark.parametrize("name", ["unet", "classifier", "mp_unet", "dit"])
def test_a_network_is_compiled_as_one_piece(name):
    """A break would cut it into pieces, each compiled by itself, and some again in each step."""
    make, arguments = NETWORKS[name]
    network, given = make().eval(), arguments("cpu")
    torch._dynamo.reset()
    translated = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    for precision in ("float32", "bfloat16"):
        with autocast(precision, torch.device("cpu")), torch.no_grad():
            torch.testing.assert_close(translated(*given), network(*given))
