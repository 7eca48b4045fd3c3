"""Detectors, scores and tables."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import kept

from ambient import specs
from ambient.annotation.statistics import statistics
from ambient.data import usage
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, to_float, write
from ambient.diffusion.eligible import Admission
from ambient.evaluation import features, small_nets
from ambient.evaluation.detectors import inception
from ambient.evaluation.frechet import Moments, frechet_distance, moments, stored
from ambient.report import captions, tables
from ambient.specs import strict
from ambient.stages import detector, evaluate, reference
from ambient.stages import tables as tables_stage
from ambient.storage.files import read_arrays, sha256, write_arrays
from ambient.training.weights import read_weights

RECORD = SimpleNamespace(facts={}, external=lambda *arguments: None)
NET = specs.DetectorSpec("classifier", features=6, channels=8, nimg=2560, batch=64, lr=3e-3)


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
        detector.main(NET, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert RECORD.facts["accuracy"] > 0.95 and RECORD.facts["checked_images"] == 40


def test_members_of_a_detector_are_networks_side_by_side(data, tmp_path):
    """Each differs from the others; their features lie side by side, so that mean distances are averaged."""
    made = dataclasses.replace(NET, members=3)
    detector.main(made, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    images = read(data).images[:30]
    found = features.extract(made, tmp_path / "net", images, "t").reshape(30, 3, NET.features)
    weights = read_weights(tmp_path / "net")
    for number in range(3):
        alone = small_nets.SmallNet(1, NET.channels, NET.features, 2)
        prefix = f"members.{number}."
        alone.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        expected = alone.body(torch.from_numpy(to_float(images))).detach().numpy()
        np.testing.assert_allclose(found[:, number] * 3**0.5, expected, atol=1e-5)
        assert not np.allclose(found[:, number], found[:, number - 1], atol=0.1)
    assert RECORD.facts["accuracy"] > 0.95
    with pytest.raises(strict.SpecError, match="members: got 0, allowed: >= 1"):
        dataclasses.replace(NET, members=0)


def test_evaluation_equals_the_distance_of_the_features(data, tmp_path):
    detector.main(NET, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    reference.main(NET, RECORD, data=data, detector=tmp_path / "net", out=tmp_path / "ref.safetensors")
    random = np.random.default_rng(1)
    samples = random.integers(0, 256, (2, 50, 1, 16, 16), dtype=np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"128": samples, "64": samples[::-1].copy()})
    evaluate.main(specs.EvaluationSpec("fd-net", NET, (4, 7)), RECORD, detector=tmp_path / "net",
                  samples=tmp_path / "samples.safetensors", reference=tmp_path / "ref.safetensors",
                  out=tmp_path / "m.json", moments_out=tmp_path / "moments.safetensors")
    found = json.loads((tmp_path / "m.json").read_text())
    assert [(s["nimg"], s["seed"]) for s in found["scores"]] == [(64, 4), (64, 7), (128, 4), (128, 7)]
    assert found["num_samples"] == 50 and found["reference_images"] == 400
    target = moments(features.extract(NET, tmp_path / "net", read(data).images, "t"))
    own = frechet_distance(moments(features.extract(NET, tmp_path / "net", samples[0], "t")), target)
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
    detector.main(NET, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    random, paths = np.random.default_rng(1), {"detector": tmp_path / "net"}
    for images in (NET.dimensions, NET.dimensions + 1):
        drawn = random.standard_normal((images, NET.dimensions))
        singular = np.linalg.matrix_rank(moments(drawn).covariance) < NET.dimensions
        pixels = random.integers(0, 256, (images, 1, 16, 16), dtype=np.uint8)
        write(tmp_path / "few.safetensors", Dataset(pixels, np.arange(images) % 2, np.arange(images)))
        write_arrays(tmp_path / "samples.safetensors", {"64": pixels[None]})
        capsys.readouterr()
        reference.main(NET, RECORD, data=tmp_path / "few.safetensors", out=tmp_path / "ref", **paths)
        evaluate.main(specs.EvaluationSpec("fd-net", NET, (0,)), RECORD, reference=tmp_path / "ref",
                      samples=tmp_path / "samples.safetensors", out=tmp_path / "m.json",
                      moments_out=tmp_path / "moments", **paths)
        remarks = [line for line in capsys.readouterr().out.splitlines() if "biased upwards" in line]
        named = [f"{role}: {images} images against 6 features"
                 for role in ("reference: data", "evaluate: samples")]
        assert [line.partition(";")[0] for line in remarks] == (named if singular else [])


def test_snapshots_before_the_last_may_have_fewer_sampling_seeds(data, tmp_path):
    detector.main(NET, RECORD, data=data, weights=None, state=kept(tmp_path / "s"), out=tmp_path / "net")
    reference.main(NET, RECORD, data=data, detector=tmp_path / "net", out=tmp_path / "ref.safetensors")
    drawn = np.random.default_rng(1).integers(0, 256, (3, 20, 1, 16, 16), dtype=np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"128": drawn, "64": drawn[:1], "96": drawn[:1]})
    asked = specs.EvaluationSpec("fd-net", NET, (4, 7, 9), earlier_seeds=1)
    evaluate.main(asked, RECORD, detector=tmp_path / "net", samples=tmp_path / "samples.safetensors",
                  reference=tmp_path / "ref.safetensors", out=tmp_path / "m.json",
                  moments_out=tmp_path / "moments.safetensors")
    found = [(s["nimg"], s["seed"]) for s in json.loads((tmp_path / "m.json").read_text())["scores"]]
    assert found == [(64, 4), (96, 4), (128, 4), (128, 7), (128, 9)]


def test_the_number_of_earlier_seeds_is_one_of_those_there_are():
    sampler = specs.SamplerSpec(4, 0.01, 20.0, 7.0)
    one = specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=1)
    assert one.images(1) == 30 and one.images(3) == 50
    assert specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32").images(3) == 90
    for wrong in (0, 4):
        with pytest.raises(strict.SpecError, match=f"earlier_seeds: got {wrong}, allowed: 1 to 3"):
            specs.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=wrong)


class Layers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, (1, 1)).reshape(-1, 3).repeat(1, 683)[:, :2048]


class Fake(torch.nn.Module):
    """The shape of NVIDIA's TorchScript file: it resizes, and its `layers` take centred values."""

    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = torch.nn.functional.interpolate(x, size=[299, 299], mode="bilinear")
        found = self.layers((x[:, :, :200, :150] - 128) / 128)  # a corner, so that it matters who resizes
        return found if return_features else found[:, :10]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A network in Inception's place, in the format of its file, whose digest is the known one."""
    import cleanfid.features
    from cleanfid.inception_torchscript import InceptionV3W

    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(Fake()).save(path)
    monkeypatch.setattr(inception, "INCEPTION_SHA256", sha256(path))
    monkeypatch.setattr(cleanfid.features, "InceptionV3W", lambda _, download, resize_inside: InceptionV3W(
        str(tmp_path), download=False, resize_inside=resize_inside))
    return path


