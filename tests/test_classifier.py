"""The noise classifier, annotation with it, and which images each stage may read."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import CLASSIFIER, NOISE, RECORD, kept

from ambient import settings, specs
from ambient.annotation.batches import ClassifierBatches, held_out_offset, split
from ambient.annotation.classifier import Classifier
from ambient.annotation.trajectories import Dense, first_crossing
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, to_float, write
from ambient.specs import strict
from ambient.stages import annotate, classifier, corrupt, prepare
from ambient.training.points import Points

ROOT = Path(__file__).parents[1]
ALL = slice(0, 16)  # rows of a batch


def test_classifier_draws_are_balanced_and_never_held_out(mixture):
    data = read(mixture)
    made = ClassifierBatches(CLASSIFIER, data, Points(data), None, torch.device("cpu"))
    held = set(np.concatenate(made.split.held_out))
    assert [len(rows) for rows in made.split.held_out] == [5, 10]
    for nimg in range(0, 320, 16):
        rows, labels = made.draw(nimg, ALL)
        assert labels.sum() == 8 and not held & set(rows)
        np.testing.assert_array_equal(data.corrupted[rows], labels)
    unbalanced = ClassifierBatches(
        strict.build(specs.ClassifierSpec, strict.plain(CLASSIFIER) | {"sampling": "unbalanced"}, "t"),
        data, Points(data), None, torch.device("cpu"))
    share = np.mean([unbalanced.draw(nimg, ALL)[1].mean() for nimg in range(0, 16_000, 16)])
    assert share == pytest.approx(30 / 45, abs=0.02)


def test_nuisances_are_made_to_what_the_network_trains_on(mixture):
    """Brightness alone moves each image's mean; all else of the batch stays what it was."""
    seen = []

    def network(x, *_):
        seen.append(x)
        return x.mean(dim=(1, 2, 3))

    for names in ((), ("brightness",)):
        made = strict.plain(CLASSIFIER) | {"nuisances": list(names)}
        data = read(mixture)
        batches = ClassifierBatches(strict.build(specs.ClassifierSpec, made, "t"), data, Points(data),
                                    network, torch.device("cpu"))
        batches.loss(16)
    shift = seen[1] - seen[0]
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-5, rtol=1e-5)
    assert (shift[:, 0, 0, 0].abs() > 1e-3).all()


def test_too_few_clean_images_are_refused():
    images = np.zeros((10, 1, 8, 8), np.uint8)
    corrupted = np.array([0] * 2 + [1] * 8, np.uint8)
    data = Dataset(images, np.zeros(10, np.int64), np.arange(10), corrupted)
    with pytest.raises(ValueError, match="2 clean images"):
        split(data, 0.2, 0)


def test_classifier_and_annotation_end_to_end(mixture, tmp_path):
    files = {"out": tmp_path / "c.safetensors", "calibration": tmp_path / "c.json"}
    classifier.main(CLASSIFIER, RECORD, data=mixture, state=kept(tmp_path / "s"), **files)
    report = json.loads(files["calibration"].read_text())
    assert report["chosen_nimg"] == min(report["history"], key=lambda r: r["cross_entropy"])["nimg"]
    made = specs.AnnotationSpec("per_sample", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 2, 1,
                               "last", "float32", 0)
    out = tmp_path / "a.safetensors"

    def run(data):
        annotate.main(made, RECORD, data=data, classifier=files["out"], state=kept(tmp_path / "t"),
                      out=out, summary=tmp_path / "a.json")
        return Annotations.read(out)

    whole = run(mixture)
    assert (whole.sigma_min[:20] == 0).all()
    assert set(whole.sigma_min[20:]) <= set(np.geomspace(0.05, 20.0, 6))
    assert json.loads((tmp_path / "a.json").read_text())["sigma_min_lag"] == pytest.approx(0)  # span 1
    part = read(mixture)
    keep = np.r_[0:20, 40:60]
    write(tmp_path / "part.safetensors", Dataset(part.images[keep], part.labels[keep], part.ids[keep],
                                                part.corrupted[keep]))
    np.testing.assert_array_equal(run(tmp_path / "part.safetensors").sigma_min, whole.sigma_min[keep])


