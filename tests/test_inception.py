"""Inception: its features and distances are clean-fid's, and no other file is run."""

import json

import numpy as np
import pytest
import torch
from tiny import DETECTOR, RECORD, kept

from ambient import specs
from ambient.data.datasets import Dataset, write
from ambient.evaluation import features
from ambient.evaluation.detectors import inception
from ambient.specs import strict
from ambient.stages import detector, evaluate, reference
from ambient.storage.files import sha256, write_arrays


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
    found = features.extract(made, tmp_path / "net.weights", images)
    np.testing.assert_allclose(found, clean_fids(mode, images), atol=2e-6)
    grey = features.extract(made, tmp_path / "net.weights", images[:, :1])
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
                   state=kept(tmp_path / "ref-s"), out=tmp_path / "ref.safetensors")
    evaluate.main(specs.EvaluationSpec("fid", made, (0,)), RECORD, samples=tmp_path / "samples.safetensors",
                  detector=stand_in, reference=tmp_path / "ref.safetensors", state=kept(tmp_path / "m-s"),
                  out=tmp_path / "m.json", moments_out=tmp_path / "moments.safetensors")
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
    for metric, made in (("fid", DETECTOR), ("fid-clean", DETECTOR), ("FID", DETECTOR), ("fid", clean),
                         ("fid-clean", legacy), ("fd-net", clean)):
        with pytest.raises(strict.SpecError, match="metric: got .*allowed: f.* for features of kind"):
            specs.EvaluationSpec(metric, made, (0,))
    known, plain = inception.INCEPTION_SHA256, strict.plain(specs.EvaluationSpec("fid", legacy, (0,)))
    misnamed = inception.misnamed
    assert misnamed(plain, known) is None
    assert misnamed(strict.plain(specs.EvaluationSpec("fid-clean", clean, (0,))), known) is None
    assert misnamed(strict.plain(specs.EvaluationSpec("fd-net", DETECTOR, (0,))), "0" * 64) is None
    assert "is not Inception's file" in misnamed(plain, "0" * 64)
    assert "is not Inception's file" in misnamed({"metric": "fid", "detector": strict.plain(DETECTOR)}, known)
    assert "resized as for fid-clean" in misnamed({"metric": "fid", "detector": {"kind": "inception"}}, known)
    other = specs.DetectorSpec("inception", resize="legacy", against=specs.AgainstSpec("val", "train"))
    assert misnamed(strict.plain(specs.EvaluationSpec("fid-val", other, (0,))), known) is None
    assert "as for fid-val" in misnamed(plain | {"detector": strict.plain(other)}, known)
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
        reference.main(made, RECORD, data=tmp_path / "d.safetensors", detector=weights,
                       state=kept(tmp_path / "s"), out=tmp_path / "o")
    with pytest.raises(ValueError, match="no other one is run"):
        evaluate.main(specs.EvaluationSpec(inception.METRICS[resize], made, (0,)), RECORD,
                      samples=tmp_path / "samples.safetensors", detector=weights,
                      reference=tmp_path / "ref.safetensors", state=kept(tmp_path / "s"),
                      out=tmp_path / "o", moments_out=tmp_path / "m")
    assert (tmp_path / "victim").read_text() == "A" * 64