def clean_fids(mode, images):
    """Features of uint8 images (N, 3, H, W) by clean-fid's own functions in a mode of its."""
    from cleanfid.features import build_feature_extractor
    from cleanfid.resize import build_resizer

    model = build_feature_extractor(mode, torch.device("cpu"), use_dataparallel=False)
    resize = build_resizer(mode)
    ready = np.stack([resize(image.transpose(1, 2, 0)) for image in images]).transpose(0, 3, 1, 2)
    return model(torch.from_numpy(ready.astype(np.float32))).numpy()


@pytest.mark.parametrize("side", [28, 64, 512])
@pytest.mark.parametrize(("resize", "mode"), [("legacy", "legacy_tensorflow"), ("clean", "clean")])
def test_each_resizing_has_the_features_of_clean_fids_mode(tmp_path, stand_in, resize, mode, side):
    made = specs.DetectorSpec("inception", resize=resize)
    detector.main(made, RECORD, data=tmp_path, weights=stand_in, state=kept(tmp_path / "s"),
                  out=tmp_path / "net.weights")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8)
    found = features.extract(made, tmp_path / "net.weights", images, "t")
    np.testing.assert_allclose(found, clean_fids(mode, images), atol=2e-6)
    grey = features.extract(made, tmp_path / "net.weights", images[:, :1], "t")
    assert grey.shape == (3, 2048) and np.ptp(grey[:, :3], axis=1).max() < 1e-5


@pytest.mark.parametrize("side", [28, 64, 512])
def test_bicubic_is_clean_fids_resizing_of_every_pixel(side):
    from cleanfid.resize import make_resizer

    images = np.random.default_rng(0).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    resize, matrix = make_resizer("PIL", False, "bicubic", (299, 299)), inception.bicubic(side)
    for made, image in zip(matrix.T @ torch.from_numpy(images).float() @ matrix, images, strict=True):
        expected = resize(image.transpose(1, 2, 0)).transpose(2, 0, 1)
        np.testing.assert_allclose(made.clamp(0, 255), expected, atol=1e-3)  # in grey levels


