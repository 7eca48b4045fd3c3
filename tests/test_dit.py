"""MicroDiT: vectors of the reference, closed forms."""

import math

import pytest
import torch
from t2i_vectors import agree, needs_reference, of_reference, vectors
from torch.nn import functional as F

from ambient import specs
from ambient.diffusion.networks.dit import NoiseEmbedding
from ambient.diffusion.networks.experts import Experts
from ambient.diffusion.networks.layers import CrossAttention, GatedMLP, Linear, SelfAttention, attended
from ambient.diffusion.networks.positions import positions, waves_of_time
from ambient.diffusion.networks.widths import dense_width, rounded_up
from ambient.diffusion.patches import kept_patches, to_patches
from ambient.specs.strict import build
from ambient.training.build import build_network

SMALL = {"kind": "dit", "model_channels": 24, "depth": 4, "mixer_channels": 16, "mixer_depth": 2,
         "caption_channels": 10, "channels_per_head": 8, "round_to": 8, "num_experts": 4}
PRECISIONS = [torch.float32, torch.float64]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(**changes):
    return build(specs.NetworkSpec, SMALL | changes, "network")


def made(side=8, seed=0, **changes):
    return build_network(small(**changes), side, 3, 0, False, seeded(seed))


def awake(**changes):
    """A network of which no weight is 0, as they are after some training."""
    network, generator = made(**changes).eval(), seeded(9)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return network


def told(t, dtype=torch.float32):
    """The condition of a vector, whose captions have one axis more."""
    condition = {"text": t["in.y"][:, 0].to(dtype)}
    return condition | ({"patches": t["in.ids_keep"]} if "in.ids_keep" in t else {})


def watched(network):
    """The outputs of the parts of a network, by their names, as evaluations make them."""
    seen = {}
    for name, part in network.named_modules():
        part.register_forward_hook(lambda part, given, out, name=name: seen.update({name: out}))
    return seen


# --- vectors ------------------------------------------------------------------------------------------

MIDDLE = {"patches": "x_embedder", "time": "t_embedder", "caption_proj": "y_embedder",
          "caption_tokens": "y_emb_preprocess", "caption_pooled": "pooled_y_emb_process",
          "mixer_in": "patch_mixer_map_xin", "mixer_y": "patch_mixer_map_y",
          "mixer_out": "patch_mixer_map_xout", "final": "final_layer"}


