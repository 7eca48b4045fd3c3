"""DINO's class token, against its formulas, from weights that are drawn."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from ambient.evaluation import detectors
from ambient.evaluation.detectors import dino
from ambient.jobs.stage import Record
from ambient.specs import DetectorSpec
from ambient.specs.strict import SpecError

WIDTH, PATCH, DEPTH = 64, 112, 2  # one head, and 4 patches of 112 x 112 pixels
SPEC = DetectorSpec("dino", features=WIDTH)


def weights():
    """The tensors as the published file names them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator) * (0.3 if len(shape) == 1 else shape[-1]**-0.5)

    found = {"embeddings.cls_token": draw(1, 1, WIDTH), "embeddings.position_embeddings": draw(1, 5, WIDTH),
             "embeddings.patch_embeddings.projection.weight": draw(WIDTH, 3, PATCH, PATCH) / PATCH,
             "embeddings.patch_embeddings.projection.bias": draw(WIDTH),
             "layernorm.weight": 1 + draw(WIDTH), "layernorm.bias": draw(WIDTH)}
    for k in range(DEPTH):
        layers = {"attention.attention.query": (WIDTH, WIDTH), "attention.attention.key": (WIDTH, WIDTH),
                  "attention.attention.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH),
                  "intermediate.dense": (4 * WIDTH, WIDTH), "output.dense": (WIDTH, 4 * WIDTH)}
        for name, shape in layers.items():
            found |= {f"encoder.layer.{k}.{name}.weight": draw(*shape),
                      f"encoder.layer.{k}.{name}.bias": draw(shape[0])}
        for name in ("layernorm_before", "layernorm_after"):
            found |= {f"encoder.layer.{k}.{name}.weight": 1 + draw(WIDTH),
                      f"encoder.layer.{k}.{name}.bias": draw(WIDTH)}
    return found


def by_formulas(w, x):
    """The class token of a transformer with its norms before each part; one head of 64."""
    def linear(name, y):
        return F.linear(y, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(name, y):
        return F.layer_norm(y, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    patches = F.conv2d(x, w[dino.PATCHES], w["embeddings.patch_embeddings.projection.bias"], PATCH)
    y = torch.cat([w[dino.TOKEN].expand(len(x), -1, -1), patches.flatten(2).mT], 1)
    y = y + w["embeddings.position_embeddings"]
    for k in range(DEPTH):
        at = f"encoder.layer.{k}"
        z = norm(f"{at}.layernorm_before", y)
        q, key, value = (linear(f"{at}.attention.attention.{one}", z) for one in ("query", "key", "value"))
        attended = (q @ key.mT / 8).softmax(-1) @ value
        y = y + linear(f"{at}.attention.output.dense", attended)
        z = F.gelu(linear(f"{at}.intermediate.dense", norm(f"{at}.layernorm_after", y)))
        y = y + linear(f"{at}.output.dense", z)
    return norm("layernorm", y)[:, 0]


def made(tensors, folder, spec=SPEC):
    save_file(tensors, folder / "w.safetensors")
    dino.make(spec, Record(), data=None, weights=folder / "w.safetensors", state=None, out=folder / "out")
    return folder / "out"


@torch.no_grad()
def test_features_are_those_of_the_formulas(tmp_path):
    pytest.importorskip("transformers")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224)).astype(np.uint8)
    found = detectors.KINDS["dino"].features(SPEC, made(weights(), tmp_path))(images)
    pixels = (torch.from_numpy(images) / 255 - torch.tensor(dino.MEAN).reshape(3, 1, 1)) / torch.tensor(
        dino.STD).reshape(3, 1, 1)
    expected = by_formulas(weights(), pixels)
    assert found.shape == (3, WIDTH)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_images_are_resized_without_antialias():
    """Of 448 pixels each second one and its neighbour: bilinear at factor 2 is the mean of four."""
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 448, 448)).astype(np.uint8)
    mean = image.reshape(224, 2, 224, 2).mean(axis=(1, 3)) / 255
    found = dino.prepared(image, "cpu")[0].numpy()
    for channel, (shift, scale) in enumerate(zip(dino.MEAN, dino.STD, strict=True)):
        np.testing.assert_allclose(found[channel], (mean - shift) / scale, atol=1e-5)
    wide = np.zeros((1, 3, 896, 896), np.uint8)
    wide[..., 0::4], wide[..., 3::4] = 255, 255  # at factor 4 these are between the points
    assert dino.prepared(wide, "cpu").std(dim=(2, 3)).max() < 1e-6


@pytest.mark.parametrize("change, said", [
    (lambda w: w.pop("layernorm.bias"), "missing keys: layernorm.bias and 0 more"),
    (lambda w: w.update(head=torch.ones(2)), "unexpected keys: head"),
    (lambda w: w.pop(dino.TOKEN), "not the weights of DINO as transformers names them")])
def test_other_weights_are_refused(tmp_path, change, said):
    pytest.importorskip("transformers")
    tensors = weights()
    change(tensors)
    with pytest.raises(ValueError, match=f"w.safetensors: {said}"):
        made(tensors, tmp_path)
    assert not (tmp_path / "out").exists()


def test_other_widths_are_refused(tmp_path):
    with pytest.raises(SpecError, match="features: got 100, allowed: a multiple of 64"):
        DetectorSpec("dino", features=100)
    with pytest.raises(ValueError, match=r"weights: got None, allowed: a file; fetch the weights of"):
        dino.make(SPEC, Record(), data=None, weights=None, state=None, out=tmp_path / "out")
    pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="features: got 128, allowed: 64"):
        made(weights(), tmp_path, DetectorSpec("dino", features=128))
