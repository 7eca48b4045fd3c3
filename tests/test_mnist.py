"""The embedded digits: averaged over areas, nested subsets, pinned values, damaged files."""

import gzip

import numpy as np
import pytest

from ambient.data.sources import mnist
from ambient.specs import DatasetSpec
from ambient.storage.files import sha256
from tests.raw_images import outside, prepared, refused


def test_mnist_has_500_of_each_digit_averaged_over_areas(tmp_path):
    raw = mnist.locate(DatasetSpec("mnist", 28, 1))
    spec = DatasetSpec("mnist", 16, 1, padding=2, num_images=5000, sha256=sha256(raw))
    data, record = prepared(spec, None, tmp_path)
    assert data.images.shape == (5000, 1, 16, 16) and data.num_classes == 10
    np.testing.assert_array_equal(np.bincount(data.labels), [500] * 10)
    np.testing.assert_array_equal(data.ids, np.arange(5000))
    original, labels = mnist.arrays(raw)
    assert original.shape == (5000, 1, 28, 28)
    padded = np.pad(original, ((0, 0), (0, 0), (2, 2), (2, 2))).astype(float)
    means = padded.reshape(5000, 1, 16, 2, 16, 2).mean(axis=(3, 5))
    # Pillow's box filter rounds after each axis: up to 0.5 twice
    assert np.abs(data.images - means).max() <= 1
    np.testing.assert_array_equal(data.labels, labels)
    assert outside(record) == ("raw", raw.name, "mnist", sha256(raw))
    assert record.facts["raw_checksum_verified"]
    assert (record.facts["images"], record.facts["classes"]) == (5000, 10)


def test_max_images_keeps_nested_subsets_of_all_classes(tmp_path):
    """The source is sorted by class: its first rows would be of one class."""
    every, _ = mnist.arrays(mnist.locate(DatasetSpec("mnist", 28, 1)))
    few, more = (prepared(DatasetSpec("mnist", 28, 1, max_images=n, num_images=5000), None, tmp_path)[0]
                 for n in (100, 200))
    assert len(few.ids) == 100 and set(few.ids) < set(more.ids) and len(set(few.labels)) == 10
    np.testing.assert_array_equal(few.images, every[few.ids])


@pytest.mark.parametrize(("changes", "words"), [
    ({"sha256": "0" * 64}, "the configuration's sha256 is 000"),
    ({"num_images": 60000}, "5000 images, the configuration's num_images is 60000"),
    ({"channels": 3}, "1 channels, the configuration's channels is 3"),
])
def test_pinned_values_that_do_not_hold(changes, words, tmp_path):
    spec = DatasetSpec(**{"source": "mnist", "resolution": 28, "channels": 1} | changes)
    refused(spec, None, tmp_path, "mnist_5k.csv.gz", words)


def test_mnist_with_other_columns(tmp_path):
    (tmp_path / "m.csv.gz").write_bytes(gzip.compress(b"1,2,3\n4,5,6\n", mtime=0))
    refused(DatasetSpec("mnist", 28, 1), tmp_path / "m.csv.gz", tmp_path, "m.csv.gz", "3 columns")


@pytest.mark.parametrize("content", [
    gzip.compress(b"1,2\n" * 999, mtime=0)[:-20],
    gzip.compress(",".join(["300"] * 784 + ["5\n"]).encode() * 2, mtime=0),
    gzip.compress(b"a,b\n", mtime=0), b"text"])
def test_a_damaged_mnist_file_is_named(content, tmp_path):
    (tmp_path / "m.csv.gz").write_bytes(content)
    refused(DatasetSpec("mnist", 28, 1), tmp_path / "m.csv.gz", tmp_path, "m.csv.gz")
