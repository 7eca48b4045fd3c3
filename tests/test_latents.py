"""Denoisers that work on latents: the encoder, what is drawn from its latents, and a run from end to end."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from test_math import REFERENCE, needs_reference

import ambient
from ambient import specs
from ambient.audit.cli import main as audit
from ambient.commands import export
from ambient.data import datasets, latents
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset
from ambient.data.latents import Latents
from ambient.diffusion.networks.autoencoder import kl_divergence
from ambient.provenance import manifest
from ambient.settings import Experiments
from ambient.specs.strict import SpecError
from ambient.storage import arrays
from ambient.storage.files import read_arrays
from ambient.training import encoders
from ambient.training.batches import AmbientBatches
from ambient.training.encoding import Decoder, shape_of_images, spread
from ambient.training.points import Points, affine, normalised
from ambient.training.weights import read_description, save_weights
from tests import finished, tiny

CODER = specs.EncoderSpec("autoencoder", latent_channels=2, widths=(16,), nimg=1600, batch=16,
                          precision="float32", lr=0.005)
OVERLAY = """extends: tiny
datasets: {digits: {max_images: 150}}
encoders:
  little: {kind: autoencoder, latent_channels: 2, widths: [16], nimg: 640, batch: 32, precision: float32}
scorers: {contrast: {kind: measure, measure: contrast}}
corruptions:
  best: {op: rank, scorer: contrast}
  best-alone: {op: rank, scorer: contrast, drop: true}
annotations: {half: {method: fixed, sigma_min: 0.5, label: From sigma 0.5 on}}
studies:
  controlled:
    encoder: little
    classifier: {augment: {transforms: []}}
    annotation: {num_sigmas: 6, epsilon: 0.02}
    training: {augment: {transforms: []}, snapshots: [256]}
    sampling: {num_samples: 40}
  other: {like: controlled, training: {loss: {buffer: 6.0}}}
tables:
  table2a: {title: Digits, rows: [only-clean, ambient-blur-0.6]}
  best:
    title: Digits by contrast
    defaults: {study: controlled}
    rows:
      best-alone: {corruption: best-alone, annotation: clean, label: Only good}
      best-half: {corruption: best, annotation: half}
      best-other: {study: other, corruption: best, annotation: half}
