"""CLIP's image tower: against a closed form and transformers' network, its pixels, and what asks it."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision import transforms

from ambient.data import bpe
from ambient.data.clip_pixels import MEAN, STD, normalised, square
from ambient.diffusion.networks.image_tower import ImageTower
from ambient.diffusion.networks.text_tower import TextTower
from ambient.evaluation import detectors
from ambient.evaluation.scorers import KINDS
from ambient.jobs.identity import Identity
from ambient.jobs.stage import Record
from ambient.jobs.state import State
from ambient.specs import DetectorSpec, ScorerSpec, TextEncoderSpec
from ambient.specs.strict import SpecError, build
from ambient.stages import text_encoder
from ambient.training.text_encoding import TextEncoder

SIZES = {"side": 16, "patch": 5, "width": 16, "heads": 2, "layers": 2}
TEXT = {"kind": "openclip", "width": 8, "heads": 2, "layers": 2, "context": 6, "features": 4,
        "precision": "float32"}
SMALL = build(TextEncoderSpec, TEXT | {"image": SIZES}, "x")
BLIND = build(TextEncoderSpec, TEXT, "x")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 24, 24)).astype(np.uint8)
CAPTIONS = ["a cat", "b", "two cats", "a dog", ""]


def random_tower(layers=2, quick=True):
    """A tower whose weights are all drawn."""
    torch.manual_seed(3)
    made = ImageTower(**(SIZES | {"layers": layers}), features=4, quick_gelu=quick).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return made


@torch.no_grad()
def test_the_class_token_takes_the_mean_of_all_where_attention_sees_no_difference():
    """Queries and keys 0, values as they are, no MLP: x_0 + mean of LN(x), of 9 patches row after row."""
    made = random_tower(layers=1)
    block = made.transformer.resblocks[0]
    block.attn.in_proj_weight.copy_(torch.cat([torch.zeros(32, 16), torch.eye(16)]))
    block.attn.out_proj.weight.copy_(torch.eye(16))
    for weight in (block.attn.in_proj_bias, block.attn.out_proj.bias, block.mlp.c_proj.weight,
                   block.mlp.c_proj.bias):
        weight.zero_()
    x = torch.randn(2, 3, 16, 16)
    patches = [x[:, :, 5 * r:5 * r + 5, 5 * c:5 * c + 5].flatten(1) for r in range(3) for c in range(3)]
    tokens = torch.stack([made.class_embedding.expand(2, -1),
                          *(patch @ made.conv1.weight.flatten(1).T for patch in patches)], dim=1)
    tokens = F.layer_norm(tokens + made.positional_embedding, (16,), made.ln_pre.weight, made.ln_pre.bias)
    attended = F.layer_norm(tokens, (16,), block.ln_1.weight, block.ln_1.bias).mean(dim=1)
    last = F.layer_norm(tokens[:, 0] + attended, (16,), made.ln_post.weight, made.ln_post.bias)
    torch.testing.assert_close(made(x), last @ made.proj, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"images of the shape \(3, 24, 24\), allowed: \(3, 16, 16\)"):
        made(torch.zeros(1, 3, 24, 24))


@pytest.mark.parametrize("quick", [True, False])
@torch.no_grad()
def test_the_tower_is_that_of_transformers(quick):
    clip = pytest.importorskip("transformers")
    config = clip.CLIPVisionConfig(hidden_size=16, intermediate_size=64, projection_dim=4, image_size=16,
                                   num_hidden_layers=2, num_attention_heads=2, patch_size=5,
                                   hidden_act="quick_gelu" if quick else "gelu")
    theirs, ours = clip.CLIPVisionModelWithProjection(config).eval(), random_tower(quick=quick)
    names = {"conv1": "embeddings.patch_embedding", "class_embedding": "embeddings.class_embedding",
             "positional_embedding": "embeddings.position_embedding.weight", "ln_pre": "pre_layrnorm",
             "ln_post": "post_layernorm", "resblocks": "encoder.layers", "ln_1": "layer_norm1",
             "ln_2": "layer_norm2", "c_fc": "fc1", "c_proj": "fc2", "attn": "self_attn"}
    state = {"visual_projection.weight": ours.proj.T}
    for name, weight in ours.state_dict().items():
        parts = [names.get(part, part) for part in name.split(".") if part != "transformer"]
        mapped = f"vision_model.{'.'.join(parts)}"
        if "in_proj" in name:
            for part, third in zip("qkv", weight.chunk(3), strict=True):
                state[mapped.replace("in_proj_", f"{part}_proj.")] = third
        elif name != "proj":
            state[mapped] = weight
    theirs.load_state_dict(state)
    x = torch.randn(3, 3, 16, 16)
    expected = theirs(x).image_embeds
    assert (ours(x) - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize("shape", [(3, 40, 25), (3, 25, 41), (1, 30, 30), (3, 9, 7), (3, 1, 30)])
def test_pixels_are_those_of_the_public_preparation(shape):
    """Against torchvision's steps: the shorter side by Pillow's bicubic, the middle, mean and spread."""
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    picture = Image.fromarray(image[0] if shape[0] == 1 else image.transpose(1, 2, 0)).convert("RGB")
    steps = transforms.Compose([transforms.Resize(16, transforms.InterpolationMode.BICUBIC),
                                transforms.CenterCrop(16), transforms.ToTensor(),
                                transforms.Normalize(MEAN, STD)])
    np.testing.assert_allclose(normalised([image], 16)[0], steps(picture).numpy(), atol=1e-6)
    assert square(image, 16).dtype == np.uint8


def saved(folder, **more):
    """A folder with a small model of both, and a list of merges of full length."""
    torch.manual_seed(1)
    text = TextTower(bpe.VOCABULARY, 6, 8, 2, 2, 4, True)
    for weight in (text.positional_embedding, text.text_projection):
        torch.nn.init.normal_(weight)
    visual = {f"visual.{name}": one for name, one in random_tower().state_dict().items()}
    save_file(text.state_dict() | visual | {"logit_scale": torch.tensor(4.6)} | more,
              folder / "open_clip_model.safetensors")
    pairs = itertools.islice(itertools.product(bpe.byte_symbols(), repeat=2), bpe.MERGES)
    (folder / "merges.txt").write_text("#version\n" + "\n".join(map(" ".join, pairs)))
    return text.eval()


def store(spec, folder, out):
    text_encoder.main(spec, Record(), weights=folder, state=State(out.parent / f"{out.name}-state", Identity(
        "text_encoder", {})), out=out)


@torch.no_grad()
def test_what_a_stored_model_of_both_tells(tmp_path):
    """Its cosines are the CLIP score, its features of images those of the detector, not of unit length."""
    text = saved(tmp_path)
    store(SMALL, tmp_path, tmp_path / "model")
    coder = TextEncoder(tmp_path / "model", torch.device("cpu")).coder
    expected = random_tower()(torch.from_numpy(normalised(IMAGES, 16)))
    torch.testing.assert_close(coder.image_features(IMAGES), expected, atol=1e-5, rtol=1e-5)
    assert (expected.norm(dim=1) - 1).abs().min() > 0.1
    texts = text.features(coder.tokens(CAPTIONS))
    by_hand = F.cosine_similarity(expected, texts).numpy()
    scorer = KINDS["clip_score"].scorer(ScorerSpec("clip_score", model="m"), tmp_path / "model", None)
    np.testing.assert_allclose(scorer(IMAGES, CAPTIONS)["score"], by_hand, atol=1e-6)
    spec, kind = DetectorSpec("contrastive", model="m", features=4), detectors.KINDS["contrastive"]
    kind.make(spec, SimpleNamespace(facts={}), data=None, weights=None, state=None, out=tmp_path / "d",
              model=tmp_path / "model")
    torch.testing.assert_close(kind.features(spec, tmp_path / "d")(IMAGES), expected, atol=1e-5, rtol=1e-5)


def test_a_text_encoder_without_image_reads_the_same_checkpoint_and_sees_nothing(tmp_path):
    saved(tmp_path)
    store(BLIND, tmp_path, tmp_path / "blind")
    assert not hasattr(TextEncoder(tmp_path / "blind", torch.device("cpu")).coder, "cosines")
    assert (SMALL.SEES, BLIND.SEES) == (True, False)


@pytest.mark.parametrize("more, change, said", [
    ({}, {"layers": 3}, r"transformer.resblocks.2.*has the shape None"),
    ({}, {"width": 32}, "has the shape"),
    ({"visual.attnpool.k_proj": torch.zeros(2)}, {}, r"attnpool.k_proj: has the shape \(2,\)")])
def test_other_image_towers_are_refused(tmp_path, more, change, said):
    saved(tmp_path, **more)
    spec = build(TextEncoderSpec, TEXT | {"image": SIZES | change}, "x")
    with pytest.raises(ValueError, match=said):
        store(spec, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_an_image_tower_is_named(tmp_path):
    text = saved(tmp_path)
    save_file(text.state_dict(), tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=r"open_clip_model.safetensors: has no image tower \(visual\."):
        store(SMALL, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("change, said", [
    ({"heads": 3}, "width: got 16, allowed: a multiple of heads = 3"), ({"layers": 0}, "layers: got 0"),
    ({"side": 4}, "side: got 4, allowed: >= patch = 5 pixels")])
def test_settings_of_the_tower_are_held_to_their_ranges(change, said):
    with pytest.raises(SpecError, match=said):
        build(TextEncoderSpec, TEXT | {"image": SIZES | change}, "x")


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        random_tower().train()(torch.zeros(2, 3, 16, 16))
    counted = counter.get_total_flops() / 2 / 2  # two images, two operations a multiply-add
    assert SMALL.image_multiply_adds(24, 3) == pytest.approx(counted - 16 * 4, rel=1e-9)  # but the projection
