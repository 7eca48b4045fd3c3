"""The prepared format: what a dataset may be, its file, pixels to numbers and back."""

import re

import numpy as np
import pytest

from ambient.data import preparing
from ambient.data.datasets import Dataset, read, to_float, to_uint8, write
from ambient.data.readers import Reading
from ambient.diffusion import randomness
from ambient.specs import DatasetSpec
from ambient.specs.strict import SpecError, plain
from ambient.stages import prepare
from ambient.storage.files import write_arrays
from tests.raw_images import PIXELS
from tests.tiny import kept


def test_round_trip(tmp_path):
    data = Dataset(PIXELS.transpose(0, 3, 1, 2), np.array([2, 0, 1, -1, 2, 2]), np.arange(3, 15, 2),
                   np.array([0, 1, 0, 0, 1, 1], np.uint8))
    write(tmp_path / "d.safetensors", data)
    back = read(tmp_path / "d.safetensors")
    for name, kind in (("images", np.uint8), ("labels", np.int64), ("ids", np.int64),
                       ("corrupted", np.uint8)):
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name))
        assert getattr(back, name).dtype == kind
    assert back.num_classes == 3
    assert Dataset(data.images, np.full(6, -1), data.ids).num_classes == 0


@pytest.mark.parametrize(("changes", "words"), [
    ({"images": np.zeros((2, 1, 4, 4), np.float32)}, "images are float32"),
    ({"images": np.zeros((2, 4, 4), np.uint8)}, "allowed: uint8 (N, 1 or 3, H, H)"),
    ({"images": np.zeros((2, 2, 4, 4), np.uint8)}, "(2, 2, 4, 4)"),
    ({"images": np.zeros((2, 1, 4, 5), np.uint8)}, "(2, 1, 4, 5)"),
    ({"images": np.zeros((0, 1, 4, 4), np.uint8)}, "no images"),
    ({"labels": np.zeros(3, int)}, "labels has the shape (3,) for 2 images"),
    ({"ids": np.array([4, 4])}, "ids are not rising"),
    ({"ids": np.array([4, 1])}, "ids are not rising"),
    ({"labels": np.zeros(2)}, "labels are float64, allowed: whole numbers"),
    ({"labels": np.array([0, -2])}, "a label is -2"),
    ({"corrupted": np.zeros((2, 1), np.uint8)}, "corrupted has the shape"),
    ({"corrupted": np.array([0, 2], np.uint8)}, "other than 0 and 1"),
])
def test_what_is_no_dataset(changes, words):
    good = {"images": np.zeros((2, 1, 4, 4), np.uint8), "labels": np.zeros(2, int),
            "ids": np.arange(2)}
    Dataset(**good)
    with pytest.raises(ValueError, match=re.escape(words)):
        Dataset(**good | changes)


def test_a_foreign_file_is_named(tmp_path):
    path = tmp_path / "x.safetensors"
    write_arrays(path, {"images": np.zeros((2, 1, 4, 4), np.uint8), "other": np.zeros(2)})
    with pytest.raises(ValueError, match="x.safetensors: not a prepared dataset"):
        read(path)
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="x.safetensors"):
        read(path)


def test_scaling():
    np.testing.assert_allclose(to_float(np.array([0, 51, 255], np.uint8)), [-1, -0.6, 1], atol=1e-7)
    np.testing.assert_array_equal(to_uint8(np.array([-1.5, -1, 0.2, 1, 7])), [0, 0, 153, 255, 255])


def test_parts_of_a_source_share_no_image_and_leave_none_out():
    labels, u = np.arange(500) % 7, randomness.uniform("part", 0, range(500))
    low, high = (preparing.subset(labels, None, None, part=part) for part in ((0.0, 0.3), (0.3, 1.0)))
    np.testing.assert_array_equal(low, np.flatnonzero(u < 0.3))
    np.testing.assert_array_equal(np.sort(np.concatenate([low, high])), np.arange(500))
    assert 100 < len(low) < 200
    fives = preparing.subset(labels, (5,), 4, np.arange(100, 500), (0.3, 1.0))
    assert len(fives) == 4 and set(fives) <= set(high[high >= 100]) and (labels[fives] == 5).all()


def test_a_part_is_told_what_it_leaves_out():
    spec = DatasetSpec("mnist", 16, 1, classes=(1, 2), part=(0.25, 1.0))
    reading = Reading(np.arange(40) % 4, {}, "the source", 16, 1, images=None)
    rows = preparing.subset(reading.labels, spec.classes, None, part=spec.part)
    inside = int((randomness.uniform("part", 0, range(40)) >= 0.25).sum())
    assert preparing.report(reading, rows, spec)["left_out"] == {
        "images of another part of the source": 40 - inside, "images of other classes": inside - len(rows)}


@pytest.mark.parametrize(("part", "words"), [
    ((0.5, 0.5), "part: got (0.5, 0.5), allowed: [from, to] with 0 <= from < to <= 1"), ((0.2,), "part"),
    ((-0.1, 0.5), "part"), ((0.0, 1.1), "part"), ((0.0, 0.5, 1.0), "part")])
def test_what_is_no_part(part, words):
    with pytest.raises(SpecError, match=re.escape(words)):
        DatasetSpec("mnist", 16, 1, part=part)


def test_a_drawn_source_has_no_parts_and_an_unused_part_is_not_recorded():
    with pytest.raises(SpecError, match="part: got .*, allowed: null for source procedural"):
        DatasetSpec("procedural", 16, 1, num_images=9, part=(0.0, 0.5))
    assert "part" not in plain(DatasetSpec("mnist", 16, 1))
    assert plain(DatasetSpec("mnist", 16, 1, part=(0, 0.5)))["part"] == [0, 0.5]


@pytest.mark.parametrize(("changes", "words"), [
    ({"part": (0.0, 1e-6)}, r"got part \[0.0, 1e-06\], which leave none of 5,000 images, allowed: a larger"),
    ({"classes": (7,), "part": (0.0, 1e-6)},
     r"got classes \[7\] and part .* none of 5,000 images, of the classes 0, 1, .* 9, allowed: some of")])
def test_what_leaves_no_image_is_named(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        prepare.main(DatasetSpec("mnist", 16, 1, **changes), None, raw=None,
                     state=kept(tmp_path / "state"), out=tmp_path / "out")