@pytest.mark.parametrize(("method", "asks"), [
    ("per_sample", True), ("population", True), ("crops", True), ("clean", False), ("fixed", False)])
def test_a_classifier_is_not_asked_about_no_image(method, asks, mixture, tmp_path):
    """A mixture of clean images only has the annotation that each is clean, by methods that ask none."""
    data = read(mixture)
    write(tmp_path / "m.safetensors", Dataset(data.images, data.labels, data.ids, np.zeros(60, np.uint8)))
    made = specs.AnnotationSpec(method, 0.5 if method == "fixed" else None, 0.05, 6, "geometric", NOISE, 0.05,
                                20.0, 2, 1, "last", "float32", 0)
    files = {"data": tmp_path / "m.safetensors", "classifier": None, "state": kept(tmp_path / "s"),
             "out": tmp_path / "a.safetensors", "summary": tmp_path / "a.json"}
    if asks:
        with pytest.raises(ValueError, match=f"m.safetensors: none of its 60 images is corrupted, and method "
                                             f"{method} asks a classifier .*: lower clean_fraction, or take"):
            annotate.main(made, RECORD, **files)
        return
    annotate.main(made, RECORD, **files)
    assert (Annotations.read(files["out"]).sigma_min == 0).all()
    assert json.loads(files["summary"].read_text()) == {"samples": 60, "corrupted": 0, "used": 0}


def test_recalibration_shifts_held_out_logits_to_balance():
    """Logits l and -l need no shift; shifted by b, they need -b; at any optimum the mean P is 1/2."""
    values = torch.linspace(-3, 2, 50, dtype=torch.float64)
    assert held_out_offset(values, -values) == pytest.approx(0, abs=1e-9)
    assert held_out_offset(values + 0.7, -values + 0.7) == pytest.approx(-0.7, abs=1e-9)
    clean, corrupted = values - 1, values[10:] + 0.5
    offset = held_out_offset(clean, corrupted)

    def entropy(shift):
        losses = [torch.nn.functional.binary_cross_entropy_with_logits(v + shift, torch.full_like(v, kind))
                  for kind, v in enumerate((clean, corrupted))]
        return float(sum(losses) / 2)

    assert entropy(offset) < min(entropy(offset - 0.01), entropy(offset + 0.01))


def test_recalibrated_classifier_is_used_in_annotation(mixture, tmp_path):
    made = strict.build(specs.ClassifierSpec, strict.plain(CLASSIFIER) | {"recalibrate": "bias"}, "t")
    files = {"out": tmp_path / "c.safetensors", "calibration": tmp_path / "c.json"}
    classifier.main(made, RECORD, data=mixture, state=kept(tmp_path / "s"), **files)
    for level in json.loads(files["calibration"].read_text())["levels"]:
        both = level["p_clean_of_clean"] + level["p_clean_of_corrupted"]
        assert both / 2 == pytest.approx(0.5, abs=1e-5)
    grid = specs.AnnotationSpec("per_sample", None, 0.05, 6, "geometric", NOISE, 0.05, 20.0, 1, 1,
                               "last", "float32", 0)
    shifted, plain = (Dense(grid, Classifier(files["out"], torch.device("cpu")), torch.device("cpu"))
                      for _ in range(2))
    plain.classifier.shifts = np.zeros_like(plain.classifier.shifts)
    offsets = shifted.classifier.offset(shifted.sigmas)
    assert np.abs(offsets).max() > 1e-4
    data = read(mixture)
    p, q = (found.of(data.images[:3], data.ids[:3]).astype(np.float64) for found in (shifted, plain))
    np.testing.assert_allclose(np.log(p / (1 - p)) - np.log(q / (1 - q)),
                               np.broadcast_to(offsets, p.shape), atol=1e-4)
    plain.classifier.shifts[:] = np.nan  # no number is above a threshold: such an image would never cross
    with pytest.raises(FloatingPointError, match=r"c\.safetensors: its logits at sigma 0\.05 are not finite"):
        plain.of(data.images[:3], data.ids[:3])


