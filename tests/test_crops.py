"""Section 3.2: crops, sigma_max, locality, mixtures of datasets, procedural images."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import NETWORK, RECORD, kept

from ambient.annotation import classifier as trained
from ambient.annotation import crop_likeness
from ambient.annotation import patch_maps as of_patches
from ambient.annotation.batches import ClassifierBatches
from ambient.annotation.classifier import NoiseClassifier
from ambient.annotation.statistics import statistics
from ambient.data import preparing, procedural
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, to_float, write
from ambient.data.mixtures import is_clean
from ambient.data.operations import add
from ambient.data.patch_maps import PatchMaps
from ambient.diffusion import crops
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.specs import (
    AugmentSpec,
    ClassifierSpec,
    LocalitySpec,
    MixtureSpec,
    NetworkSpec,
    NoiseSpec,
    OptimiserSpec,
    PatchMapsSpec,
)
from ambient.specs.strict import plain
from ambient.stages import combine, corrupt, locality
from ambient.training.build import build_network
from ambient.training.points import Points


def images(count, first_id=0, seed=0, corrupted=None, side=16):
    random = np.random.default_rng(seed)
    return Dataset(random.integers(0, 256, (count, 1, side, side), np.uint8), np.zeros(count, np.int64),
                   np.arange(first_id, first_id + count), corrupted)


# --- crops and the maps -----------------------------------------------------------------------------


def test_squares_have_a_position_for_each_image():
    masks = crops.random_squares(2000, 16, 5, torch.Generator().manual_seed(0))
    assert masks.shape == (2000, 1, 16, 16)
    assert (masks.sum((1, 2, 3)) == 25).all()
    corners = {tuple(m[0].nonzero()[0].tolist()) for m in masks}
    assert len(corners) == 12 * 12  # every place, and none that would be cut off
    with pytest.raises(ValueError, match="crop: got 17 pixels, allowed: 1 to 16"):
        crops.random_squares(1, 16, 17, torch.Generator())


@pytest.mark.parametrize(("side", "crop", "count"), [(16, 4, 16), (64, 8, 64), (64, 24, 9)])
def test_patches_tile_the_image(side, crop, count):
    masks = crops.patches(side, crop)
    assert len(masks) == count
    assert (masks.sum(0) == 1).all()  # the last row and column of 24 in 64 are cut to 16


def test_sigma_max_is_of_the_largest_size_that_passes():
    p = {4: np.array([0.3, 0.3, 0.1, 0.1]), 8: np.array([0.3, 0.1, 0.3, 0.1])}
    found = crops.sigma_max(p, 0.25, crops.RELEASED)
    np.testing.assert_array_equal(found, [0.15, 0.05, 0.15, 0.01])


def test_measured_map_is_the_last_level_before_more_context_is_needed():
    found = crops.measured_map([0.1, 0.2, 0.4, 0.8], [4, 4, 8, 4], [1, 4, 8])
    assert found == {1: 0.0, 4: 0.2, 8: 0.8}


def spec(crop):
    return ClassifierSpec(
        network=NetworkSpec(8, (1, 2), 1, (), 0.0), augment=AugmentSpec(0.0, ()),
        optimiser=OptimiserSpec(256, 64, 1e-3, 0, "constant", 1.0, 1000, 0.1, "float32"),
        noise=NoiseSpec(-1.2, 1.2), protocol="strict", clean_fraction=None, sampling="balanced",
        holdout=0.2, evaluations=1, select="last", recalibrate="none", seed=0, crop=crop)


def test_the_mask_reaches_the_classifier():
    """What it sees outside of each image's own square is zero, of image and noise; inside it is not."""
    data = images(40, corrupted=np.repeat([0, 1], 20).astype(np.uint8))
    network = NoiseClassifier(build_network(spec(4).network, 16, 1, 0, False, torch.Generator(),
                                         encoder_only=True), torch.Generator())
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batches = ClassifierBatches(spec(4), data, Points(data), network, torch.device("cpu"))
    batches.loss(0)
    batches.held_out_logits(1, 0.5)
    for x in seen:
        assert (x[:, 0] != 0).sum((1, 2)).eq(16).all()
        rows = [tuple(image[0].nonzero()[0].tolist()) for image in x]
        assert len(set(rows)) > 8  # not one position a batch
    ClassifierBatches(spec(None), data, Points(data), network, torch.device("cpu")).loss(0)
    assert (seen[-1] != 0).all()