"""
MIXTURE = "results/away/mixtures/controlled/blur-0.6/clean-0.2.safetensors"
DATA = "results/away/data/digits.safetensors"
LATENTS = MIXTURE.replace("mixtures", "latents")
ENCODER = "results/away/encoders/digits/little.safetensors"


def images(count=6, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 1, side, side), dtype=np.uint8)
    return Dataset(pixels, np.zeros(count, np.int64), np.arange(count) * 3)


def encoded(count=6, seed=0, **changes):
    draw = np.random.default_rng(seed)
    found = {"mean": draw.normal(size=(count, 2, 4, 4)).astype(np.float32),
             "std": draw.random((count, 2, 4, 4), np.float32), "ids": np.arange(count) * 3,
             "shift": np.array([1.0, -2.0], np.float32), "scale": np.array([4.0, 0.5], np.float32)}
    return Latents(**(found | changes))


def written(path, found):
    latents.write(path, found.ids, found.mean.shape[1:], found.shift, found.scale, [found])


@pytest.fixture
def stored(tmp_path):
    written(tmp_path / "latents.safetensors", encoded())
    return tmp_path / "latents.safetensors"


@needs_reference
def test_a_latent_from_its_posterior_as_published():
    vectors = load_file(REFERENCE / "latent/vae_latents.safetensors")
    mean, std, noise = (torch.from_numpy(vectors[key])
                        for key in ("posterior_mean", "posterior_std", "noise"))
    shift, scale = torch.tensor([5.81, 3.25, 0.12, -2.15]), torch.tensor([4.17, 4.62, 3.71, 3.28])
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        at, width = normalised(mean.to(dtype), std.to(dtype), shift, scale)
        found, wanted = at + width * noise.to(dtype), torch.from_numpy(vectors["out64.latents"])
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()
    gain, bias = affine(shift, scale)
    raw = (torch.from_numpy(vectors["out.latents"]) - bias) / gain
    np.testing.assert_allclose(raw, vectors["out.decoder_input"], rtol=0, atol=1e-5)
    pixels = datasets.to_float(vectors["pixels_uint8"])  # without an encoder
    np.testing.assert_allclose(pixels, vectors["out64.rgb_latents"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(datasets.to_uint8(vectors["rgb_final"]), vectors["out.rgb_decoded_uint8"])


def test_pixels_are_points_as_they_are():
    data = images()
    points = Points(data)
    np.testing.assert_array_equal(points.visited(np.array([3, 1]), slice(0, 2), 0, 0),
                                  datasets.to_float(data.images[[3, 1]]))
    np.testing.assert_array_equal(points.fixed(np.array([2]), 7),
                                  points.visited(np.array([2]), slice(0, 1), 9))
    assert not points.encoded and points.shape == (1, 8, 8)


def test_a_latent_is_drawn_from_its_posterior(stored):
    points, known = Points(images(), [stored]), encoded()
    assert points.encoded and points.shape == (2, 4, 4)
    rows = np.full(4000, 2)
    x = points.visited(rows, slice(0, 4000), 5, 64)
    mean = (known.mean[2] - known.shift[:, None, None]) / known.scale[:, None, None] * 0.5
    std = known.std[2] / known.scale[:, None, None] * 0.5
    np.testing.assert_allclose(x.mean(dim=0), mean, atol=float(5 * std.max() / 4000**0.5))
    np.testing.assert_allclose(x.std(dim=0), std, rtol=0.08, atol=1e-6)


def test_visits_differ_and_repeat_and_a_fixed_latent_is_of_its_image(stored):
    points, rows = Points(images(), [stored]), np.array([0, 4, 4])
    place = slice(13, 16)
    one = points.visited(rows, place, 1, 0)
    assert torch.equal(one, points.visited(rows, place, 1, 0))
    assert not torch.equal(one, points.visited(rows, place, 1, 16))
    assert torch.equal(one[2:], points.visited(rows[2:], slice(15, 16), 1, 0))  # whoever takes that row
    assert not torch.equal(one[1], one[2])
    alone, among = points.fixed(np.array([4]), 3), points.fixed(np.array([0, 4, 4]), 3)
    assert torch.equal(alone[0], among[1]) and torch.equal(among[1], among[2])


@pytest.mark.parametrize("posterior", ["visit", "fixed"])
def test_a_training_step_draws_latents_anew_or_once(stored, posterior):
    data = dataclasses.replace(images(), corrupted=np.zeros(6, np.uint8))
    spec = dataclasses.replace(tiny.TRAINING, posterior=posterior, augment=specs.AugmentSpec(0.0, ()))
    rows = Annotations(data.ids, np.zeros(6), np.zeros(6))
    batches = AmbientBatches(spec, data, Points(data, [stored]), rows, None, torch.device("cpu"))
    index = torch.tensor([1, 5])
    one, other = (batches.clean(index, nimg, slice(0, 2)) for nimg in (0, 16))
    assert torch.equal(one, batches.clean(index, 0, slice(0, 2))) and one.shape == (2, 2, 4, 4)
    assert torch.equal(one, other) == (posterior == "fixed")


def test_latents_of_several_files_are_found_by_id(tmp_path):
    whole = encoded()
    for name, rows in (("a", [4, 5]), ("b", [0, 1, 2, 3, 4])):
        part = {key: getattr(whole, key)[rows] for key in ("mean", "std", "ids")}
        written(tmp_path / name, dataclasses.replace(whole, **part))
    points = Points(images(), [tmp_path / "a", tmp_path / "b"])
    written(tmp_path / "whole", whole)
    alone, every = Points(images(), [tmp_path / "whole"]), np.arange(6)
    assert torch.equal(points.fixed(every, 1), alone.fixed(every, 1))


def test_latents_of_other_images_or_encoders_are_refused(tmp_path, stored):
    other = tmp_path / "other.safetensors"
    written(other, encoded(5))
    with pytest.raises(ValueError, match=r"other.safetensors: has no latent of image 15, of 1 images in all"):
        Points(images(), [other])
    written(other, encoded(shift=np.array([1.0, 2.0], np.float32)))
    with pytest.raises(ValueError, match="its latents are of another encoder than those of .*latents.safet"):
        Points(images(), [stored, other])


def test_a_latent_that_is_not_finite_names_its_image():
    mean = encoded().mean.copy()
    mean[4, 1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="the latent of image 12 is not finite, of 1 images in all"):
        encoded(mean=mean)


def test_spread_is_that_of_drawn_latents(tmp_path):
    """However the images come in parts: of 1,024, 1,024 and 452 here. A lost part alone is seen again."""
    known, draw, seen = encoded(2500), np.random.default_rng(1), []
    z = known.mean + known.std * draw.normal(size=known.mean.shape)

    class Known:  # image k is its own number
        def encode(self, numbers):
            seen.append(len(numbers))
            return torch.from_numpy(known.mean[numbers]), torch.from_numpy(known.std[numbers])

    shift, scale = spread(Known(), np.arange(2500), tiny.kept(tmp_path))
    next(tmp_path.glob("*/spread-2048.safetensors")).unlink()
    seen.clear()
    again = spread(Known(), np.arange(2500), tiny.kept(tmp_path))
    assert sum(seen) == 452 and (np.stack(again) == np.stack((shift, scale))).all()
    variance = known.mean.var(axis=(0, 2, 3), dtype=float) + np.square(known.std, dtype=float).mean((0, 2, 3))
    np.testing.assert_allclose(shift, known.mean.mean(axis=(0, 2, 3), dtype=float), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scale, np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(shift, z.mean(axis=(0, 2, 3)), atol=0.05)
    np.testing.assert_allclose(scale, z.std(axis=(0, 2, 3)), rtol=0.03)


def test_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(2, 5), torch.randn(5)
    mine = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(mine, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), wanted)


def test_an_autoencoder_learns_and_comes_back_from_its_file(tmp_path):
    side = np.arange(8)
    waves = [127.5 + 100 * np.sin(side[:, None] * a + side * b) for a in (0.3, 0.7, 1) for b in (0.2, 0.5)]
    data = images(30)
    data = dataclasses.replace(data, images=np.array(waves * 5, np.uint8)[:, None])
    record = dataclasses.make_dataclass("Record", ["facts"])({})
    coder = encoders.KINDS["autoencoder"].make(CODER, record, data=data, weights=None,
                                               state=tiny.kept(tmp_path / "state"))
    assert record.facts["held_out_images"] == 3
    assert record.facts["held_out_rms"] < 0.7 * data.images.std() / 127.5  # of a coder that knows nothing
    about = {"spec": specs.strict.plain(CODER), "channels": 1, "shift": [0.5, 0.0], "scale": [2.0, 1.0]}
    save_weights(tmp_path / "coder.safetensors", coder.state_dict(), about)
    decoder = Decoder(tmp_path / "coder.safetensors", torch.device("cpu"))
    assert shape_of_images({"channels": 2, "resolution": 4}, decoder.path) == (1, 8, 8)
    mean, std = decoder.encode(data.images)
    assert (std > 0).all() and mean.shape == (30, 2, 4, 4)
    x, _ = normalised(torch.from_numpy(mean), torch.from_numpy(std), decoder.shift, decoder.scale)
    apart = decoder.images(x).astype(float) - data.images
    assert np.sqrt((apart**2).mean()) / 127.5 == pytest.approx(record.facts["held_out_rms"], rel=0.5)
    decoder.coder.decode = lambda z: torch.full((len(z), 1, 8, 8), torch.nan)
    with pytest.raises(FloatingPointError, match=r"coder.safetensors: decodes latents to what is no number"):
        decoder.images(x)


@pytest.mark.parametrize(("key", "change", "message"), [
    ("encoder: little", "encoder: lettle", "no such name in encoders: 'lettle' .did you mean 'little'"),
    ("training: {augment: {transforms: []}, ", "training: {",
     r"controlled.training.augment.transforms: got \['scale'\], allowed: none in a study with an encoder"),
    ("classifier: {augment: {transforms: []}}", "classifier: {augment: {transforms: [xflip]}}",
     r"classifier.augment.transforms: got \['xflip'\], allowed: none in a study with an encoder"),
    ("widths: [16]", "widths: [8, 8, 8, 8, 8]", "studies.controlled.encoder: kind: got 'autoencoder', "
     "allowed: one for images of 16 pixels; this one takes multiples of 32"),
    ("latent_channels: 2,", "latent_channels: 2, weights: vae,",
     "encoders.little.weights: got 'vae', allowed: null"),
    ("latent_channels: 2,", "latent_channels: 2, shift: [1.0], scale: [1.0],",
     "2 numbers, one for each channel"),
    ("latent_channels: 2,", "latent_channels: 2, dataset: cifar10,",
     "encoders.little.dataset: got 'cifar10', allowed: one with channels 1, as digits has")])
def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path, key, change, message):
    assert key in OVERLAY
    finished.configure(tmp_path, OVERLAY.replace(key, change))
    with pytest.raises(SpecError, match=message):
        Experiments(tmp_path / "config", finished.SCALE)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A table of runs on latents, made once."""
    folder, patch = tmp_path_factory.mktemp("encoded"), pytest.MonkeyPatch()
    finished.configure(folder, OVERLAY)
    patch.chdir(folder)
    finished.make(folder, "results/away/table2a.csv", "results/away/best.png")
    patch.undo()
    return folder