def test_annotation_is_monotone_in_corruption_strength(tmp_path):
    """A well-trained classifier on a closed-form problem: constant images of two brightnesses.

    P(corrupted | x, sigma) for grey levels 0 (clean) and d (corrupted) of 64 pixels is the logistic of
    (64 / sigma^2)(d mean(x) - d^2 / 2); its expected crossing grows in proportion to d.
    """
    sigmas = np.geomspace(0.05, 50, 800)
    random = np.random.default_rng(0)
    crossings = []
    for d in (0.1, 0.2, 0.4):
        mean = d + sigmas / 8 * random.standard_normal((400, 1))
        p = 1 / (1 + np.exp(-(64 / sigmas**2) * (d * mean - d**2 / 2)))
        crossings.append(first_crossing(sigmas, p.mean(0, keepdims=True), 0.05, "last")[0])
    assert crossings[0] < crossings[1] < crossings[2]
    assert crossings[2] / crossings[0] == pytest.approx(4, rel=0.1)


# --- which images each stage may read -----------------------------------------------------------------


def test_no_stage_after_corrupt_can_see_a_clean_version(tmp_path):
    """The strict protocol: what classifier, annotation and training read holds no hidden original."""
    dataset = specs.DatasetSpec("mnist", 16, 1, padding=2, max_images=200)
    prepare.main(dataset, RECORD, raw=None, state=kept(tmp_path / "state"), out=tmp_path / "d.safetensors")
    original = read(tmp_path / "d.safetensors")
    made = specs.MixtureSpec(0.1, 0, "gaussian_blur", {"sigma_px": 0.8})
    corrupt.main(made, RECORD, data=tmp_path / "d.safetensors", state=kept(tmp_path / "mixed"),
                 out=tmp_path / "m.safetensors")
    mixed = read(tmp_path / "m.safetensors")
    hidden = {image.tobytes() for image in original.images[mixed.corrupted == 1]}
    assert not hidden & {image.tobytes() for image in mixed.images}
    clean = mixed.images[mixed.corrupted == 0]
    np.testing.assert_array_equal(clean, original.images[mixed.corrupted == 0])


def test_strict_classifier_reads_the_runs_own_mixture_and_leaky_another():
    found = settings.Experiments(ROOT / "config", "paper")
    own = found.fraction("controlled")
    assert found.fraction("controlled", "balanced") == found.fraction("controlled", "unbalanced") == own
    assert found.fraction("controlled", "leaky") == 0.5 != own
    assert to_float(np.array([[[[0]]]], np.uint8)).item() == -1


def test_classifier_says_where_it_failed():
    def level(accuracy, sigma):
        return {"accuracy": accuracy, "sigma": sigma}

    good = classifier.verdict({"nimg": 6400, "levels": [level(0.97, 0.1), level(0.5, 10.0)]})
    assert "6,400" in good and "0.97 at sigma 0.1" in good and "WARNING" not in good
    weak = classifier.verdict({"nimg": 6400, "levels": [level(0.67, 0.1), level(0.69, 0.2)]})
    assert "0.69 at sigma 0.2" in weak and "WARNING" in weak and "clean_fraction" in weak


