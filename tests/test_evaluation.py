"""Detectors, scores and tables."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ambient import detector, evaluate, features, reference, spec, strict, tables
from ambient.datasets import Dataset, read, write
from ambient.files import read_arrays, write_arrays
from ambient.frechet import Moments, frechet_distance, moments

RECORD = SimpleNamespace(facts={}, external=lambda *arguments: None)
NET = spec.DetectorSpec("classifier", features=6, channels=8, nimg=2560, batch=64, lr=3e-3)


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
        detector.main(NET, RECORD, data=data, weights=None, state=tmp_path / "s", out=tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert RECORD.facts["accuracy"] > 0.95 and RECORD.facts["checked_images"] == 40


def test_evaluation_equals_the_distance_of_the_features(data, tmp_path):
    detector.main(NET, RECORD, data=data, weights=None, state=tmp_path / "s", out=tmp_path / "net")
    reference.main(NET, RECORD, data=data, detector=tmp_path / "net", out=tmp_path / "ref.safetensors")
    random = np.random.default_rng(1)
    samples = random.integers(0, 256, (2, 50, 1, 16, 16), dtype=np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"128": samples, "64": samples[::-1].copy()})
    evaluate.main(spec.EvaluationSpec("fd-net", NET, (4, 7)), RECORD, detector=tmp_path / "net",
                  samples=tmp_path / "samples.safetensors", reference=tmp_path / "ref.safetensors",
                  out=tmp_path / "m.json", moments_out=tmp_path / "moments.safetensors")
    found = json.loads((tmp_path / "m.json").read_text())
    assert [(s["nimg"], s["seed"]) for s in found["scores"]] == [(64, 4), (64, 7), (128, 4), (128, 7)]
    assert found["num_samples"] == 50 and found["reference_images"] == 400
    target = moments(features.extract(NET, tmp_path / "net", read(data).images, "t"))
    own = frechet_distance(moments(features.extract(NET, tmp_path / "net", samples[0], "t")), target)
    assert found["scores"][2]["value"] == pytest.approx(own)
    assert found["scores"][1]["value"] == pytest.approx(own)
    kept = read_arrays(tmp_path / "moments.safetensors")
    assert len(kept) == 8
    for score in found["scores"]:
        at = f"{score['nimg']}/{score['seed']}"
        stored = Moments(kept[f"{at}/mean"], kept[f"{at}/covariance"], 50)
        assert frechet_distance(stored, target) == pytest.approx(score["value"], rel=1e-9)


def test_snapshots_before_the_last_may_have_fewer_sampling_seeds(data, tmp_path):
    detector.main(NET, RECORD, data=data, weights=None, state=tmp_path / "s", out=tmp_path / "net")
    reference.main(NET, RECORD, data=data, detector=tmp_path / "net", out=tmp_path / "ref.safetensors")
    drawn = np.random.default_rng(1).integers(0, 256, (3, 20, 1, 16, 16), dtype=np.uint8)
    write_arrays(tmp_path / "samples.safetensors", {"128": drawn, "64": drawn[:1], "96": drawn[:1]})
    asked = spec.EvaluationSpec("fd-net", NET, (4, 7, 9), earlier_seeds=1)
    evaluate.main(asked, RECORD, detector=tmp_path / "net", samples=tmp_path / "samples.safetensors",
                  reference=tmp_path / "ref.safetensors", out=tmp_path / "m.json",
                  moments_out=tmp_path / "moments.safetensors")
    found = [(s["nimg"], s["seed"]) for s in json.loads((tmp_path / "m.json").read_text())["scores"]]
    assert found == [(64, 4), (96, 4), (128, 4), (128, 7), (128, 9)]


def test_the_number_of_earlier_seeds_is_one_of_those_there_are():
    sampler = spec.SamplerSpec(4, 0.01, 20.0, 7.0)
    one = spec.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=1)
    assert one.images(1) == 30 and one.images(3) == 50
    assert spec.SamplingSpec(sampler, 10, (0, 1, 2), "float32").images(3) == 90
    for wrong in (0, 4):
        with pytest.raises(strict.SpecError, match=f"earlier_seeds: got {wrong}, allowed: 1 to 3"):
            spec.SamplingSpec(sampler, 10, (0, 1, 2), "float32", earlier_seeds=wrong)


class Layers(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, (1, 1)).reshape(-1, 3).repeat(1, 683)[:, :2048]


class Fake(torch.nn.Module):
    """The shape of clean-fid's TorchScript file: features come from its `layers`."""

    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("side", [28, 64, 512])