def test_runs_on_latents_read_them_and_end_in_images(tree):
    read = manifest.read(manifest.path_for(tree / LATENTS))["inputs"]
    assert [Path(entry["path"]).name for entry in read["encoder"]] == ["little.safetensors"]
    found, mixture = latents.read(tree / LATENTS), datasets.read(tree / MIXTURE)
    np.testing.assert_array_equal(found.ids, mixture.ids)
    assert found.mean.shape == (150, 2, 8, 8)
    about = read_description(tree / "results/away/runs/ambient-blur-0.6/seed-0/denoiser.safetensors")
    assert about["encoded"] and (about["channels"], about["resolution"]) == (2, 8)
    samples = read_arrays(tree / "results/away/runs/ambient-blur-0.6/seed-0/samples.safetensors")["256"]
    assert samples.shape == (2, 40, 1, 16, 16)
    annotated = manifest.read(manifest.path_for(
        tree / "results/away/annotations/controlled/blur-0.6/per-sample.safetensors"))["inputs"]
    assert len(annotated["latents"]) == 1
    asks_none = manifest.read(manifest.path_for(
        tree / "results/away/annotations/controlled/none/clean.safetensors"))["inputs"]
    assert asks_none["latents"] == []


def test_files_larger_than_the_memory_give_the_same_bytes(tree, tmp_path, monkeypatch):
    """Every array counts as large, and is written a few rows at a time."""
    monkeypatch.setattr(arrays, "HELD", 0)
    monkeypatch.setattr(arrays, "BLOCK", 5000)
    finished.configure(tmp_path, OVERLAY)
    monkeypatch.chdir(tmp_path)
    finished.make(tmp_path, "results/away/table2a.csv", "results/away/best.png")
    written = sorted(path.relative_to(tmp_path) for path in (tmp_path / "results").rglob("*.*")
                     if path.suffix in (".safetensors", ".csv") and ".state" not in str(path))
    assert len(written) > 25
    assert [path for path in written if (tmp_path / path).read_bytes() != (tree / path).read_bytes()] == []