def drawn(count):
    """Images of noise, of which the first half is clean."""
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), np.uint8)
    return Dataset(images, np.zeros(count, int), np.arange(count),
                   (np.arange(count) >= count // 2).astype(np.uint8))


def test_a_held_out_report_by_hand():
    """Weights of levels are a normal density's; the accuracy is the mean of both kinds'."""
    data, logits = drawn(40), (torch.tensor([-1.0, 2.0, -3.0, -1.0]), torch.tensor([0.5, -1.0]))
    network = torch.nn.Linear(1, 1)
    made = ClassifierBatches(CLASSIFIER, data, Points(data), network, torch.device("cpu"))
    made.held_out_logits = lambda kind, sigma: logits[kind]
    report = made.calibration(network.state_dict())
    z = np.linspace(-2.5, 2.5, CLASSIFIER.LEVELS)
    np.testing.assert_allclose([one["weight"] for one in report], np.exp(-z**2 / 2) / np.exp(-z**2 / 2).sum())
    np.testing.assert_allclose([one["sigma"] for one in report],
                               np.exp(CLASSIFIER.noise.P_mean + CLASSIFIER.noise.P_std * z))
    for one in report:
        assert one["accuracy"] == (3 / 4 + 1 / 2) / 2 and one["offset"] == 0
        expected = (1 / (1 + np.exp(logits[0].numpy()))).mean()
        assert one["p_clean_of_clean"] == pytest.approx(expected, rel=1e-6)


def test_offsets_lie_between_levels_in_the_logarithm():
    known = SimpleNamespace(levels=np.array([0.1, 10.0]), shifts=np.array([0.0, 2.0]))
    assert Classifier.offset(known, 1.0) == pytest.approx(1.0) and Classifier.offset(known, 99.0) == 2.0


def test_held_out_images_follow_the_seed():
    assert set(split(drawn(100), 0.25, 0).held_out[0]) != set(split(drawn(100), 0.25, 1).held_out[0])


def test_the_held_out_images_that_are_asked_are_of_all_classes(monkeypatch):
    """Ids follow the folders that images lie in: the lowest would be of the first classes alone."""
    labels, corrupted = np.arange(40_000) // 400, (np.arange(40_000) % 10 > 0).astype(np.uint8)
    data = Dataset(np.zeros((40_000, 1, 1, 1), np.uint8), labels, np.arange(40_000), corrupted)
    asked = []
    points = SimpleNamespace(shape=(1, 1, 1), fixed=lambda rows, seed: asked.append(rows) or torch.zeros(
        len(rows), 1, 1, 1))
    spec = strict.build(specs.ClassifierSpec, strict.plain(CLASSIFIER) | {"holdout": 0.1}, "t")
    made = ClassifierBatches(spec, data, points, lambda x, *_: x[:, 0, 0, 0], torch.device("cpu"))
    for kind in (0, 1):
        made.held_out_logits(kind, 1.0)
    (clean, corrupt), held_out = asked, made.split.held_out
    assert len(corrupt) == CLASSIFIER.DRAWS < len(held_out[1]) and set(corrupt) < set(held_out[1])
    assert set(clean) == set(held_out[0])  # few are asked all
    assert len(set(labels[corrupt])) > 95 and abs(labels[corrupt].mean() - labels.mean()) < 5


def test_a_report_counts_the_images_that_were_asked(mixture, tmp_path, monkeypatch):
    monkeypatch.setattr(specs.ClassifierSpec, "DRAWS", 4)
    classifier.main(CLASSIFIER, RECORD, data=mixture, state=kept(tmp_path / "state"), out=tmp_path / "c",
                    calibration=tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["held_out"] == {"clean": 4, "corrupted": 4}


def test_half_of_a_balanced_batch_is_clean():
    def built(batch, sampling):
        values = strict.plain(CLASSIFIER) | {"sampling": sampling}
        values["optimiser"]["batch"] = batch
        return strict.build(specs.ClassifierSpec, values, "t")

    assert built(5, "unbalanced").optimiser.batch == 5 and built(10, "balanced").optimiser.batch == 10
    with pytest.raises(strict.SpecError, match="optimiser.batch: got 5, allowed: an even number"):
        built(5, "balanced")