def test_a_fid_is_the_distance_of_clean_fids_features(tmp_path, stand_in):
    """From images to the score. The stand-in's features are 3 in 2,048 places."""
    from cleanfid import fid

    random = np.random.default_rng(2)
    images = random.integers(0, 256, (40, 3, 16, 16), dtype=np.uint8)
    samples = (random.integers(0, 200, (1, 30, 3, 16, 16)) + 40).astype(np.uint8)
    write(tmp_path / "d.safetensors", Dataset(images, np.arange(40) % 2, np.arange(40)))
    write_arrays(tmp_path / "samples.safetensors", {"64": samples})
    made = specs.DetectorSpec("inception", resize="legacy")
    reference.main(made, RECORD, data=tmp_path / "d.safetensors", detector=stand_in,
                   out=tmp_path / "ref.safetensors")
    evaluate.main(specs.EvaluationSpec("fid", made, (0,)), RECORD, samples=tmp_path / "samples.safetensors",
                  detector=stand_in, reference=tmp_path / "ref.safetensors", out=tmp_path / "m.json",
                  moments_out=tmp_path / "moments.safetensors")
    found = json.loads((tmp_path / "m.json").read_text())
    assert {key: found[key] for key in ("metric", "resize", "weights_sha256", "reference_images")} == {
        "metric": "fid", "reference_images": 40} | inception.PROTOCOLS["fid"]
    distances = []
    for mode in ("legacy_tensorflow", "clean"):
        one, other = (clean_fids(mode, part)[:, :3].astype(np.float64) for part in (samples[0], images))
        distances.append(fid.frechet_distance(one.mean(0), np.cov(one, rowvar=False), other.mean(0),
                                              np.cov(other, rowvar=False)) * 2048 / 3)
    assert found["scores"][0]["value"] == pytest.approx(distances[0], rel=1e-3)
    assert abs(distances[1] / distances[0] - 1) > 0.005  # by the other resizing it is another number


def test_a_score_is_named_after_inception_only_where_it_is_inceptions():
    legacy, clean = (specs.DetectorSpec("inception", resize=resize) for resize in ("legacy", "clean"))
    assert specs.DetectorSpec("inception").resize == "clean"  # what specifications meant before they said it
    for metric, made in (("fid", NET), ("fid-clean", NET), ("FID", NET), ("fid", clean),
                         ("fid-clean", legacy), ("fd-net", clean)):
        with pytest.raises(strict.SpecError, match="metric: got .*allowed: f.* for features of kind"):
            specs.EvaluationSpec(metric, made, (0,))
    known, plain = inception.INCEPTION_SHA256, strict.plain(specs.EvaluationSpec("fid", legacy, (0,)))
    misnamed = inception.misnamed
    assert misnamed(plain, known) is None
    assert misnamed(strict.plain(specs.EvaluationSpec("fid-clean", clean, (0,))), known) is None
    assert misnamed(strict.plain(specs.EvaluationSpec("fd-net", NET, (0,))), "0" * 64) is None
    assert "is not Inception's file" in misnamed(plain, "0" * 64)
    assert "is not Inception's file" in misnamed({"metric": "fid", "detector": strict.plain(NET)}, known)
    assert "resized as for fid-clean" in misnamed({"metric": "fid", "detector": {"kind": "inception"}}, known)
    for broken in ({"metric": "fid"}, {"metric": "fid", "detector": 3}):
        assert misnamed(broken, known)


def test_missing_or_wrong_inception_weights_say_what_to_do(tmp_path, monkeypatch):
    import cleanfid.downloads_helper

    def offline(fpath):
        raise OSError("no network")

    monkeypatch.setattr(cleanfid.downloads_helper, "check_download_inception", offline)
    files = {"data": tmp_path, "state": tmp_path / "s", "out": tmp_path / "o"}
    with pytest.raises(ValueError, match=r"no network.*detectors\.inception\.weights"):
        detector.main(specs.DetectorSpec("inception"), RECORD, weights=None, **files)
    with pytest.raises(ValueError, match="no such file"):
        detector.main(specs.DetectorSpec("inception"), RECORD, weights=tmp_path / "gone.pt", **files)
    with pytest.raises(ValueError, match="give them as --weights"):
        detector.main(specs.DetectorSpec("inception", weights="/w.pt"), RECORD, weights=None, **files)
    (tmp_path / "w.pt").write_bytes(b"other")
    with pytest.raises(ValueError, match="sha256 is .*no other one is run"):
        detector.main(specs.DetectorSpec("inception"), RECORD, weights=tmp_path / "w.pt", **files)
    with pytest.raises(strict.SpecError, match="sha256: got '0000.*only this one is run"):
        specs.DetectorSpec("inception", sha256="0" * 64)


