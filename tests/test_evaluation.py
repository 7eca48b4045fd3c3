"""Detectors that are trained here, and scores by their features."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny import DETECTOR, RECORD, kept

from ambient import specs
from ambient.data.datasets import Dataset, read, to_float, write
from ambient.evaluation import features, small_nets
from ambient.evaluation.frechet import Moments, frechet_distance, moments, stored
from ambient.specs import NeighboursSpec, strict
from ambient.stages import detector, evaluate, neighbours, reference
from ambient.storage.files import read_arrays, write_arrays
from ambient.training.weights import read_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes that differ in brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    images = random.integers(0, 120, (400, 1, 16, 16)) + 120 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("data") / "d.safetensors"
    write(path, Dataset(images.astype(np.uint8), labels, np.arange(400)))
    return path


def test_trained_detector_learns_and_repeats(data, tmp_path):
    for name in ("a", "b"):
        detector.main(DETECTOR, RECORD, data=data, weights=None, state=kept(tmp_path / "s"),
                      out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert RECORD.facts["accuracy"] > 0.95 and RECORD.facts["checked_images"] == 40


def test_members_of_a_detector_are_networks_side_by_side(data, tmp_path):
    """Each differs from the others; their features lie side by side, so that mean distances are averaged."""
    made = dataclasses.replace(DETECTOR, members=3)
    detector.main(made, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    images = read(data).images[:30]
    found = features.extract(made, tmp_path / "net", images).reshape(30, 3, DETECTOR.features)
    weights = read_weights(tmp_path / "net")
    for number in range(3):
        alone = small_nets.SmallNet(1, DETECTOR.channels, DETECTOR.features, 2)
        prefix = f"members.{number}."
        alone.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        expected = alone.body(torch.from_numpy(to_float(images))).detach().numpy()
        np.testing.assert_allclose(found[:, number] * 3**0.5, expected, atol=1e-5)
        assert not np.allclose(found[:, number], found[:, number - 1], atol=0.1)
    assert RECORD.facts["accuracy"] > 0.95
    with pytest.raises(strict.SpecError, match="members: got 0, allowed: >= 1"):
        dataclasses.replace(DETECTOR, members=0)


FILE = "^ambient/evaluation/detectors/classifier.py: features gave "


@pytest.mark.parametrize(("given", "said"), [
    (lambda count: torch.zeros(count, 5), r"a tensor \(250, 5\) for 250 images, allowed: "
     r"a tensor \(250, 6\), by the entry's features: 6$"),
    (lambda count: torch.zeros(count - 1, DETECTOR.features), r"a tensor \(249, 6\) for 250 images"),
    (lambda count: torch.zeros(DETECTOR.features), r"a tensor \(6,\) for 250 images"),
    (lambda count: np.zeros((count, DETECTOR.features)), "a ndarray for 250 images, allowed: a tensor"),
    (lambda count: None, "a NoneType for 250 images, allowed: a tensor"),
    (lambda count: torch.full((count, DETECTOR.features), torch.nan),
     "NaN or infinity for one of 250 images, allowed: finite numbers$")])
def test_features_that_an_entry_does_not_declare_are_refused(given, said, data, tmp_path, monkeypatch):
    kind = features.detectors.KINDS["classifier"]
    monkeypatch.setattr(kind, "features", lambda spec, path: lambda images: given(len(images)))
    with pytest.raises(ValueError, match=FILE + said):
        reference.main(DETECTOR, RECORD, data=data, detector=tmp_path / "net", state=kept(tmp_path / "r-s"),
                       out=tmp_path / "r")
    asked = NeighboursSpec(("a",), 4, None, DETECTOR, 0)
    with pytest.raises(ValueError, match=FILE):
        neighbours.features_of(asked, tmp_path / "net")(read(data).images[:250])
    several = dataclasses.replace(DETECTOR, members=3)
    with pytest.raises(ValueError, match=r"\(250, 18\), by the entry's features: 6, members: 3$"):
        features.require_features(several, torch.zeros(250, 8), 250)


def test_a_detector_of_one_class_is_refused(tmp_path):
    """A label of 8 alone is one class, not nine."""
    images = np.zeros((20, 1, 16, 16), np.uint8)
    write(tmp_path / "d.safetensors", Dataset(images, np.full(20, 8), np.arange(20)))
    with pytest.raises(ValueError, match=r"two or more.*begin with \[8\]"):
        detector.main(DETECTOR, RECORD, data=tmp_path / "d.safetensors", weights=None,
                      state=kept(tmp_path / "s"), out=tmp_path / "w")


def test_evaluation_equals_the_distance_of_the_features(data, tmp_path):
    detector.main(DETECTOR, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    reference.main(DETECTOR, RECORD, data=data, detector=tmp_path / "net", state=kept(tmp_path / "ref-s"),
                   out=tmp_path / "ref.safetensors")
    random = np.random.default_rng(1)
    samples = random.integers(0, 256, (2, 50, 1, 16, 16), dtype=np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"128": samples, "64": samples[::-1].copy()})
    evaluate.main(specs.EvaluationSpec("fd-net", DETECTOR, (4, 7)), RECORD, detector=tmp_path / "net",
                  samples=tmp_path / "samples.safetensors", reference=tmp_path / "ref.safetensors",
                  state=kept(tmp_path / "m-s"), out=tmp_path / "m.json",
                  moments_out=tmp_path / "moments.safetensors")
    found = json.loads((tmp_path / "m.json").read_text())
    assert [(s["nimg"], s["seed"]) for s in found["scores"]] == [(64, 4), (64, 7), (128, 4), (128, 7)]
    assert found["num_samples"] == 50 and found["reference_images"] == 400
    target = moments(features.extract(DETECTOR, tmp_path / "net", read(data).images))
    own = frechet_distance(moments(features.extract(DETECTOR, tmp_path / "net", samples[0])), target)
    assert found["scores"][2]["value"] == pytest.approx(own)
    assert found["scores"][1]["value"] == pytest.approx(own)
    stored = read_arrays(tmp_path / "moments.safetensors")
    assert len(stored) == 8
    for score in found["scores"]:
        at = f"{score['nimg']}/{score['seed']}"
        drawn = Moments(stored[f"{at}/mean"], stored[f"{at}/covariance"], 50)
        assert frechet_distance(drawn, target) == pytest.approx(score["value"], rel=1e-9)


def test_too_few_images_for_a_detectors_features_are_said(data, tmp_path, capsys):
    """Of N images a covariance of D features has the rank N - 1, where that is below D."""
    detector.main(DETECTOR, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    random, paths = np.random.default_rng(1), {"detector": tmp_path / "net"}
    for images in (DETECTOR.dimensions, DETECTOR.dimensions + 1):
        drawn = random.standard_normal((images, DETECTOR.dimensions))
        singular = np.linalg.matrix_rank(moments(drawn).covariance) < DETECTOR.dimensions
        pixels = random.integers(0, 256, (images, 1, 16, 16), dtype=np.uint8)
        write(tmp_path / "few.safetensors", Dataset(pixels, np.arange(images) % 2, np.arange(images)))
        write_arrays(tmp_path / "samples.safetensors", {"64": pixels[None]})
        capsys.readouterr()
        reference.main(DETECTOR, RECORD, data=tmp_path / "few.safetensors",
                       state=kept(tmp_path / f"ref-{images}"), out=tmp_path / "ref", **paths)
        evaluate.main(specs.EvaluationSpec("fd-net", DETECTOR, (0,)), RECORD, reference=tmp_path / "ref",
                      samples=tmp_path / "samples.safetensors", state=kept(tmp_path / f"m-{images}"),
                      out=tmp_path / "m.json", moments_out=tmp_path / "moments", **paths)
        remarks = [line for line in capsys.readouterr().err.splitlines() if "biased upwards" in line]
        named = [f"{role}: {images} images against 6 features"
                 for role in ("reference: data", "evaluate: samples")]
        assert [line.partition(";")[0] for line in remarks] == (named if singular else [])


def test_snapshots_before_the_last_may_have_fewer_sampling_seeds(data, tmp_path):
    detector.main(DETECTOR, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    reference.main(DETECTOR, RECORD, data=data, detector=tmp_path / "net", state=kept(tmp_path / "ref-s"),
                   out=tmp_path / "ref.safetensors")
    drawn = np.random.default_rng(1).integers(0, 256, (3, 20, 1, 16, 16), dtype=np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"128": drawn, "64": drawn[:1], "96": drawn[:1]})
    asked = specs.EvaluationSpec("fd-net", DETECTOR, (4, 7, 9), earlier_seeds=1)
    evaluate.main(asked, RECORD, detector=tmp_path / "net", samples=tmp_path / "samples.safetensors",
                  reference=tmp_path / "ref.safetensors", state=kept(tmp_path / "m-s"),
                  out=tmp_path / "m.json", moments_out=tmp_path / "moments.safetensors")
    found = [(s["nimg"], s["seed"]) for s in json.loads((tmp_path / "m.json").read_text())["scores"]]
    assert found == [(64, 4), (96, 4), (128, 4), (128, 7), (128, 9)]


def test_the_number_of_earlier_seeds_is_one_of_those_there_are():
    sampler = specs.SamplerSpec(4, 0.01, 20.0, 7.0)
    one = specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=1)
    assert one.images(1) == 30 and one.images(3) == 50
    assert specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32").images(3) == 90
    last = specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=0)
    assert last.images(3) == 30 and last.seeds_at(last=False) == ()
    for wrong in (-1, 4):
        with pytest.raises(strict.SpecError, match=f"earlier_seeds: got {wrong}, allowed: 0 to 3"):
            specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=wrong)


@pytest.mark.parametrize(("change", "match"), [
    ({"covariance": np.eye(3) * np.inf}, "covariance .* no finite numbers"),
    ({"mean": np.array([0, 1e200, 0.0])}, "mean .* beyond what float32 features can give"),
    ({"mean": np.array([0, np.nan, 0])}, "mean .* no finite numbers"),
    ({"covariance": np.eye(3) * 1e170}, "covariance .* beyond what float32"),
    ({"covariance": np.eye(3) + np.eye(3, k=1) * 1e-3}, "not symmetric"),
    ({"covariance": np.eye(4)}, r"mean has the shape \(3,\) and covariance \(4, 4\)"),
    ({"mean": np.zeros((3, 1))}, r"allowed: \(D,\) and \(D, D\)"),
    ({"count": np.array([1])}, "1 samples have no covariance"),
    ({"count": np.array([1, 2])}, "moments"),
    ({"mean": None}, "mean is missing")])
def test_moments_that_can_not_be_are_refused_by_name_when_they_are_read(change, match):
    arrays = {"mean": np.zeros(3), "covariance": np.eye(3), "count": np.array([9])} | change
    with pytest.raises(ValueError, match=rf"ref\.safetensors: .*{match}"):
        stored({name: values for name, values in arrays.items() if values is not None}, "ref.safetensors")


def test_moments_of_different_detectors_do_not_compare():
    one, other = (Moments(np.zeros(d), np.eye(d), 9) for d in (3, 4))
    with pytest.raises(ValueError, match="moments of 3 and of 4 features"):
        frechet_distance(one, other)
