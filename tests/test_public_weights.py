"""Published networks: their tensors come out of safetensors and pickles, and nothing of a pickle runs."""

import copy
import io
import json
import os
import pickle
import pickletools
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import ambient
from ambient.data import pickles
from ambient.diffusion.networks.mp_unet import MPUNet
from ambient.evaluation import published_moments
from ambient.training.edm_weights import mp_architecture
from ambient.training.public_weights import read_tensors

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
SHAPE = {"resolution": 8, "channels": 4, "label_dim": 3, "model_channels": 16, "channel_mult": [1, 2],
         "num_blocks": 1, "attn_resolutions": [4], "channels_per_head": 16}


@pytest.fixture
def network():
    generator = torch.Generator().manual_seed(0)
    made = MPUNet(**SHAPE, dropout=0.1, generator=generator)
    for tensor in made.state_dict().values():
        tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return made.eval()


def published(network):
    """The state as EDM2 names it, in float16 as published."""
    state = {f"unet.{name}": tensor.half() for name, tensor in network.state_dict().items()}
    return state | {"logvar_fourier.freqs": torch.ones(128), "logvar_linear.weight": torch.ones(1, 128)}


def same_network(loaded, network):
    half = {name: tensor.half().float() for name, tensor in network.state_dict().items()}
    network.load_state_dict(half)
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.1, 1.0, 9.0])
    classes = {"classes": torch.eye(3)}
    with torch.no_grad():
        assert torch.equal(loaded(x, sigma, classes), type(loaded)(network, 0.5)(x, sigma, classes))


def test_edm2s_weights_load_from_safetensors(tmp_path, network):
    save_file(published(network), tmp_path / "edm2.safetensors")
    same_network(ambient.load_edm(tmp_path / "edm2.safetensors", channels_per_head=16), network)
    bare = {name: tensor.half() for name, tensor in network.state_dict().items()}
    save_file(bare, tmp_path / "bare.safetensors")
    same_network(ambient.load_edm(tmp_path / "bare.safetensors", channels_per_head=16), network)