def test_mixtures_of_a_datasets_own_images_share_its_latents(tree):
    """They have no images, whichever of them are good, and whichever study it is."""
    mixtures = sorted((tree / "results/away/mixtures").glob("*/best*/*.safetensors"))
    assert [path.parts[-3:-1] for path in mixtures] == [
        ("controlled", "best"), ("controlled", "best-alone"), ("other", "best")]
    assert all(set(read_arrays(path)) == {"ids", "labels", "corrupted"} for path in mixtures)
    whole = tree / "results/away/latents/controlled/none/clean-1.0.safetensors"
    np.testing.assert_array_equal(latents.read(whole).ids, datasets.read(tree / DATA).ids)
    every = list((tree / "results/away/latents").rglob("*.safetensors"))
    assert len(every) == 3  # the others are of blur, and of its good images alone
    for run in ("best-alone", "best-half", "best-other"):
        read = manifest.read(manifest.path_for(tree / f"results/away/runs/{run}/seed-0/denoiser.safetensors"))
        assert [entry["path"] for entry in read["inputs"]["latents"]] == [
            "../../../latents/controlled/none/clean-1.0.safetensors"]


def test_a_mixture_without_images_is_shown_by_its_dataset_alone(tree):
    mixture = datasets.read(tree / "results/away/mixtures/controlled/best-alone/clean-0.2.safetensors")
    data = datasets.read(tree / DATA)
    shown = mixture.shown([data])
    np.testing.assert_array_equal(shown.images, data.images[np.isin(data.ids, mixture.ids)])
    assert len(mixture.ids) == 30 and shown.shown([data]) is shown
    with pytest.raises(ValueError, match="no image for sample"):
        mixture.shown([data.taken(np.arange(5))])
    with pytest.raises(ValueError, match="no images of its own, so that its latents are needed"):
        Points(mixture)


