"""FD-DINOv2: the input and the network are the original's, and nothing but its weights is taken."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import kept
from torch.nn import functional

from ambient import settings, specs
from ambient.cluster import doctor, outside
from ambient.data.datasets import Dataset, write
from ambient.evaluation.detectors import dinov2
from ambient.evaluation.features import extract
from ambient.jobs.stage import Record
from ambient.specs.strict import SpecError
from ambient.stages import detector, evaluate, reference
from ambient.storage.files import sha256, write_arrays

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
ROOT = Path(__file__).parents[1]
WIDTH, DEPTH = 128, 2
SPEC = specs.DetectorSpec("dinov2", features=WIDTH)


@pytest.mark.parametrize(("mode", "tolerance"), [("torch", 1e-4), ("pil", 1e-6)])
def test_the_input_is_the_original_programs(mode, tolerance):
    path = REFERENCE / "latent/dinov2_input.safetensors"
    if not path.exists():
        pytest.skip("no reference vectors here")
    with safe_open(path, "np") as file:
        vectors = {name: file.get_tensor(name) for name in file.keys()}
    made = dinov2.prepared(vectors["image_uint8"][None], mode, "cpu")[0].numpy()
    row, column = vectors["positions"].T
    np.testing.assert_allclose(made[:, row, column], vectors[f"out.{mode}"], atol=tolerance)
    np.testing.assert_allclose(made.mean((1, 2)), vectors[f"out.{mode}.mean"], atol=tolerance)


def test_the_input_of_a_plain_image_is_its_colour():
    image = np.empty((1, 3, 40, 40), np.uint8)
    image[0] = np.array([0, 100, 255])[:, None, None]
    expected = [(0 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    for mode in ("torch", "pil"):
        made = dinov2.prepared(image, mode, "cpu")
        assert made.shape == (1, 3, 224, 224)
        np.testing.assert_allclose(made[0].amax((1, 2)), expected, atol=1e-5)
        np.testing.assert_allclose(made[0].amin((1, 2)), expected, atol=1e-5)
    grey = dinov2.prepared(image[:, 1:2], "torch", "cpu")
    np.testing.assert_allclose(grey[0, 1], expected[1], atol=1e-5)


def test_settings_are_checked():
    assert SPEC.metric("dinov2") == "fd-dinov2" and SPEC.too_few(WIDTH) and not SPEC.too_few(WIDTH + 1)
    assert specs.DetectorSpec("dinov2").features == 1024
    for key, value in (("resize", "clean"), ("features", 100)):
        with pytest.raises(SpecError, match=f"a.{key}: got"):
            specs.strict.build(specs.DetectorSpec, {"kind": "dinov2", key: value}, "a")
    with pytest.raises(ValueError, match="weights: got None, allowed: a file; fetch model.safetensors of"):
        detector.main(SPEC, Record(), data=Path("d"), weights=None, state=None, out=Path("o"))


def linear(width):
    """(name, outputs, inputs) of the linear layers of a block."""
    inside = ("attention.query", "attention.key", "attention.value", "output.dense")
    return [*((f"attention.{name}", width, width) for name in inside), ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width)]


def public_weights(width=WIDTH, side=37):
    """Random weights under the names of the public file."""
    normal, generator = torch.randn, torch.Generator().manual_seed(0)

    def some(*shape, scale=1.0, mean=0.0):
        return mean + scale * normal(shape, generator=generator)

    tensors = {"embeddings.cls_token": some(1, 1, width), "embeddings.mask_token": some(1, width),
               "embeddings.position_embeddings": some(1, 1 + side * side, width),
               "embeddings.patch_embeddings.projection.weight": some(width, 3, 14, 14, scale=0.04),
               "embeddings.patch_embeddings.projection.bias": some(width),
               "layernorm.weight": some(width, scale=0.2, mean=1), "layernorm.bias": some(width)}
    for block in range(DEPTH):
        for name, fan_out, fan_in in linear(width):
            tensors[f"encoder.layer.{block}.{name}.weight"] = some(fan_out, fan_in, scale=fan_in**-0.5)
            tensors[f"encoder.layer.{block}.{name}.bias"] = some(fan_out, scale=0.1)
        for name in ("norm1", "norm2"):
            tensors[f"encoder.layer.{block}.{name}.weight"] = some(width, scale=0.2, mean=1)
            tensors[f"encoder.layer.{block}.{name}.bias"] = some(width, scale=0.1)
        for name in ("layer_scale1", "layer_scale2"):
            tensors[f"encoder.layer.{block}.{name}.lambda1"] = some(width, scale=0.2, mean=0.5)
    return tensors


def class_token(w, x):
    """DINOv2's features written down plainly: (N, D) of (N, 3, 224, 224), weights by their public names."""
    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x):
        return x.unflatten(-1, (-1, 64)).transpose(1, 2)

    weight = w["embeddings.patch_embeddings.projection.weight"]
    pixels = functional.unfold(x, 14, stride=14).transpose(1, 2)  # (N, 256, 588)
    x = pixels @ weight.flatten(1).T + w["embeddings.patch_embeddings.projection.bias"]
    table = w["embeddings.position_embeddings"]
    side = math.isqrt(table.shape[1] - 1)
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, mode="bicubic", scale_factor=(16.1 / side, 16.1 / side))
    x = torch.cat([(w["embeddings.cls_token"] + table[:, :1]).expand(len(x), -1, -1),
                   x + grid.flatten(2).transpose(1, 2)], 1)
    for block in range(DEPTH):
        at = f"encoder.layer.{block}"
        y = norm(f"{at}.norm1", x)
        q, k, v = (heads(linear(f"{at}.attention.attention.{name}", y)) for name in ("query", "key", "value"))
        y = ((q @ k.transpose(-1, -2) / 8).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + w[f"{at}.layer_scale1.lambda1"] * linear(f"{at}.attention.output.dense", y)
        y = linear(f"{at}.mlp.fc2", functional.gelu(linear(f"{at}.mlp.fc1", norm(f"{at}.norm2", x))))
        x = x + w[f"{at}.layer_scale2.lambda1"] * y
    return norm("layernorm", x)[:, 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    pytest.importorskip("transformers", reason="needs the extra `pretrained`")
    path = tmp_path_factory.mktemp("dinov2") / "model.safetensors"
    save_file(public_weights(), path)
    return path


def test_positions_of_any_number_of_patches_are_stretched_by_a_tenth_more():
    table = torch.randn(1, 1 + 9 * 9, 4, generator=torch.Generator().manual_seed(0))
    found = dinov2.stretched(table, 8)
    grid = table[:, 1:].reshape(1, 9, 9, 4).permute(0, 3, 1, 2)
    expected = functional.interpolate(grid, scale_factor=8.1 / 9, mode="bicubic").flatten(2).transpose(1, 2)
    assert found.shape == (1, 1 + 8 * 8, 4) and torch.equal(found[:, :1], table[:, :1])
    torch.testing.assert_close(found[:, 1:], expected)
    assert dinov2.stretched(table, 9) is table


def test_features_are_those_of_the_original(tmp_path, weights):
    """transformers' own stretching of the table of positions would not be within the tolerance."""
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 50, 50), np.uint8)
    detector.main(SPEC, Record(), data=tmp_path, weights=weights, state=None, out=tmp_path / "net.weights")
    assert (tmp_path / "net.weights").read_bytes() == weights.read_bytes()
    double = {name: tensor.double() for name, tensor in public_weights().items()}
    for mode in ("torch", "pil"):
        found = extract(dataclasses.replace(SPEC, resize=mode), tmp_path / "net.weights", images)
        expected = class_token(double, dinov2.prepared(images, mode, "cpu").double()).numpy()
        assert found.shape == (3, WIDTH) and found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_distance_says_who_resized(tmp_path, weights):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (6, 1, 16, 16), np.uint8)
    write(tmp_path / "d.safetensors", Dataset(images, np.zeros(6, int), np.arange(6)))
    write_arrays(tmp_path / "s.safetensors", {"8": images[None, ::-1].copy()})
    made = dataclasses.replace(SPEC, resize="pil")
    reference.main(made, Record(), data=tmp_path / "d.safetensors", detector=weights,
                   state=kept(tmp_path / "r-s"), out=tmp_path / "r.safetensors")
    evaluate.main(specs.EvaluationSpec("fd-dinov2-pil", made, (0,)), Record(), detector=weights,
                  samples=tmp_path / "s.safetensors", reference=tmp_path / "r.safetensors",
                  state=kept(tmp_path / "m-s"), out=tmp_path / "m.json",
                  moments_out=tmp_path / "m.safetensors")
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["resize"] == "pil" and found["scores"][0]["value"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("change", "said"), [
    (lambda w: w.pop("layernorm.bias"), "missing keys: layernorm.bias and 0 more"),
    (lambda w: w.update(head=torch.ones(2)), "unexpected keys: head"),
    (lambda w: w.pop("embeddings.position_embeddings"), "not the weights of DINOv2"),
    (lambda w: w.update({"layernorm.bias": torch.ones(3)}), "model.safetensors: "),
    (lambda w: None, "features: got 1024, allowed: 128")])
