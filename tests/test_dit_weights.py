"""Public MicroDiT weights: the architecture comes from names and shapes, and nothing else is read."""

import os

import pytest
import torch
from safetensors.torch import save_file
from t2i_vectors import agree, needs_reference, read, vectors
from test_dit import awake

import ambient
from ambient.diffusion.networks.dit import MicroDiT
from ambient.diffusion.networks.widths import BlockWidths
from ambient.training.dit_weights import dit_architecture

HEADS = {"channels_per_head": 8}


def published(path, network, form):
    """The state of a network as it is published, in one of three files."""
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if form == "safetensors":
        save_file(state, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    if form == "checkpoint":
        model = {f"dit.{name}": tensor for name, tensor in state.items()} | {"vae.weight": torch.ones(3)}
        state = {"state": {"model": model, "timestamp": {"batch": 7}}, "rng": []}
    torch.save(state, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


@pytest.mark.parametrize("form", ["safetensors", "state", "checkpoint"])
def test_weights_load_from_every_published_form(tmp_path, form):
    network = awake(mixer_channels=24, patch=1)
    loaded = ambient.load_microdit(published(tmp_path / "dit", network, form), **HEADS)
    x, sigma = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.4, 3.0])
    condition = {"text": torch.ones(2, 5, 10)}
    with torch.no_grad():
        expected = type(loaded)(network, 0.9)(x, sigma, condition)
        assert torch.equal(loaded(x, sigma, condition), expected) and not loaded.training


@needs_reference
def test_networks_of_the_reference_load_by_their_public_names(tmp_path):
    for name, head in (("dit_a", 8), ("dit_b", 10)):
        path = tmp_path / f"{name}.pt"
        torch.save(vectors(f"{name}.weights")[0], path)
        loaded, (t, _) = ambient.load_microdit(path, channels_per_head=head), vectors(f"{name}.mask0")
        with torch.no_grad():
            agree(loaded.model(t["in.x"], t["in.t"], {"text": t["in.y"][:, 0]}), t["out64.sample"], 2e-5)


@pytest.mark.parametrize("mixer_width", [24, 16])  # as wide as the tokens, and narrower
def test_a_network_without_blocks_in_its_mixer_loads(tmp_path, mixer_width):
    generator = torch.Generator().manual_seed(3)
    network = MicroDiT(side=8, channels=3, patch=2, width=24, head=8, blocks=[BlockWidths(24, 32)],
                       mixer_width=mixer_width, mixer=[], caption_channels=10, caption_mlp=16, num_experts=1,
                       capacity=1.0, generator=generator).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    loaded = ambient.load_microdit(published(tmp_path / "dit", network, "state"), **HEADS)
    x, t = torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([-0.2, 0.3])
    condition = {"text": torch.ones(2, 5, 10)}
    with torch.no_grad():
        assert torch.equal(loaded.model(x, t, condition), network(x, t, condition))
    made = dit_architecture(network.state_dict())
    assert (made["mixer"], made["mixer_width"], made["num_experts"]) == ([], mixer_width, 1)


@needs_reference
def test_the_architecture_of_the_public_networks_is_read_from_their_names():
    for preset, width, depth, mixer_width, mixer, experts in (
            ("MicroDiT_XL_2", 1024, 28, 768, 6, 13), ("MicroDiT_Tiny_2", 512, 16, 512, 4, 7)):
        shapes = {name: torch.empty(shape, device="meta") for name, shape in read("keys")[preset][
            "shapes"].items()}
        made = dit_architecture(shapes)
        assert (made["side"], made["channels"], made["patch"], made["width"], made["caption_channels"],
                made["num_experts"]) == (32, 4, 2, width, 1024, 8)
        assert (len(made["blocks"]), made["mixer_width"], len(made["mixer"])) == (depth, mixer_width, mixer)
        assert sum(block.experts for block in made["blocks"]) == experts


def test_what_does_not_fit_is_named(tmp_path):
    network, path = awake(), tmp_path / "dit.pt"
    state = network.state_dict()
    for changes, said in (({"blocks.1.norm2.weight": None}, "blocks.1.norm2.weight: has the shape None"),
                          ({"odd": torch.ones(1)}, r"odd: has the shape \(1,\), allowed: None"),
                          ({"mask_token": torch.ones(1, 1, 3)}, "mask_token: has the shape"),
                          ({"final_layer.linear.bias": state["final_layer.linear.bias"] / 0},
                           "1 of [0-9]+ tensors are not finite, the first is final_layer.linear.bias"),
                          ({"pos_embed": None}, "not the weights of MicroDiT: 'pos_embed' is missing"),
                          ({"patch_mixer.0.norm1.weight": None},
                           "patch_mixer.0.norm1.weight: has the shape None"),
                          ({"blocks.3.norm1.weight": None}, "blocks.3.norm1.weight: has the shape None")):
        changed = {name: tensor for name, tensor in (state | changes).items() if tensor is not None}
        torch.save(changed, path)
        with pytest.raises(ValueError, match=f"^{path}: {said}"):
            ambient.load_microdit(path, **HEADS)
    torch.save(state, path)
    with pytest.raises(ValueError, match="channels_per_head: got 64, allowed: a divisor of .*: 16, 24"):
        ambient.load_microdit(path)
    with pytest.raises(ValueError, match=r"capacity: got 9.0, allowed: \(0, 4\]"):
        ambient.load_microdit(path, capacity=9.0, **HEADS)


class Call:
    """In a pickle: a call."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_of_a_hostile_file_runs_and_damage_is_named(tmp_path):
    path = tmp_path / "dit.pt"
    for value in (Call(tmp_path / "hit"), {"state": {"model": Call(tmp_path / "hit")}}):
        torch.save(value, path)
        said = "not a file of torch.save, or one with more in it than weights, which is not read: posix.mkdir"
        with pytest.raises(ValueError, match=f"^{path}: {said}$"):  # and not torch's advice to run it
            ambient.load_microdit(path)
    assert not (tmp_path / "hit").exists()
    for value in (3, {"a": 1}, [torch.ones(2)], {1: torch.ones(2)}):
        torch.save(value, path)
        with pytest.raises(ValueError, match=f"^{path}: holds no state of a network"):
            ambient.load_microdit(path)
    for content in (b"", b"garbage"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: "):
            ambient.load_microdit(path)
