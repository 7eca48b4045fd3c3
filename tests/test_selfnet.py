"""The detector that learns from images alone: what it is shown, how it learns, how it ranks images."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny import RECORD, kept

from ambient.data.corruptions import corrupt
from ambient.data.datasets import Dataset, read, to_float, to_uint8, write
from ambient.diffusion import randomness
from ambient.evaluation import features, small_nets
from ambient.evaluation.detectors import selfnet
from ambient.evaluation.frechet import frechet_distance, moments
from ambient.settings import Experiments
from ambient.specs import DetectorSpec
from ambient.stages import detector, prepare
from ambient.training.shares import Share

NET = DetectorSpec("selfnet", features=16, channels=8, nimg=6400, batch=64, lr=6e-3, members=2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """(file of 600 real digits without labels, 300 others)."""
    folder = tmp_path_factory.mktemp("digits")
    prepare.main(Experiments("config", "demo").dataset("digits"), RECORD, raw=None,
                 state=kept(folder / "state"), out=folder / "all")
    images = read(folder / "all").images[::5]
    write(folder / "d", Dataset(images[:600], np.full(600, -1), np.arange(600)))
    return folder / "d", images[600:900]


def test_views_change_place_and_grey_values():
    """On an even image the place shows nowhere: what is left is its grey."""
    found = selfnet.view(torch.full((400, 1, 16, 16), 0.5), torch.Generator().manual_seed(0)).numpy()[:, 0]
    greys = np.median(found, axis=(1, 2))
    near = abs(found - greys[:, None, None]) < 0.06  # but for what resampling does at a border
    assert near.mean() > 0.95
    assert 0.28 < greys.min() < 0.33 and 0.67 < greys.max() < 0.72
    stripes = torch.tensor([-0.5, 0.5]).repeat(8).expand(400, 1, 16, 16)
    views = selfnet.view(stripes, torch.Generator().manual_seed(1)).numpy()
    still = [one[0] for one in views if (one[0] == one[0, :1]).all()]  # neither turned nor stretched
    assert len({one.tobytes() for one in views}) == 400 and 5 < len(still) < 100
    contrasts = [np.ptp(one) for one in still]
    assert 0.6 - 1e-6 < min(contrasts) < 0.8 and 1.2 < max(contrasts) < 1.4 + 1e-6


@pytest.mark.parametrize(("side", "by"), [(16, 1), (32, 1), (37, 1), (48, 2), (63, 3), (64, 2), (256, 8)])
def test_large_images_are_folded_and_keep_every_pixel(side, by):
    assert selfnet.factor(side) == by
    images = np.random.default_rng(0).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    found = selfnet.fold(torch.from_numpy(images)).numpy()
    assert found.shape == (2, 3 * by**2, side // by, side // by) and found.dtype == np.uint8
    for channel in range(3):
        for row in range(by):
            for column in range(by):
                np.testing.assert_array_equal(found[:, (channel * by + row) * by + column],
                                              images[:, channel, row::by, column::by])


def test_the_loss_is_the_papers_written_out_on_standardised_numbers():
    views = np.random.default_rng(0).normal(size=(2, 6, 5))  # two members, three images
    expected = 0.0
    for member in views:
        member = (member - member.mean(axis=0)) / (member.std(axis=0) + 1e-4)
        unit = member / np.linalg.norm(member, axis=1, keepdims=True)
        for i in range(6):
            weights = [np.exp(unit[i] @ unit[j] / selfnet.TEMPERATURE) for j in range(6) if j != i]
            expected -= np.log(np.exp(unit[i] @ unit[(i + 3) % 6] / selfnet.TEMPERATURE) / sum(weights)) / 6
    assert float(selfnet.contrastive(torch.from_numpy(views))) == pytest.approx(expected, rel=1e-12)


def test_the_loss_is_a_function_of_the_images_seen_and_of_no_ranks(digits):
    """At networks that say nothing it is ln(2 B - 1) for each."""
    images = read(digits[0]).images
    network = small_nets.build(NET, 1, selfnet.PROJECTED)
    loss = selfnet.loss_of(NET, network, images)
    assert loss(640) == loss(640) != loss(704)
    assert loss(640, Share(1, 2)) == loss(640)
    for member in network.members:
        torch.nn.init.zeros_(member.head.weight)
    assert float(loss(640).detach()) == pytest.approx(NET.members * np.log(2 * NET.batch - 1), rel=1e-6)
    few = selfnet.loss_of(NET, network, images[:20])  # fewer than a batch
    assert float(few(0).detach()) == pytest.approx(NET.members * np.log(39), rel=1e-6)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    detector.main(NET, RECORD, data=digits[0], weights=None, state=kept(folder / "s"), out=folder / "net")
    return folder / "net", dict(RECORD.facts)


def test_it_matches_views_of_images_that_have_no_classes(trained):
    facts = trained[1]
    assert facts["checked_images"] == 60 and facts["chance"] == pytest.approx(1 / 119)
    assert facts["accuracy"] > 10 * facts["chance"]


def of_digits(trained, digits):
    """Distance of some images to the 600 digits."""
    def known(images):
        return moments(features.extract(NET, trained[0], images))
    target = known(read(digits[0]).images)
    return lambda images: frechet_distance(known(images), target)


@pytest.mark.parametrize(("op", "growing"), [
    ("gaussian_blur", [{"sigma_px": 0.7}, {"sigma_px": 1.0}, {"sigma_px": 1.5}]),
    ("random_mask", [{"prob": 0.15}, {"prob": 0.25}, {"prob": 0.4}]),
])
def test_corrupted_images_are_behind_good_ones_that_it_never_saw(op, growing, trained, digits):
    others = digits[1]
    distance = of_digits(trained, digits)
    values = [distance(others)]
    for params in growing:
        worse = [corrupt(image, randomness.numpy_generator("test", k), op, params)
                 for k, image in enumerate(to_float(others))]
        values.append(distance(to_uint8(np.stack(worse))))
    assert values == sorted(values) and values[-1] > 2 * values[0]  # masks show least: 2.9 times the floor


def test_few_images_again_and_again_are_behind_many(trained, digits):
    others = digits[1]
    distance = of_digits(trained, digits)
    values = [distance(np.tile(others[:300 // times], (times, 1, 1, 1))) for times in (1, 3, 10, 30)]
    assert values == sorted(values) and values[-1] > 3 * values[0]


def test_it_is_refused_without_a_length_of_training():
    with pytest.raises(ValueError, match="nimg: got 0, allowed: > 0 for kind selfnet"):
        dataclasses.replace(NET, nimg=0)


def test_too_few_images_to_compare_are_refused(digits, tmp_path):
    write(tmp_path / "d", Dataset(digits[1][:19], np.full(19, -1), np.arange(19)))
    with pytest.raises(ValueError, match="has 19 images, a detector of kind selfnet needs 20 or more"):
        detector.main(NET, RECORD, data=tmp_path / "d", weights=None, state=kept(tmp_path / "s"),
                      out=tmp_path / "net")