def test_weights_of_another_network_are_refused(tmp_path, weights, change, said):
    tensors = public_weights()
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    spec = specs.DetectorSpec("dinov2") if "1024" in said else SPEC
    with pytest.raises(ValueError, match=said):
        detector.main(spec, Record(), data=tmp_path, weights=tmp_path / "model.safetensors", state=None,
                      out=tmp_path / "net.weights")
    assert not (tmp_path / "net.weights").exists()


def test_other_bytes_than_the_pinned_ones_are_refused(tmp_path, weights):
    files = {"data": tmp_path, "weights": weights, "state": None, "out": tmp_path / "net.weights"}
    with pytest.raises(ValueError, match=r"sha256 is .*, the configuration's sha256 is 0000"):
        detector.main(dataclasses.replace(SPEC, sha256="0" * 64), Record(), **files)
    detector.main(dataclasses.replace(SPEC, sha256=sha256(weights)), Record(), **files)


def test_the_doctor_says_what_is_missing(tmp_path, monkeypatch):
    others = shutil.ignore_patterns("local.yaml", "site.yaml")
    shutil.copytree(ROOT / "config", tmp_path / "config", ignore=others)
    local = tmp_path / "config/local.yaml"
    local.write_text("studies: {controlled: {detector: dinov2, sampling: {num_samples: 1250}}}\n")
    monkeypatch.setattr(outside, "find_spec", lambda name: None)
    said = [line for kind, line in doctor.raw_data(settings.Experiments(tmp_path / "config", "demo"))
            if kind == doctor.MISSING]
    assert said[0].startswith("detector dinov2: needs the package transformers") and len(said) == 2
    assert said[1].startswith("detector dinov2: fetch model.safetensors of facebook/dinov2-large")
    local.write_text(local.read_text() + "detectors: {dinov2: {weights: /nowhere.safetensors}}\n")
    monkeypatch.undo()
    said = [line for kind, line in doctor.raw_data(settings.Experiments(tmp_path / "config", "demo"))
            if kind == doctor.MISSING and "package" not in line]
    assert said == ["detector dinov2: no such file /nowhere.safetensors (detectors.dinov2.weights)"]