class Writer(torch.nn.Module):
    """A program in a detector's file: it writes to a file of its choice."""

    def __init__(self, victim: str):
        super().__init__()
        self.victim = victim

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        torch.from_file(self.victim, True, 16, dtype=torch.float32).fill_(0.0)
        return x


@pytest.mark.parametrize("resize", ["legacy", "clean"])
def test_no_other_torchscript_is_loaded_at_any_stage(tmp_path, resize, monkeypatch):
    (tmp_path / "victim").write_text("A" * 64)
    weights, made = tmp_path / "net.weights", specs.DetectorSpec("inception", resize=resize)
    torch.jit.script(Writer(str(tmp_path / "victim"))).save(weights)
    monkeypatch.setattr(torch.jit, "load", lambda *arguments, **more: pytest.fail("it was loaded"))
    images = np.zeros((4, 3, 8, 8), np.uint8)
    write(tmp_path / "d.safetensors", Dataset(images, np.zeros(4, int), np.arange(4)))
    write_arrays(tmp_path / "samples.safetensors", {"1": images[None]})
    write_arrays(tmp_path / "ref.safetensors", {"mean": np.zeros(2048), "covariance": np.eye(2048),
                                                "count": np.array([4])})
    with pytest.raises(ValueError, match="no other one is run"):
        detector.main(made, RECORD, data=tmp_path, weights=weights,
                      state=kept(tmp_path / "s"), out=tmp_path / "o")
    with pytest.raises(ValueError, match="no other one is run"):
        reference.main(made, RECORD, data=tmp_path / "d.safetensors", detector=weights, out=tmp_path / "o")
    with pytest.raises(ValueError, match="no other one is run"):
        evaluate.main(specs.EvaluationSpec(inception.METRICS[resize], made, (0,)), RECORD,
                      samples=tmp_path / "samples.safetensors", detector=weights,
                      reference=tmp_path / "ref.safetensors", out=tmp_path / "o", moments_out=tmp_path / "m")
    assert (tmp_path / "victim").read_text() == "A" * 64


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


# --- tables ---------------------------------------------------------------------------------------------


def scores(values):
    """{nimg: [value a seed]} as a score list."""
    return [{"nimg": nimg, "seed": seed, "value": value}
            for nimg, row in values.items() for seed, value in enumerate(row)]


def test_summary_numbers():
    one = scores({100: [5.0, 7.0], 200: [8.0, 12.0]})
    two = scores({100: [4.0, 4.0], 200: [3.0, 5.0]})
    found = tables.summarise([one, two])
    assert found["value"] == pytest.approx((10 + 4) / 2)
    assert found["value_std"] == pytest.approx(np.sqrt((8 + 2) / 2))
    assert found["value_min"] == 3.0 and found["value_best"] == pytest.approx((6 + 4) / 2)
    assert found["training_std"] == pytest.approx(np.std([10, 4], ddof=1))
    assert found["num_seeds"] == 2 and found["num_training_seeds"] == 2 and found["nimg"] == 200
    assert tables.summarise([one])["best_nimg"] == 100
    assert np.isnan(tables.summarise([one])["training_std"])


def make_table(tmp_path):
    rows = (specs.RowSpec("a", "runs/a", "Only Clean", None, {}, {"fid": 8.79}, None),
            specs.RowSpec("b", "runs/b", "Ambient-o", "jpeg", {"quality": 25}, {}, "noise"))
    files = []
    for name, values in (("a", {10: [2.0]}), ("b", {10: [1.0]})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"metric": "fd-x", "scores": scores(values), "num_samples": 9,
                                    "reference_images": 5}))
        (tmp_path / f"{name}-annotations.json").write_text(
            json.dumps({"sigma_min_mean": 1.5} if name == "b" else {}))
        files.append(path)
    return (specs.TableSpec("t", "demo", rows, (0,)), files,
            [tmp_path / "a-annotations.json", tmp_path / "b-annotations.json"])