@needs_reference
@pytest.mark.parametrize("case", ["dit_a.mask0", "dit_a.masked", "dit_b.mask0", "dit_b.masked"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_outputs_are_those_of_the_reference(case, dtype):
    network, (t, _) = of_reference(case[:5], dtype), vectors(case)
    seen = watched(network)
    with torch.no_grad():
        F_x = network(t["in.x"].to(dtype), t["in.t"].to(dtype), told(t, dtype))
    assert F_x.dtype == dtype
    agree(F_x, t["out64.sample"], 2e-5 if dtype == torch.float32 else 1e-12)
    middle = {name.removeprefix("mid."): tensor for name, tensor in t.items() if name.startswith("mid.")}
    for name, expected in middle.items():
        kind, _, index = name.partition(".")
        part = MIDDLE.get(name, f"{'blocks' if kind == 'block' else 'patch_mixer'}.{index}")
        agree(seen[part].reshape(expected.shape), expected, 2e-5, name)
    assert len(middle) >= 5
    if case.endswith("masked"):
        removed = t["in.mask"].bool()
        assert (to_patches(F_x, 2)[removed] == 0).all() and (to_patches(F_x, 2)[~removed] != 0).all()


@needs_reference
def test_the_patches_that_stay_are_those_of_the_reference():
    for case in ("dit_a.masked", "dit_b.masked"):
        t, _ = vectors(case)
        places = kept_patches(t["in.mask_scores"], 0.75)
        assert torch.equal(places, t["in.ids_keep"].sort().values)
        assert torch.equal(torch.ones_like(t["in.mask"]).scatter(1, places, 0.0), t["in.mask"])


@needs_reference
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_parts_are_those_of_the_reference(dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6  # inputs of some are rounded to float32
    for name in ("dit_a", "dit_b"):
        network, captions, times = of_reference(name, dtype), vectors(f"{name}.caption"), vectors(
            f"{name}.time")
        with torch.no_grad():
            t, y = captions[0], captions[0]["in.y"][:, 0].to(dtype)
            agree(network.y_embedder(y)[:, None], t["out.proj"], 1e-5)
            agree(network.y_emb_preprocess(network.y_embedder(y))[:, None], t["out64.tokens"], tolerance)
            caption, _ = network.told(torch.zeros(len(y), dtype=dtype), y)
            agree(network.pooled_y_emb_process(caption.mean(1)), t["out64.pooled"], tolerance)
            t = times[0]
            torch.testing.assert_close(t["in.sigma"].log() / 4, t["in.t"])
            agree(waves_of_time(t["in.t"].to(dtype), 512), t["out64.sinusoid"], tolerance)
            agree(network.t_embedder(t["in.t"].to(dtype)), t["out64.embedding"], tolerance)
            t, seen = vectors(f"{name}.mixer")[0], watched(network)
            mapped = network.mixed(*(t[f"in.{key}"].to(dtype) for key in "xyc"))
            agree(mapped, t["out64.mapped"], tolerance)
            last = len(network.patch_mixer) - 1
            agree(seen[f"patch_mixer.{last}"], t["out64.mixed"], tolerance)
            for i in range(last + 1):
                agree(seen[f"patch_mixer.{i}"], t[f"mid.block.{i}"], 1e-5)


@needs_reference
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_layers_are_those_of_the_reference(dtype):
    for name in ("attention_self", "attention_cross", "ffn", "moe_0", "moe_1"):
        t, about = vectors(name)
        layer = layer_of(name, about["config"])
        weights = {key.removeprefix("weights."): tensor for key, tensor in t.items() if key[:7] == "weights"}
        layer.load_state_dict(weights, strict=True)
        others = [t["in.cond"].to(dtype)] if "in.cond" in t else []
        y = layer.to(dtype)(t["in.x"].to(dtype), *others)
        agree(y, t["out64.y"], 5e-6 if dtype == torch.float32 else 1e-12, name)
        if not name.startswith("moe"):
            continue
        places, gates = layer.chosen(t["in.x"].to(dtype))
        assert torch.equal(places, t["out.index"]) and places.shape[2] == int(about["tokens_per_expert"])
        torch.testing.assert_close(gates.float(), t["out.gate"], atol=1e-6, rtol=0)
        taken = F.one_hot(places, t["in.x"].shape[1]).sum((1, 2))
        assert torch.equal(taken, t["out.experts_per_token"])
        assert (name == "moe_0") or (y[taken == 0] == 0).all() and (taken == 0).any()
        (y**2).sum().backward()
        for key, weight in layer.named_parameters():
            agree(weight.grad, t[f"grad.{key}"].double(), 1e-4, key)


def layer_of(name, config):
    """An empty layer of the kind that a file is of."""
    inside = config["hidden_dim"]
    if name.startswith("attention"):
        kind = SelfAttention if name.endswith("self") else CrossAttention
        return kind(config["dim"], inside, inside // config["num_heads"], seeded(), std=0.1, std_out=0.1)
    if name == "ffn":
        return GatedMLP(config["dim"], dense_width(inside, config["multiple_of"]), seeded(), std=1, std_out=1)
    return Experts(config["dim"], rounded_up(inside, config["multiple_of"]), config["num_experts"],
                   config["expert_capacity"], seeded(), std=1, std_out=1)


@needs_reference
def test_positions_are_those_of_the_reference():
    t, _ = vectors("positions")
    for grid, scale in ((16, 1), (32, 2)):
        table, whole = positions(grid, 32, scale), positions(grid, 1024, scale)[0]
        torch.testing.assert_close(table, t[f"out.pos.dim32.grid{grid}.scale{scale}"], atol=1e-12, rtol=0)
        size = f"{16 * grid}px"
        torch.testing.assert_close(whole[t[f"in.rows.{size}"]], t[f"out.pos.{size}.rows"], atol=1e-12, rtol=0)
        torch.testing.assert_close(whole.sum(0), t[f"out.pos.{size}.sum"], atol=1e-9, rtol=0)


# --- closed forms -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("experts", "capacity", "tokens"), [
    (4, 2.0, 9), (3, 0.5, 10), (5, 5.0, 6), (1, 1, 4)])
def test_experts_are_a_loop_over_images_and_experts(experts, capacity, tokens):
    layer = Experts(6, 7, experts, capacity, seeded(), std=1, std_out=1).double()
    x = torch.randn(3, tokens, 6, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(3, tokens, 6, dtype=torch.float64)
    for image in range(3):
        shares = (x[image] @ layer.gate.weight.T).softmax(1)
        for e in range(experts):
            for token in shares[:, e].argsort(descending=True)[:int(capacity * tokens / experts)]:
                out = F.gelu(x[image, token] @ layer.w1[e]) @ layer.w2[e]
                row = torch.zeros_like(expected)
                row[image, token] = shares[token, e]
                expected = expected + row * out
    y = layer(x)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-12)
    inputs = [x, *layer.parameters()]
    weigh = torch.randn(y.shape, generator=seeded(2), dtype=torch.float64)
    for ours, theirs in zip(torch.autograd.grad((y * weigh).sum(), inputs),
                            torch.autograd.grad((expected * weigh).sum(), inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


def test_an_expert_takes_as_many_tokens_as_its_capacity_says():
    """0.29 of 100 are 28.999999999999996 in floats."""
    layer = Experts(6, 7, 1, 0.29, seeded(), std=1, std_out=1)
    assert layer.chosen(torch.randn(1, 100, 6, generator=seeded(1)))[0].shape == (1, 1, 29)


def test_a_token_that_nobody_takes_gets_nothing_and_each_image_is_routed_alone():
    layer = Experts(6, 7, 4, 1.0, seeded(), std=1, std_out=1)
    x = torch.randn(5, 8, 6, generator=seeded(1))
    places, gates = layer.chosen(x)
    taken = F.one_hot(places, 8).sum((1, 2))
    assert places.shape == (5, 4, 2) and (taken == 0).any() and taken.sum() == 5 * 8
    assert ((layer(x) == 0).all(2) == (taken == 0)).all()
    assert (gates.diff(dim=2) <= 0).all()
    torch.testing.assert_close(layer(x)[2:3], layer(x[2:3]))


@pytest.mark.parametrize("capacity", [0.0, 4.5])
def test_a_capacity_out_of_range_is_refused(capacity):
    with pytest.raises(ValueError, match=r"capacity: got .*, allowed: \(0, 4\], the number of experts"):
        Experts(6, 7, 4, capacity, seeded(), std=1, std_out=1)


def test_attention_by_hand():
    """Queries and keys of unit variance over all heads together; then softmax(q k / sqrt(head)) a head."""
    q, k, v = (torch.randn(2, length, 12, generator=seeded(i)).double() for i, length in enumerate((3, 5, 5)))
    expected = torch.zeros_like(q)
    for image in range(2):
        unit = [(one[image] - one[image].mean(1, keepdim=True)) / one[image].std(1, False, keepdim=True)
                for one in (q, k)]
        for first in range(0, 12, 4):
            a, b, c = (one[:, first:first + 4] for one in (*unit, v[image]))
            weights = (a @ b.T / 2).exp()
            expected[image, :, first:first + 4] = weights / weights.sum(1, keepdim=True) @ c
    torch.testing.assert_close(attended(q, k, v, head=4), expected, rtol=1e-5, atol=1e-5)


def test_waves_of_noise_levels_by_hand():
    """Wave k of n has the frequency 10000^(-k / n); cosines stand before sines."""
    levels = (-1.3, 0.0, 0.7)
    angles = [[level * 10000 ** (-k / 5) for k in range(5)] for level in levels]
    by_hand = [[math.cos(one) for one in row] + [math.sin(one) for one in row] for row in angles]
    found = waves_of_time(torch.tensor(levels, dtype=torch.float64), 10)
    torch.testing.assert_close(found, torch.tensor(by_hand, dtype=torch.float64))


def test_a_noise_level_is_embedded_by_two_layers_with_gelu_between():
    """By gelu's approximation with tanh: y/2 (1 + tanh(sqrt(2/pi) (y + 0.044715 y^3)))."""
    embedding = NoiseEmbedding(8, torch.Generator().manual_seed(1)).double()
    first, last = embedding.mlp[0], embedding.mlp[2]
    first.weight.data *= 50  # so that gelu bends
    level = torch.tensor([-0.7, 1.1], dtype=torch.float64)
    y = waves_of_time(level, first.weight.shape[1]) @ first.weight.T + first.bias
    bent = y / 2 * (1 + torch.tanh((2 / math.pi) ** 0.5 * (y + 0.044715 * y**3)))
    torch.testing.assert_close(embedding(level), bent @ last.weight.T + last.bias)


def test_positions_count_columns_first_and_lie_between_those_of_smaller_images():
    table = positions(3, 8)[0]
    angles = torch.tensor([1.0, 0.01], dtype=torch.float64)
    column, row = 2 * angles, 1 * angles  # of patch 5: row 1, column 2
    torch.testing.assert_close(table[5], torch.cat([column.sin(), column.cos(), row.sin(), row.cos()]))
    finer = positions(6, 8, 2.0)[0].reshape(6, 6, 8)
    torch.testing.assert_close(finer[::2, ::2].reshape(9, 8), table)
    with pytest.raises(ValueError, match="width: got 6, allowed: multiples of 4"):
        positions(3, 6)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_masked_patches_are_zero_and_the_others_are_a_function_of_all(patch):
    network, c_noise = awake(patch=patch).double(), torch.zeros(2, dtype=torch.float64)
    x = torch.randn(2, 3, 8, 8, generator=seeded(1)).double()
    condition = {"text": torch.randn(2, 5, 10, generator=seeded(2))}
    count = (8 // patch) ** 2
    places = kept_patches(torch.rand(2, count, generator=seeded(3)), 0.5)
    kept = torch.zeros(2, count, dtype=torch.bool).scatter(1, places, True)
    with torch.no_grad():
        y = network(x, c_noise, condition | {"patches": places})
        shuffled = network(x, c_noise, condition | {"patches": places.flip(1)})
        whole = network(x, c_noise, condition | {"patches": torch.arange(count).expand(2, -1)})
        torch.testing.assert_close(whole, network(x, c_noise, condition))
    assert ((to_patches(y, patch) == 0).all(2) == ~kept).all()
    torch.testing.assert_close(y, shuffled, atol=1e-9, rtol=1e-9)
    pixels = x.clone().requires_grad_()
    network(pixels, c_noise, condition | {"patches": places})[0].square().sum().backward()
    assert (to_patches(pixels.grad, patch)[0] != 0).any(1).all()  # the mixer saw what was left out
    assert (pixels.grad[1] == 0).all()


def test_no_text_is_the_null_caption_of_any_length():
    network, x, c = awake().double(), torch.randn(2, 3, 8, 8, generator=seeded()).double(), torch.zeros(2)
    with torch.no_grad():
        null = network(x, c.double())
        for length in (1, 7):
            text = {"text": torch.zeros(2, length, 10, dtype=torch.float64)}
            torch.testing.assert_close(network(x, c.double(), text), null)
        assert not torch.allclose(network(x, c.double(), {"text": torch.ones(2, 7, 10)}), null)
    assert torch.equal(network(x, c.double(), {"classes": torch.ones(2, 3)}), network(x, c.double()))


@pytest.mark.parametrize("shape", [(2, 10), (2, 0, 10), (3, 5, 10), (2, 5, 9), (2, 1, 5, 10)])
def test_text_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"text of the shape .*, allowed: \(2, tokens, 10\), the states of"):
        made()(torch.zeros(2, 3, 8, 8), torch.zeros(2), {"text": torch.zeros(shape)})


def test_images_and_tokens_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="side: got 7, allowed: multiples of 2"):
        made(side=7)


def test_the_initial_network_is_zero_and_its_blocks_pass_their_cross_attention():
    network, x = made(), torch.randn(2, 3, 8, 8, generator=seeded(1))
    seen, text = watched(network), torch.randn(2, 5, 10, generator=seeded(2))
    assert (network(x, torch.zeros(2), {"text": text}) == 0).all()
    block = network.blocks[1]
    before, caption = seen["blocks.0"], seen["y_emb_preprocess"]
    torch.testing.assert_close(seen["blocks.1"], before + block.cross_attn(block.norm2(before), caption))
    assert torch.equal(caption, seen["y_embedder"])


def test_initial_weights_have_their_spread_and_are_a_function_of_the_generator():
    torch.manual_seed(7)
    state = torch.get_rng_state()
    network, same, other = (made(model_channels=256, mixer_channels=128, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), same.parameters(), strict=True))
    assert not torch.equal(network.blocks[0].attn.qkv.weight, other.blocks[0].attn.qkv.weight)
    for i, block in enumerate([*network.blocks, *network.patch_mixer]):
        out = 0.02 / math.sqrt(2 * (i + 1 if i < 4 else 4))
        expected = {block.attn.qkv: 0.02, block.cross_attn.q_linear: 0.02, block.cross_attn.kv_linear: 0.02,
                    block.attn.proj: out, block.cross_attn.proj: out, block.adaLN_modulation[1]: 0}
        mlp = block.mlp
        if isinstance(mlp, Experts):
            expected[mlp.gate] = 0.02
            assert mlp.w1.std().item() == pytest.approx(0.02, rel=0.03)
            assert mlp.w2.std().item() == pytest.approx(out, rel=0.03)
        else:
            expected |= {mlp.w1: 0.02, mlp.w2: out, mlp.w3: out}
        for layer, std in expected.items():
            assert layer.weight.std().item() == pytest.approx(std, rel=0.05), (i, layer)
    assert [isinstance(one.mlp, Experts) for one in [*network.blocks, *network.patch_mixer]] == [
        False, True, False, False, False, True]
    for layer in (network.t_embedder.mlp[0], network.y_embedder.y_proj.fc2, network.pooled_y_emb_process.fc1,
                  network.y_emb_preprocess.mlp.w2):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for layer in (network.y_emb_preprocess.attn.proj, network.y_emb_preprocess.mlp.w3,
                  network.final_layer.linear):
        assert (layer.weight == 0).all()
    assert network.patch_mixer_map_y[1].weight.std().item() == pytest.approx(math.sqrt(2 / 384), rel=0.03)
    convolution = network.x_embedder.proj
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (256 + 12)), rel=0.05)
    assert 0.9 * 12**-0.5 < convolution.bias.abs().max() <= 12**-0.5
    assert all((layer.bias == 0).all() for layer in network.modules()
               if isinstance(layer, Linear) and layer.bias is not None)


def test_bfloat16_stays_near_float32():
    network, x, c = awake(experts_every=0), torch.randn(4, 3, 8, 8, generator=seeded()), torch.zeros(4)
    with torch.no_grad():
        exact = network(x, c)
        with torch.autocast("cpu", torch.bfloat16):
            low = network(x, c)
        assert (low.float() - exact).abs().max() < 0.1 * exact.abs().max()
        with torch.autocast("cpu", torch.bfloat16):  # tokens may go to other experts, so only that it runs
            assert torch.isfinite(awake()(x, c)).all()


@pytest.mark.filterwarnings("ignore:Dynamo detected")  # of caches, which it does without
def test_an_evaluation_is_one_graph():
    network, x = awake(depth=2, mixer_depth=1), torch.randn(2, 3, 8, 8, generator=seeded())
    condition = {"text": torch.ones(2, 3, 10), "patches": torch.arange(8).expand(2, -1)}
    eager = network(x, torch.zeros(2), condition)
    network.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(network(x, torch.zeros(2), condition), eager)
    torch.compiler.reset()