def test_inception_route_is_clean_fids_resizing_and_scaling(tmp_path, side):
    """With a stand-in network (the channel means) in the format of clean-fid's file."""
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(Fake()).save(path)
    made = spec.DetectorSpec("inception")
    detector.main(made, RECORD, data=tmp_path, weights=path, state=tmp_path / "s",
                  out=tmp_path / "net.weights")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8)
    found = features.extract(made, tmp_path / "net.weights", images, "t")

    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    wrapper, resize = InceptionV3W(str(tmp_path), download=False), build_resizer("clean")
    large = np.stack([resize(image.transpose(1, 2, 0)) for image in images]).transpose(0, 3, 1, 2)
    expected = wrapper(torch.from_numpy(large.copy())).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for made_large, one in zip(features.bicubic(side).T @ torch.from_numpy(images).float()
                               @ features.bicubic(side), large, strict=True):  # every pixel, in grey levels
        np.testing.assert_allclose(made_large.clamp(0, 255), one, atol=1e-3)
    grey = features.extract(made, tmp_path / "net.weights", images[:, :1], "t")
    assert grey.shape == (3, 2048) and np.ptp(grey[:, :3], axis=1).max() < 1e-5


def test_missing_or_wrong_inception_weights_say_what_to_do(tmp_path, monkeypatch):
    import cleanfid.downloads_helper

    def offline(fpath):
        raise OSError("no network")

    monkeypatch.setattr(cleanfid.downloads_helper, "check_download_inception", offline)
    files = {"data": tmp_path, "state": tmp_path / "s", "out": tmp_path / "o"}
    with pytest.raises(ValueError, match=r"no network.*detectors\.inception\.weights"):
        detector.main(spec.DetectorSpec("inception"), RECORD, weights=None, **files)
    with pytest.raises(ValueError, match="no such file"):
        detector.main(spec.DetectorSpec("inception"), RECORD, weights=tmp_path / "gone.pt", **files)
    with pytest.raises(ValueError, match="give them as --weights"):
        detector.main(spec.DetectorSpec("inception", weights="/w.pt"), RECORD, weights=None, **files)
    (tmp_path / "w.pt").write_bytes(b"other")
    with pytest.raises(ValueError, match="sha256 is"):
        detector.main(spec.DetectorSpec("inception", sha256="0" * 64), RECORD,
                      weights=tmp_path / "w.pt", **files)


def test_only_inception_is_called_fid():
    with pytest.raises(strict.SpecError, match="fid for Inception features"):
        spec.EvaluationSpec("fid", NET, (0,))


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
    rows = (spec.RowSpec("a", "runs/a", "Only Clean", None, {}, {"fid": 8.79}, None),
            spec.RowSpec("b", "runs/b", "Ambient-o", "jpeg", {"quality": 25}, {}, "noise"))
    files = []
    for name, values in (("a", {10: [2.0]}), ("b", {10: [1.0]})):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"metric": "fd-x", "scores": scores(values), "num_samples": 9,
                                    "reference_images": 5}))
        (tmp_path / f"{name}-annotations.json").write_text(
            json.dumps({"sigma_min_mean": 1.5} if name == "b" else {}))
        files.append(path)
    return (spec.TableSpec("t", "demo", rows, (0,)), files,
            [tmp_path / "a-annotations.json", tmp_path / "b-annotations.json"])


def test_table_columns_and_rows(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    tables.main(made, RECORD, metrics=metrics, annotations=annotations, out=tmp_path / "t.csv")
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
                      state=tmp_path / "s", out=tmp_path / "w")


def test_tables_say_what_an_annotation_rests_on(tmp_path):
    made, metrics, annotations = make_table(tmp_path)
    annotations[1].write_text(json.dumps(json.loads(annotations[1].read_text()) | {
        "sigma_min_lag": 0.145, "crop_tolerance": {"absolute": 1e-3, "relative": 0.05}}))
    tables.main(made, RECORD, metrics=metrics, annotations=annotations, out=tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["sigma_min_lag"].iloc[1] == 0.145 and table["crop_tolerance"].iloc[1] == "0.001 and 5%"
    assert table[["sigma_min_lag", "crop_tolerance"]].iloc[0].isna().all()
    assert tables.tolerance({"absolute": 1e-3, "relative": None}) == "0.001"
