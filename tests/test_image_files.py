"""Zips and folders of images: layout, labels, resizing, pins, and what is refused by name."""

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ambient.specs import DatasetSpec
from ambient.storage.files import sha256_of_raw
from tests.raw_images import (
    IMAGES,
    PIXELS,
    encoded,
    files_of,
    listed,
    make_folder,
    make_zip,
    outside,
    prepared,
    refused,
)

SHARED = Path(os.environ.get("AMBIENT_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.mark.parametrize("make", [make_zip, make_folder])
@pytest.mark.parametrize("as_map", [False, True])
def test_edm_layout_keeps_pixels_and_the_order_of_names(make, as_map, tmp_path):
    files, labels = files_of(), [3, 1, 4, 1, 5, 9]
    pairs = [[name, label] for name, label in zip(files, labels, strict=True)][::-1]
    raw = make(tmp_path / "raw.zip", dict(reversed(files.items())) | listed(
        dict(pairs) if as_map else pairs))
    data, record = prepared(IMAGES, raw, tmp_path)
    np.testing.assert_array_equal(data.images, PIXELS.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data.labels, labels)
    np.testing.assert_array_equal(data.ids, np.arange(6))
    assert record.facts["pillow"] == Image.__version__ and "libjpeg" in record.facts["codec"]
    assert outside(record) == ("raw", raw.name, "images", sha256_of_raw(raw)[0])


def test_a_folder_has_a_digest_of_names_and_contents_and_can_be_pinned(tmp_path):
    files = {"a/0.png": encoded(PIXELS[0]), "b/1.png": encoded(PIXELS[1])}
    raw = make_folder(tmp_path / "raw", files)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    text = json.dumps(sums, sort_keys=True, separators=(",", ":")).encode()
    found = hashlib.sha256(text).hexdigest()
    assert sha256_of_raw(raw) == (found, sum(map(len, files.values())))
    (raw / ".DS_Store").write_bytes(b"x")
    os.utime(raw / "a/0.png", (1, 1))
    assert sha256_of_raw(raw)[0] == found
    pinned = dataclasses.replace(IMAGES, sha256=found)
    assert prepared(pinned, raw, tmp_path)[1].facts["raw_checksum_verified"]
    (tmp_path / "out.safetensors").unlink()
    (raw / "a/0.png").rename(raw / "a/2.png")
    refused(pinned, raw, tmp_path, str(raw), "sha256 is", found)


def test_labels_may_be_null_or_come_from_folders(tmp_path):
    raw = make_zip(tmp_path / "null.zip", files_of() | listed(None))
    assert (prepared(IMAGES, raw, tmp_path)[0].labels == -1).all()
    flat = make_folder(tmp_path / "flat", {f"{i}.png": encoded(PIXELS[i]) for i in range(3)})
    assert (prepared(IMAGES, flat, tmp_path)[0].labels == -1).all()
    names = ("dog/a.png", "cat/b.png", "dog/0.png", "bird/c.PNG")
    tree = make_folder(tmp_path / "tree", {n: encoded(PIXELS[i]) for i, n in enumerate(names)})
    data, _ = prepared(IMAGES, tree, tmp_path)
    np.testing.assert_array_equal(data.labels, [0, 1, 2, 2])  # bird, cat, dog
    np.testing.assert_array_equal(data.images[2], PIXELS[2].transpose(2, 0, 1))  # dog/0


def test_hidden_files_are_passed_over(tmp_path):
    junk = {".DS_Store": b"x", "__MACOSX/00000/._img.png": b"x", "00000/.thumb.png": b"x"}
    raw = make_zip(tmp_path / "j.zip", files_of() | junk)
    assert len(prepared(IMAGES, raw, tmp_path)[0].ids) == 6


def test_grey_jpeg_and_cifar_as_images(tmp_path):
    grey = make_folder(tmp_path / "g", {"a.jpg": encoded(PIXELS[0, :, :, 0], "JPEG")})
    assert prepared(DatasetSpec("images", 8, 1), grey, tmp_path)[0].images.shape == (1, 1, 8, 8)
    raw = make_zip(tmp_path / "c.zip", files_of())
    assert len(prepared(DatasetSpec("cifar10", 8, 3), raw, tmp_path)[0].ids) == 6


@pytest.mark.parametrize("resolution", [4, 6, 12])
def test_resizing_keeps_flat_images_flat_and_channels_apart(resolution, tmp_path):
    flat = np.broadcast_to(np.array([10, 120, 250], np.uint8), (8, 8, 3))
    raw = make_folder(tmp_path / "f", {"a.png": encoded(flat)})
    data, _ = prepared(DatasetSpec("images", resolution, 3), raw, tmp_path)
    assert data.images.shape == (1, 3, resolution, resolution)
    assert (data.images[0] == np.array([10, 120, 250])[:, None, None]).all()


FIRST = "00000/img00000000.png"
BAD = "00000/img00000009.png"
LABELS = [[name, 0] for name in files_of()]


@pytest.mark.parametrize("make", [make_zip, make_folder])
@pytest.mark.parametrize(("extra", "words"), [
    ({BAD: encoded(PIXELS[0], mode="L")}, (BAD, "mode L", "RGB", "convert")),
    ({BAD: encoded(PIXELS[0], mode="RGBA")}, (BAD, "mode RGBA")),
    ({BAD: encoded(PIXELS[0], mode="P")}, (BAD, "mode P")),
    ({"00000/x.jpg": encoded(PIXELS[0], "JPEG", "CMYK")}, ("00000/x.jpg", "mode CMYK")),
    ({BAD: encoded(PIXELS[0])[:-60]}, (BAD, "truncated")),
    ({"00000/x.jpg": encoded(PIXELS[0], "JPEG")[:-60]}, ("00000/x.jpg", "truncated")),
    ({BAD: b"text"}, (BAD, "can't be decoded")),
    ({BAD: b""}, (BAD, "can't be decoded")),
    ({BAD: encoded(PIXELS[0, :4, :4])}, (BAD, "4x4", FIRST, "8x8", "one size")),
    ({FIRST: encoded(PIXELS[0, :4])}, (FIRST, "8x4", "square", "crop", "source: photos")),
    ({"notes.txt": b"x"}, ("notes.txt", "not an image", "take it out", "source: photos, crop: centre")),
    ({"00000/a.gif": b"x"}, ("00000/a.gif", "not an image")),
    (listed(LABELS[:-1]), ("dataset.json has no label for 00000/img00000005.png", "5 labels")),
    (listed([*LABELS, [BAD, 1]]), (f"dataset.json names {BAD}", "7 labels, 6 images")),
    (listed([*LABELS[1:], [FIRST, 1.5]]), (FIRST, "1.5", "a whole number >= 0")),
    (listed([*LABELS[1:], [FIRST, -1]]), (FIRST, "-1", "a whole number >= 0")),
    (listed([*LABELS[1:], [FIRST, True]]), (FIRST, "True", "a whole number >= 0")),
    (listed([*LABELS[1:], [FIRST, "cat"]]), (FIRST, "'cat'")),
    (listed([*LABELS[1:], [FIRST, None]]), (FIRST, "None")),
    (listed([*LABELS, [FIRST, 3]]), (f"dataset.json names {FIRST} twice",)),
    (listed([*LABELS[1:], [1, 0]]), ("[name, class] pairs",)),
    (listed([0, 1, 2]), ("dataset.json", "[name, class] pairs")),
    ({"dataset.json": b"{"}, ("dataset.json is not a JSON object",)),
    ({"dataset.json": b"[]"}, ("dataset.json is not a JSON object",)),
    ({"dataset.json": b'{"Labels": []}'}, ("dataset.json has no entries `labels`, allowed: one",)),
    ({"dataset.json": b'{"labels": null, "labels": []}'}, ("dataset.json has 2 entries `labels`",)),
    ({"dataset.json": b'{"labels": {"a.png": 0, "a.png": 1}}'}, ("dataset.json names a.png twice",)),
])
def test_what_can_not_be_meant_is_refused_by_name(make, extra, words, tmp_path):
    raw = make(tmp_path / "raw", files_of() | extra)
    refused(IMAGES, raw, tmp_path, str(raw), *words)


def test_colour_in_a_grey_dataset(tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of())
    refused(DatasetSpec("images", 8, 1), raw, tmp_path, FIRST, "mode RGB", "channels are 1 (L)")


@pytest.mark.parametrize("make", [make_zip, make_folder])
def test_empty(make, tmp_path):
    (tmp_path / "e").mkdir()
    raw = make(tmp_path / "e/raw", {"dataset.json": b"{}"})
    refused(IMAGES, raw, tmp_path, str(raw), "no images in it")


def test_neither_folder_nor_zip(tmp_path):
    (tmp_path / "cut.zip").write_bytes(make_zip(tmp_path / "a.zip", files_of()).read_bytes()[:500])
    refused(IMAGES, tmp_path / "cut.zip", tmp_path, "cut.zip: neither a folder nor a zip file")
    refused(IMAGES, tmp_path / "missing", tmp_path, "missing: no such file or folder")
    refused(IMAGES, None, tmp_path, "needs a path", "config/local.yaml")


def test_a_flipped_byte_in_a_zip_is_found(tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of())
    content = bytearray(raw.read_bytes())
    content[100] ^= 1
    raw.write_bytes(content)
    refused(IMAGES, raw, tmp_path, FIRST, "CRC")


@pytest.mark.parametrize(("changes", "words"), [
    ({"sha256": "a" * 64}, f"the configuration's sha256 is {'a' * 64}: put back what was there"),
    ({"num_images": 7}, "6 images, the configuration's num_images is 7"),
])
def test_zip_against_its_pins(changes, words, tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of())
    refused(DatasetSpec(**{"source": "images", "resolution": 8, "channels": 3} | changes), raw,
            tmp_path, str(raw), words)


@pytest.mark.skipif(not (SHARED / "data/cats-dogs-64.zip").is_file(), reason=f"no data at {SHARED}")
def test_a_real_dataset(tmp_path):
    raw = SHARED / "data/cats-dogs-64.zip"
    data, record = prepared(DatasetSpec("images", 64, 3, num_images=1399), raw, tmp_path)
    np.testing.assert_array_equal(np.bincount(data.labels), [700, 699])
    assert data.images.shape == (1399, 3, 64, 64)
    assert outside(record) == ("raw", raw.name, "images", sha256_of_raw(raw)[0])


def test_a_name_that_is_twice_in_a_zip(tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of())
    with pytest.warns(UserWarning), zipfile.ZipFile(raw, "a") as archive:
        archive.writestr(FIRST, encoded(PIXELS[5]))
    refused(IMAGES, raw, tmp_path, f"{FIRST} is in it twice")


def test_a_local_path_in_the_specification_is_refused_since_it_would_be_recorded(tmp_path):
    spec = DatasetSpec("images", 8, 3, path=str(tmp_path / "raw.zip"))
    refused(spec, None, tmp_path, "path: got", "--raw")