class Brightness:
    """A classifier of crops whose logit of P(other) is the sum of all that it sees."""

    def __init__(self, path, device):
        self.spec = SimpleNamespace(crop=int(path.stem))

    def logits(self, x, sigma):
        assert sigma == 0.01
        return x.sum(dim=(1, 2, 3)) / 10


def test_patch_maps_give_each_pixel_the_probability_of_its_patch(monkeypatch, tmp_path):
    monkeypatch.setattr(trained, "Classifier", Brightness)
    data, rows = images(9), np.array([4, 1])
    made = of_patches.patch_maps(PatchMapsSpec("other", 2, 0.01, 0), data, rows, [Path("8"), Path("4")])
    made.write(tmp_path / "p.safetensors")
    found = PatchMaps.read(tmp_path / "p.safetensors")
    assert list(found.p_target) == [4, 8] and found.ids.tolist() == [4, 1]
    assert np.array_equal(found.images, data.images[rows])
    for size, maps in found.p_target.items():
        blocks = to_float(data.images[rows])[:, 0].reshape(2, 16 // size, size, 16 // size, size)
        expected = 1 / (1 + np.exp(blocks.sum((2, 4)) / 10))
        np.testing.assert_allclose(maps, np.kron(expected, np.ones((size, size))), rtol=1e-5)
    with pytest.raises(ValueError, match="4: is a second classifier of 4-pixel crops"):
        of_patches.patch_maps(PatchMapsSpec("other", 2, 0.01, 0), data, rows, [Path("4"), Path("a/4")])
    with pytest.raises(ValueError, match=r"maps of 4-pixel crops have the shape \(1, 8, 8\), allowed: \(2"):
        PatchMaps(data.images[:2], rows, {4: np.zeros((1, 8, 8), np.float32)})


def test_patch_maps_are_of_the_other_dataset_or_of_images_that_no_classifier_saw():
    mixture = images(10, corrupted=(np.arange(10) >= 6).astype(np.uint8))
    other, target = PatchMapsSpec("other", 3, 0.01, 0), PatchMapsSpec("target", 3, 0.01, 0)
    rows = of_patches.chosen(other, mixture, None)
    assert len(set(rows)) == 3 and rows.min() >= 6
    rows = of_patches.chosen(target, images(12), mixture)
    assert sorted(rows) == [10, 11]  # there are no more
    with pytest.raises(ValueError, match="shown: got target, which needs --seen"):
        of_patches.chosen(target, images(12), None)
    with pytest.raises(ValueError, match="shown: got target, and the data hold no such image"):
        of_patches.chosen(target, images(8), mixture)


def test_balanced_batches_have_as_many_of_each_class():
    data = images(100, corrupted=(np.arange(100) >= 10).astype(np.uint8))
    batches = ClassifierBatches(spec(4), data, Points(data), None, torch.device("cpu"))
    rows, labels = batches.draw(0, slice(0, 64))
    assert labels.sum() == 32 and (data.corrupted[rows] == labels).all()


# --- locality ---------------------------------------------------------------------------------------


def test_needed_context_is_the_least_from_which_on_the_loss_stays_near():
    sizes = [4, 8, 12, 16]
    assert locality.needed(np.array([1.0, 0.5002, 0.5004, 0.5]), sizes, 1e-3) == 8
    assert locality.needed(np.array([0.5, 0.6, 0.5, 0.5]), sizes, 1e-3) == 12
    assert locality.needed(np.array([0.9, 0.8, 0.7, 0.5]), sizes, 1e-3) == 16


def test_a_relative_tolerance_decides_where_the_whole_loss_is_small():
    """At low noise the whole loss, 5e-4, is below the absolute tolerance: any context would do."""
    sizes, losses = [4, 8, 12, 16], np.array([7.5e-4, 5.2e-4, 5.1e-4, 5e-4])
    assert locality.needed(losses, sizes, 1e-3) == 4
    assert locality.needed(losses, sizes, 1e-3, 0.05) == 8
    assert locality.needed(losses, sizes, 1e-3, 0.03) == 12
    assert locality.needed(1000 * losses, sizes, 1e-3, 0.05) == 16  # the absolute one is the smaller here


def test_context_of_a_denoiser_with_a_known_reach():
    """A box mean of 5 x 5 pixels as denoiser: a 2 x 2 patch needs 6 pixels of context, no more."""
    def denoiser(x, sigma):
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
        return torch.nn.functional.avg_pool2d(padded, 5, stride=1)

    x0 = torch.randn(50, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(50, 1, 16, 16)
    x = x0 + 0.3 * torch.randn(50, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    losses = [locality.errors(denoiser, x, x0, 0.3, size, 2).mean() for size in (2, 4, 6, 8, 16)]
    assert losses[2] == losses[3] == losses[4]
    assert locality.needed(np.array(losses), [2, 4, 6, 8, 16], 1e-9) == 6


def test_locality_measures_no_level_twice(tmp_path, monkeypatch):
    """A table that is interrupted after two levels of three ends with the bytes of one that is not."""
    write(tmp_path / "data", images(12))
    spec = LocalitySpec(None, (4, 8), 2, 1e-3, 0.1, 1.0, 3, 6, 0)
    about = {"spec": {"network": plain(NETWORK)}}
    monkeypatch.setattr(locality, "load_denoiser", lambda *_: (lambda x, sigma: x / 2, about))
    monkeypatch.setattr(locality, "require_network", lambda *_: None)
    levels, errors = [], locality.errors

    def counted(denoiser, x, x0, sigma, context, patch):
        levels.append(sigma)
        if len(set(levels)) > counted.most:
            raise KeyboardInterrupt
        return errors(denoiser, x, x0, sigma, context, patch)

    def run(name, most):
        counted.most = most
        levels.clear()
        folder = tmp_path / name
        locality.main(spec, RECORD, data=tmp_path / "data", denoiser=tmp_path, state=kept(folder / "state"),
                      out=folder / "out.csv", map_out=folder / "map.json")
        return [(folder / one).read_bytes() for one in ("out.csv", "map.json")]

    monkeypatch.setattr(locality, "errors", counted)
    whole = run("whole", 3)
    with pytest.raises(KeyboardInterrupt):
        run("cut", 2)
    assert run("cut", 3) == whole and set(levels) == {1.0}
    table = pd.read_csv(tmp_path / "whole/out.csv")  # such a denoiser needs no context
    assert table["context_px"].tolist() == [4, 8, 16] * 3 and set(table["crop_px"]) == {4}
    assert (table.groupby("sigma")["loss"].nunique() == 1).all() and table["loss"].nunique() == 3


def test_an_error_that_is_no_number_does_not_count_as_none():
    x = torch.zeros(3, 1, 8, 8)
    with pytest.raises(FloatingPointError, match="error at sigma 0.3 is not finite"):
        locality.errors(lambda x, sigma: x * float("nan"), x, x, 0.3, 4, 2)


def test_contexts_that_the_network_cannot_take_are_named():
    locality.check([4, 8, 16], 16, 2, 4)
    with pytest.raises(ValueError, match="contexts: got 6 pixels, allowed: multiples of 4"):
        locality.check([6], 16, 2, 4)


# --- mixtures of datasets ---------------------------------------------------------------------------


def test_added_images_take_the_corrupted_ones_place():
    dogs, cats = images(100), images(30, seed=1)
    cats_spec = MixtureSpec(0.3, 0, "add", {"dataset": "cats"})
    mixed = corrupt.mix(cats_spec, dogs, cats)
    clean = is_clean(cats_spec, dogs.ids)
    np.testing.assert_array_equal(mixed.ids[mixed.corrupted == 0], dogs.ids[clean])
    np.testing.assert_array_equal(mixed.images[mixed.corrupted == 1], cats.images)
    assert (mixed.labels[mixed.corrupted == 1] == -1).all() and len(set(mixed.ids)) == len(mixed.ids)
    assert add.first_id("cats") != add.first_id("procedural")
    with pytest.raises(ValueError, match=r"the added images are \(1, 8, 8\)"):
        corrupt.mix(cats_spec, dogs, images(5, side=8))
    with pytest.raises(ValueError, match="--added"):
        corrupt.mix(cats_spec, dogs)


def parts():
    dogs, cats = images(100), images(30, seed=1)
    blurred = corrupt.mix(MixtureSpec(0.3, 0, "gaussian_blur", {"sigma_px": 0.6}), dogs)
    plus = corrupt.mix(MixtureSpec(0.3, 0, "add", {"dataset": "cats"}), dogs, cats)
    low = Annotations(blurred.ids, np.where(blurred.corrupted == 1, 1.5, 0.0), np.zeros(100))
    high = Annotations(plus.ids, np.where(plus.corrupted == 1, np.inf, 0.0), 0.1 * (plus.corrupted == 1))
    return (blurred, low), (plus, high)


def test_combined_parts_keep_their_own_annotations_and_the_clean_images_once():
    (blurred, low), (plus, high) = parts()
    data, table = combine.combine([(blurred, low), (plus, high)])
    assert len(data.ids) == 130 and (np.diff(data.ids) > 0).all()
    clean = data.corrupted == 0
    assert clean.sum() == (blurred.corrupted == 0).sum()
    np.testing.assert_array_equal(table.sigma_min[clean], 0)
    cats = data.ids >= 1 << 32
    assert np.isinf(table.sigma_min[cats]).all() and (table.sigma_max[cats] == 0.1).all()
    assert (table.sigma_min[~clean & ~cats] == 1.5).all() and (table.sigma_max[~cats] == 0).all()
    found = statistics(table.sigma_min, data.corrupted == 1, table.sigma_max)
    assert found["used"] == found["corrupted"] == 130 - clean.sum()


def test_a_sample_of_two_parts_becomes_a_donut():
    (blurred, low), _ = parts()
    below = Annotations(blurred.ids, np.where(blurred.corrupted == 1, np.inf, 0.0),
                        np.where(blurred.corrupted == 1, 0.2, 0.0))
    _, table = combine.combine([(blurred, low), (blurred, below)])
    assert set(zip(table.sigma_min, table.sigma_max, strict=True)) == {(0.0, 0.0), (1.5, 0.2)}
    sampler = EligibleSampler(table.sigma_min, table.sigma_max, Admission())
    clean = int((blurred.corrupted == 0).sum())
    usable = sum(sampler.count(np.array([0.1, 0.19, 0.5, 1.4, 1.6])))
    np.testing.assert_array_equal(usable, [100, 100, clean, clean, 100])


def test_parts_that_contradict_each_other_are_refused():
    (blurred, low), _ = parts()
    stronger = corrupt.mix(MixtureSpec(0.3, 0, "gaussian_blur", {"sigma_px": 1.0}), images(100))
    with pytest.raises(ValueError, match=r"sample \d+ has other images in another part"):
        combine.combine([(blurred, low), (stronger, low)])


def test_a_dataset_of_some_classes_keeps_those_and_their_ids():
    labels = np.array([3, 8, 3, 8, 8, 3, 5, 8])
    np.testing.assert_array_equal(preparing.subset(labels, (8,), None), [1, 3, 4, 7])
    some = preparing.subset(labels, (8, 5), 3)
    assert len(some) == 3 and set(labels[some]) <= {5, 8} and (np.diff(some) > 0).all()
    assert set(preparing.subset(labels, (8, 5), 2)) <= set(some)  # nested
    assert len(preparing.subset(labels, None, 4)) == 4


# --- procedural images ------------------------------------------------------------------------------


def test_procedural_images_are_a_function_of_seed_and_id():
    many = procedural.make(np.arange(20), 32, 3, 0)
    assert many.shape == (20, 3, 32, 32) and many.dtype == np.uint8
    np.testing.assert_array_equal(procedural.make(np.array([7, 3]), 32, 3, 0), many[[7, 3]])
    assert (procedural.make(np.arange(20), 32, 3, 1) != many).any(axis=(1, 2, 3)).all()
    assert procedural.make(np.arange(2), 16, 1, 0).shape == (2, 1, 16, 16)
    contrast = many.std(axis=(1, 2, 3))
    assert (contrast > 2).mean() > 0.9 and len({image.tobytes() for image in many}) == 20


@pytest.mark.parametrize("slope", [2.0, 4.0])
def test_noise_has_its_spectrum(slope):
    white = np.random.default_rng(0).standard_normal((64, 1, 64, 64))
    layers = procedural.spectral_noise(white, np.full((64, 1), slope))
    power = (np.abs(np.fft.fft2(layers)) ** 2).mean(axis=(0, 1))
    found = math.log(power[0, 2:5].mean() / power[0, 16:19].mean()) / math.log(17 / 3)
    assert found == pytest.approx(slope, rel=0.15)


class Tenth:
    """A classifier whose logit of P(corrupted) is a tenth of the sum of what it sees."""

    spec = SimpleNamespace(crop=4)

    def logits(self, x, sigma):
        return x.sum(dim=(1, 2, 3)) / 10


def test_the_likeness_of_an_image_is_the_mean_of_its_patches(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), np.uint8)
    data = Dataset(images, np.zeros(6, int), np.arange(6), (np.arange(6) >= 3).astype(np.uint8))
    spec = SimpleNamespace(precision="float32", crop_sigma=0.01, seed=0)
    blocks = to_float(images[3:])[:, 0].reshape(3, 2, 4, 2, 4).sum((2, 4)).reshape(3, 4)
    found = crop_likeness.classify_crops(spec, data, Points(data), Tenth(), kept(tmp_path))
    np.testing.assert_allclose(found, (1 / (1 + np.exp(blocks / 10))).mean(1), rtol=1e-5)