def test_latents_have_a_standard_deviation_of_a_half(tree):
    points = Points(datasets.read(tree / MIXTURE), [tree / LATENTS])
    x = points.visited(np.arange(150), slice(0, 150), 0, 0)
    # Measured on the clean images; most of the mixture's are blurred.
    np.testing.assert_allclose(x.std(dim=(0, 2, 3)), 0.5, atol=0.12)


def test_a_table_of_latents_passes_the_audit(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    assert audit(["results/away"]) == 0, capsys.readouterr().out


def test_samples_by_the_library_are_the_workflows(tree):
    trained = ambient.load_denoiser(tree / "results/away/runs/ambient-blur-0.6/seed-0/denoiser.safetensors")
    with pytest.raises(ValueError, match="works on latents: samples need the encoder"):
        ambient.sample(trained, 4)
    spec = Experiments(tree / "config", finished.SCALE).sampling("ambient-blur-0.6").sampler
    drawn = ambient.sample(trained, 32, 1, steps=spec.num_steps, sigma_min=spec.sigma_min,
                           sigma_max=spec.sigma_max, encoder=tree / ENCODER)
    samples = read_arrays(tree / "results/away/runs/ambient-blur-0.6/seed-0/samples.safetensors")["256"]
    apart = np.abs(drawn.astype(int) - samples[1, :32])  # the last batch of an image may be cut elsewhere
    assert apart.max() <= 1


def test_an_export_has_the_encoder_and_its_example_draws_images(tree, monkeypatch, tmp_path):
    monkeypatch.chdir(tree)
    assert export.main(["away", "--run", "ambient-blur-0.6", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/encoder.safetensors").read_bytes() == (tree / ENCODER).read_bytes()
    assert "encoder.safetensors" in json.loads((tmp_path / "out/provenance.json").read_text())["files"]
    monkeypatch.chdir(tmp_path / "out")
    drawn = {}
    exec(Path("example.py").read_text(), drawn)
    assert drawn["images"].shape == (16, 1, 16, 16)
    assert "of 1 x 16 x 16 images, in their latents of 2 x 8 x 8, trained" in Path("README.md").read_text()


def test_latents_of_other_images_break_the_table(tree, monkeypatch, capsys):
    monkeypatch.chdir(tree)
    path = manifest.path_for(tree / LATENTS)
    present = path.read_text()
    found = json.loads(present)
    found["inputs"]["data"][0]["path"] = found["inputs"]["data"][0]["path"].replace("blur-0.6", "none")
    path.write_text(json.dumps(found))
    try:
        assert audit(["results/away"]) != 0
    finally:
        path.write_text(present)