def test_table_columns_and_rows(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    tables_stage.main(made, RECORD, metrics=metrics, annotations=annotations, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    assert list(table.columns[:9]) == ["method", "corruption", "quality", "metric", "value", "value_std",
                                       "value_min", "value_best", "num_samples"]
    assert {"num_seeds", "sigma_min_mean", "paper_value", "run_id"} <= set(table.columns)
    assert list(table["method"]) == ["Only Clean", "Ambient-o"] and list(table["value"]) == [2.0, 1.0]
    assert np.isnan(table["sigma_min_mean"][0]) and table["sigma_min_mean"][1] == 1.5
    text = tables.rebuild(strict.plain(made), {"metrics": metrics, "annotations": annotations})
    assert text == (tmp_path / "t.csv").read_text()


def test_different_protocols_are_not_mixed(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    other = json.loads(metrics[1].read_text()) | {"num_samples": 10}
    (tmp_path / "c.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="scored differently"):
        tables.row(made.rows[0], [json.loads(metrics[0].read_text()), other], {})
    with pytest.raises(ValueError, match="1 score files"):
        tables.frame(made, metrics[:1], annotations)


def test_a_detector_of_one_class_is_refused(tmp_path):
    """A label of 8 alone is one class, not nine."""
    images = np.zeros((20, 1, 16, 16), np.uint8)
    write(tmp_path / "d.safetensors", Dataset(images, np.full(20, 8), np.arange(20)))
    with pytest.raises(ValueError, match=r"two or more.*begin with \[8\]"):
        detector.main(NET, RECORD, data=tmp_path / "d.safetensors", weights=None,
                      state=kept(tmp_path / "s"), out=tmp_path / "w")


def test_tables_say_what_an_annotation_rests_on(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    annotations[1].write_text(json.dumps(json.loads(annotations[1].read_text()) | {
        "sigma_min_lag": 0.145, "crop_tolerance": {"absolute": 1e-3, "relative": 0.05}}))
    tables_stage.main(made, RECORD, metrics=metrics, annotations=annotations, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["sigma_min_lag"].iloc[1] == 0.145 and table["crop_tolerance"].iloc[1] == "0.001 and 5%"
    assert table[["sigma_min_lag", "crop_tolerance"]].iloc[0].isna().all()
    assert captions.tolerance(1e-3, None) == "0.001"


def test_protocol_columns_stand_in_the_table(tmp_path):
    """Two metrics of the same samples: the table's own beside the paper's number, the other in columns."""
    made, metrics, annotations = make_table(tmp_path)
    others = []
    for path, value in zip(metrics, (3.0, 1.5), strict=True):
        score = json.loads(path.read_text()) | {"reference_images": 5}
        legacy, clean = (specs.DetectorSpec("inception", resize=r).protocol() for r in ("legacy", "clean"))
        path.write_text(json.dumps(score | {"metric": "fid"} | legacy))
        others.append(path.with_name(f"{path.stem}-clean.json"))
        others[-1].write_text(json.dumps(score | {"metric": "fid-clean", "scores": scores({10: [value]})}
                                         | clean))
    about = {"reference": "cifar10", "protocol": "strict balanced",
             "paper_protocol": "leaky uniform (clean fraction 0.5)"}
    rows = tuple(dataclasses.replace(row, **about) for row in made.rows)
    made = dataclasses.replace(made, rows=rows, beside=("fid-clean",))
    files = {"metrics": metrics, "annotations": annotations}
    tables_stage.main(made, RECORD, **files, beside=others, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    known = inception.INCEPTION_SHA256
    assert table["metric"].eq("fid").all() and list(table["value"]) == [2.0, 1.0]
    assert table["resize"].eq("legacy").all() and list(table["fid-clean"]) == [3.0, 1.5]
    assert table["fid-clean_resize"].eq("clean").all() and table["fid-clean_num_samples"].eq(9).all()
    assert table["weights_sha256"].eq(known).all() and table["fid-clean_weights_sha256"].eq(known).all()
    assert table["reference_dataset"].eq("cifar10").all() and table["reference_images"].eq(5).all()
    assert table["protocol"].eq("strict balanced").all()
    assert table["paper_protocol"].eq("leaky uniform (clean fraction 0.5)").all()
    assert tables.rebuild(strict.plain(made), files | {"beside": others}) == (tmp_path / "t.csv").read_text()
    with pytest.raises(ValueError, match="2 score files for 0 other metrics"):
        tables.frame(dataclasses.replace(made, beside=()), metrics, annotations, (), others)
    with pytest.raises(ValueError, match="fid where fid-clean is expected"):
        tables.frame(made, metrics, annotations, (), metrics)


@pytest.mark.parametrize("wrong", [{"resize": "clean"}, {"resize": "none"}, {"weights_sha256": "0" * 64},
                                   {"weights_sha256": None}])
def test_a_table_has_no_fid_that_is_recorded_as_something_else(tmp_path, wrong):
    made, _, annotations = make_table(tmp_path)
    score = {"metric": "fid", "scores": scores({10: [2.0]}), "num_samples": 9, "reference_images": 5}
    good = score | specs.DetectorSpec("inception", resize="legacy").protocol()
    assert tables.row(made.rows[0], [good], {})["metric"] == "fid"
    with pytest.raises(ValueError, match="run a: its score is called fid, but is recorded with"):
        tables.row(made.rows[0], [good | wrong], {})


# --- use of the added images --------------------------------------------------------------------------------


def test_usage_against_every_draw_of_a_training():
    """The shares against counts over many levels, by the rule that training admits images by."""
    random = np.random.default_rng(3)
    clean, count, noise = 5, 40, specs.NoiseSpec(-1.2, 1.2)
    sigma_min = np.r_[np.zeros(clean), random.choice([0.0, 0.3, 1.0, np.inf], count)]
    sigma_max = np.r_[np.zeros(clean), random.choice([0.0, 0.05, 0.4], count)]
    found = usage.usage(sigma_min, sigma_max, clean, noise, Admission(4.0))
    sigma = np.exp(-1.2 + 1.2 * random.standard_normal(200_000))
    admitted = Admission(4.0).admits(torch.from_numpy(sigma)[:, None], torch.from_numpy(sigma_min),
                                      torch.from_numpy(sigma_max)).numpy()
    added = admitted[:, clean:]
    assert found.levels == pytest.approx(added.mean(), abs=0.003)
    assert found.draws == pytest.approx((added.sum(1) / admitted.sum(1)).mean(), abs=0.003)


def test_usage_in_closed_form():
    noise = specs.NoiseSpec(0.0, 1.0)  # half of all levels lie above 1
    above = usage.usage(np.r_[0.0, 0.0, [1.0] * 8], np.zeros(10), 2, noise, Admission())
    assert above.levels == pytest.approx(0.5) and above.draws == pytest.approx(0.5 * 0.8)
    below = usage.usage(np.r_[0.0, 0.0, [np.inf] * 8], np.r_[0.0, 0.0, [1.0] * 8], 2, noise, Admission(4.0))
    assert below.levels == pytest.approx(0.5) and below.draws == pytest.approx(0.4)
    never = usage.usage(np.r_[0.0, [np.inf] * 4], np.zeros(5), 1, noise, Admission(4.0))
    assert (never.levels, never.draws) == (0.0, 0.0)
    always = usage.usage(np.zeros(10), np.zeros(10), 1, noise, Admission(4.0))
    assert always.levels == pytest.approx(1) and always.draws == pytest.approx(0.9)
    assert usage.usage(np.zeros(3), np.zeros(3), 3, noise, Admission(4.0)) == usage.Usage(0.0, 0.0)


def test_the_table_says_how_many_images_added_a_row_used(tmp_path):
    made, metrics, _ = make_table(tmp_path)
    noise, files, summaries = specs.NoiseSpec(0.0, 1.0), [], []
    for name, sigma_max in (("unusable", 0.0), ("usable", 1.0)):
        table, corrupted = tmp_path / f"{name}.safetensors", np.arange(10) >= 2
        low, high = np.where(corrupted, np.inf, 0.0), np.where(corrupted, sigma_max, 0.0)
        Annotations(np.arange(10), low, high).write(table)
        summaries.append(table.with_suffix(".json"))
        summaries[-1].write_text(json.dumps(statistics(low, corrupted, high)))
        files.append(table)
    rows = tuple(dataclasses.replace(row, noise=noise, buffer=4.0) for row in made.rows)
    found = tables.frame(dataclasses.replace(made, rows=rows), metrics, summaries, files)
    assert list(found["images_clean"]) == [2, 2] and list(found["images_added"]) == [8, 8]
    assert list(found["images_used"]) == [0, 8]
    assert list(found["levels_used"]) == pytest.approx([0, 0.5])
    assert list(found["draws_used"]) == pytest.approx([0, 0.4])
    alone = tables.frame(made, metrics, summaries)  # from summaries alone: their counts
    assert list(alone["images_used"]) == [0, 8] and "levels_used" not in alone
    with pytest.raises(ValueError, match="1 annotations for 2 rows"):
        tables.frame(made, metrics, summaries, files[:1])