def test_few_bytes_take_no_memory_of_the_network_that_they_claim_to_be_of(tmp_path):
    claimed = {"emb_fourier.freqs": (1,), "emb_noise.weight": (10**6, 1), "out_conv.weight": (1, 1, 1, 1),
               "enc.8x8_block0.conv_res0.weight": (10**6, 1, 1, 1)}  # a convolution of 36 TB
    save_file({name: torch.zeros(shape) for name, shape in claimed.items()}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a.safetensors: dec.8x8_block0.conv_res0.weight: .* None, allowed"):
        ambient.load_edm(tmp_path / "a.safetensors", channels_per_head=1)


@pytest.mark.parametrize("name", ["unet_cond", "unet_uncond"])
def test_a_network_of_the_reference_loads_by_its_public_names(tmp_path, name):
    path = REFERENCE / f"latent/{name}.safetensors"
    if not path.exists():
        pytest.skip("no reference vectors here")
    with safe_open(path, "pt") as file:
        vectors = {key: file.get_tensor(key) for key in file.keys()}
        config = json.loads(file.metadata()["config"])
    weights = {key for key in vectors if key.startswith("weights.")}
    save_file({key.removeprefix("weights."): vectors[key] for key in weights}, tmp_path / "edm2.safetensors")
    loaded = ambient.load_edm(tmp_path / "edm2.safetensors", channels_per_head=config["channels_per_head"])
    condition = {"classes": vectors["class_labels"]} if "class_labels" in vectors else {}
    with torch.no_grad():
        found, expected = loaded(vectors["x"], vectors["sigma"], condition), vectors["out64.denoised"]
    assert (found - expected).abs().max() <= 5e-6 * expected.abs().max()


def test_the_architecture_of_every_published_network_is_read_from_its_names():
    path = REFERENCE / "latent/keys.json"
    if not path.exists():
        pytest.skip("no reference vectors here")
    seen = 0
    for name, about in json.loads(path.read_text()).items():
        if "state_dict" in about:
            shapes = {key.removeprefix("unet."): torch.empty(shape, device="meta")
                      for key, shape in about["state_dict"].items()}
            assert mp_architecture(shapes) == {
                "resolution": 64, "channels": 4, "model_channels": about["model_channels"], "num_blocks": 3,
                "channel_mult": [1, 2, 3, 4], "attn_resolutions": [8, 16],
                "label_dim": about["label_dim"]}, name
            seen += 1
    assert seen == 3


# --- pickles ------------------------------------------------------------------------------------------

@pytest.fixture
def pickled(monkeypatch):
    """Writes a module as EDM2 publishes one: an object of a class of its own carries the source of the class,
    and names a function that would run it."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("it ran")

    class EasyDict(dict):
        pass

    for module, one in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        one.__module__, one.__qualname__ = module.__name__, one.__name__
        setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, module.__name__.split(".")[0], types.ModuleType("top"))
        monkeypatch.setitem(sys.modules, module.__name__, module)

    class Precond(nn.Module):
        def __init__(self, unet):
            super().__init__()
            self.unet, self.logvar_linear = unet, nn.Linear(4, 1, bias=False)
            self.register_buffer("passing", torch.ones(2), persistent=False)

        def __reduce__(self):
            return _reconstruct_persistent_obj, (EasyDict(
                type="class", version=6, module_src="raise AssertionError('it ran')", class_name="Precond",
                state=self.__dict__),)

    def dump(network, path, protocol=pickle.DEFAULT_PROTOCOL):
        averaged = Precond(copy.deepcopy(network)).half()
        whole = {"ema": averaged, "loss_fn": EasyDict(a=1), "dataset_kwargs": {"path": "x"}}
        path.write_bytes(pickle.dumps(whole, protocol=protocol))
        return path

    return dump


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_edm2s_weights_load_from_the_pickle_itself(tmp_path, network, pickled, protocol, monkeypatch):
    path = pickled(network, tmp_path / "edm2.pkl", protocol)
    for name in ("torch_utils.persistence", "dnnlib.util", "torch_utils", "dnnlib"):
        monkeypatch.delitem(sys.modules, name)
    state = {f"unet.{name}": tensor for name, tensor in network.state_dict().items()}
    assert read_tensors(path).keys() == state.keys() | {"logvar_linear.weight"}
    same_network(ambient.load_edm(path, channels_per_head=16), network)


class Call:
    """In a pickle: a call."""

    def __init__(self, function, *arguments):
        self.told = function, arguments

    def __reduce__(self):
        return self.told


def torch_saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def hostile(path):
    """Pickles that make a folder at `path` if anything of them runs."""
    mkdir = Call(os.mkdir, str(path))
    yield mkdir
    yield {"ema": mkdir}
    yield Call(eval, f"__import__('os').mkdir({str(path)!r})")
    yield Call(getattr, mkdir, "x")
    yield Call(torch.load, str(path))
    yield Call(torch.storage._load_from_bytes, torch_saved(mkdir))
    yield Call(torch._utils._rebuild_tensor_v2, mkdir, 0, (1,), (1,), False, {})
    yield Call(torch._utils._rebuild_parameter, mkdir, False, {})
    yield Call(pickle.loads, pickle.dumps(mkdir))
    yield Call(np.load, str(path))


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_nothing_of_a_hostile_pickle_runs(tmp_path, number, protocol):
    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps(list(hostile(tmp_path / "hit"))[number], protocol=protocol))
    with pytest.raises(ValueError, match=f"^{path}: (not a readable pickle|holds no network)"):
        read_tensors(path)
    assert not (tmp_path / "hit").exists()


def test_a_pickle_cannot_change_what_others_are_given(tmp_path):
    """The opcode `b` sets attributes of what is on the stack: here the function that rebuilds tensors."""
    path = tmp_path / "hostile.pkl"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    path.write_bytes(rebuild + b"(N}S'func'\nctorch.storage\n_load_from_bytes\nstb.")
    assert "BUILD" in [op.name for op, *_ in pickletools.genops(path.read_bytes())]
    with pytest.raises(ValueError, match="hostile.pkl"):
        read_tensors(path)
    from ambient.training.public_weights import MADE, NetworkUnpickler, tensor

    assert MADE["torch._utils", "_rebuild_tensor_v2"] is tensor and not vars(tensor)
    assert NetworkUnpickler(io.BytesIO()).find_class("torch._utils", "_rebuild_tensor_v2").func is tensor


@pytest.mark.parametrize(("size", "stride", "offset"), [
    ((5,), (1,), 0), ((2,), (1,), 3), ((10**9, 4), (0, 1), 0), ((2,), (-1,), 1)])
def test_a_tensor_beyond_its_numbers_is_refused(tmp_path, size, stride, offset):
    content = Call(torch.storage._load_from_bytes, torch_saved(torch.ones(4).storage()))
    held = Call(torch._utils._rebuild_tensor_v2, content, offset, size, stride, False, {})
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(ValueError, match=r"a.pkl: not a readable pickle"):
        read_tensors(tmp_path / "a.pkl")


STRIDED = {
    "every second": torch.arange(24.0).reshape(4, 6)[:, 1::2], "turned": torch.arange(24.0).reshape(4, 6).T,
    "inner": torch.arange(24.0).reshape(4, 6)[2:, 3:], "single": torch.tensor(3.5), "none": torch.zeros(0, 5),
    "channels last": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    **{str(kind): torch.tensor([0, 1, 2]).to(kind) for kind in (
        torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)}}


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_tensors_of_any_layout_and_precision_are_read(tmp_path, pickled, protocol):
    module, base = nn.Module(), torch.arange(24.0)
    for i, tensor in enumerate(STRIDED.values()):
        module.register_buffer(f"tensor{i}", tensor)
    module.register_buffer("whole", base)
    module.register_buffer("shared", base[5:11])  # of the same storage
    module.told = nn.Parameter(torch.ones(2, 3))
    module.told.about = "a parameter with an attribute of its own"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"ema": module}, protocol))
    found, expected = read_tensors(tmp_path / "a.pkl"), module.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


@pytest.mark.parametrize("tensor", [torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]).conj().imag])
def test_a_tensor_whose_numbers_are_to_be_changed_is_refused(tmp_path, tensor):
    module = nn.Module()
    module.register_buffer("a", tensor)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"ema": module}))
    with pytest.raises(ValueError, match=r"a tensor of numbers that are to be changed .{'(conj|neg)"):
        read_tensors(tmp_path / "a.pkl")


class Array:
    """In a pickle: an array whose bytes are to be taken for addresses of objects, or whose shape is none."""

    def __init__(self, shape, kind):
        self.state = 1, shape, np.dtype(kind), False, b"A" * 16

    def __reduce__(self):
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("array", [
    Call(np.ndarray, (2,), np.dtype("O"), b"A" * 16), Call(np.ndarray, (2,), np.dtype("f8"), b"A" * 16),
    Call(np._core.numeric._frombuffer, b"A" * 16, np.dtype("O"), (2,), "C"), Array((2,), "O"),
    Call(np._core.multiarray.scalar, np.dtype("O"), b"A" * 8), Array((2,), [("a", "O")]),
    Array((-1, -2), "f8"), Array((2,), "i4"), Array((2,), "V8")])
def test_bytes_of_a_pickle_become_plain_numbers_or_nothing(tmp_path, array, protocol):
    path = tmp_path / "moments.pkl"
    path.write_bytes(pickle.dumps({"fid": {"mu": array, "sigma": array, "num_images": 2}}, protocol))
    with pytest.raises(ValueError, match=f"^{path}: not a readable pickle .ValueError"):
        published_moments.read(path, "fid", 2)


def test_a_module_in_two_places_and_tensors_with_more_than_numbers_are_refused(tmp_path, pickled):
    inner, path = nn.Identity(), tmp_path / "a.pkl"
    for _ in range(40):  # few bytes, and 2^40 names
        inner = nn.ModuleDict({"a": inner, "b": inner})
    path.write_bytes(pickle.dumps(inner))
    with pytest.raises(ValueError, match=r"a.pkl: a\.a\..* is in another place, too"):
        read_tensors(path)
    tensor = torch.ones(1).__reduce_ex__(2)
    path.write_bytes(pickle.dumps(Call(*tensor[:1], *tensor[1])))
    rebuilt = path.read_bytes()
    path.write_bytes(rebuilt[:-1] + pickle.dumps({"tensor": "x"})[2:-1] + b"b.")
    with pytest.raises(ValueError, match="a tensor with more than its numbers"):
        read_tensors(path)


def test_damaged_and_other_pickles_are_named(tmp_path, network, pickled):
    whole = pickled(network, tmp_path / "edm2.pkl").read_bytes()
    path = tmp_path / "a.pkl"
    for content in (b"", b"garbage", whole[:len(whole) // 2], whole[:-1], b"\x80\x05" + b"(" * 10_000 + b"."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="a.pkl: not a readable pickle"):
            read_tensors(path)
    for value in ({"ema": 3}, [1], nn.Identity(), {"ema": nn.Linear(2, 2).state_dict()}):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(ValueError, match="a.pkl: holds no network"):
            read_tensors(path)
    path.write_bytes(pickle.dumps({"ema": nn.Linear(2, 2)}))
    with pytest.raises(ValueError, match="a.pkl: not the weights of EDM's DDPM"):
        ambient.load_edm(path)


def test_a_codec_is_not_looked_up_by_a_name_in_a_pickle(tmp_path):
    import _codecs

    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(Call(_codecs.encode, "a", "rot13")))
    with pytest.raises(ValueError, match="asks for the codec 'rot13'"):
        pickles.read_inert(path)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_and_entries_survive_and_classes_are_data(tmp_path, protocol):
    class Odd(dict):
        pass

    Odd.__module__, Odd.__qualname__ = "odd", "Odd"
    values = {"mean": np.arange(6.0).reshape(2, 3), "f": np.asfortranarray(np.eye(2, 3, dtype=np.float32)),
              "swapped": np.arange(4, dtype=">i2"), "one": np.array(2.5),
              "number": np.float32(1.5), "some": np.arange(9)[::2], "truths": np.array([True, False]),
              "empty": np.zeros((0, 4))}
    sys.modules["odd"] = types.SimpleNamespace(Odd=Odd)
    try:
        content = pickle.dumps({"fid": Odd(values), "num_images": 7}, protocol=protocol)
    finally:
        del sys.modules["odd"]
    (tmp_path / "a.pkl").write_bytes(content)
    found = pickles.read_inert(tmp_path / "a.pkl")
    assert found["num_images"] == 7 and found["fid"].origin == "odd.Odd"
    for name, value in values.items():
        np.testing.assert_array_equal(found["fid"][name], value)
        assert found["fid"][name].dtype.str[1:] == value.dtype.str[1:]  # numpy may change the order of bytes
