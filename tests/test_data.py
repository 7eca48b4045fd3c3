"""Raw data to the prepared format: what is read, in which order, and everything that is refused."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import pickle
import re
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ambient import prepare, readers
from ambient.datasets import Dataset, read, to_float, to_uint8, write
from ambient.files import sha256, sha256_of_raw, write_arrays
from ambient.spec import DatasetSpec

SHARED = Path(os.environ.get("AMBIENT_SHARED", Path(__file__).parents[2] / "shared"))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
IMAGES = DatasetSpec("images", 8, 3)


def encoded(pixels, kind="PNG", mode=None):
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(buffer, kind)
    return buffer.getvalue()


def files_of(count=6):
    return {f"00000/img{i:08d}.png": encoded(PIXELS[i]) for i in range(count)}


def listed(labels):
    return {"dataset.json": json.dumps({"labels": labels}).encode()}


def make_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def prepared(spec, raw, tmp_path):
    record = SimpleNamespace(facts={}, outside=[])
    record.external = lambda name, path, origin: record.outside.append((name, path, origin))
    prepare.main(spec, record, raw=raw, out=tmp_path / "out.safetensors")
    return read(tmp_path / "out.safetensors"), record


def refused(spec, raw, tmp_path, *words):
    """`main` raises one line that holds all the words, and writes nothing."""
    with pytest.raises((ValueError, OSError)) as caught:
        prepared(spec, raw, tmp_path)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


# --- the prepared format --------------------------------------------------------------------------


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


# --- MNIST ----------------------------------------------------------------------------------------


def test_mnist_has_500_of_each_digit_averaged_over_areas(tmp_path):
    raw = readers.mnist_file()
    spec = DatasetSpec("mnist", 16, 1, padding=2, num_images=5000, sha256=sha256(raw))
    data, record = prepared(spec, None, tmp_path)
    assert data.images.shape == (5000, 1, 16, 16) and data.num_classes == 10
    np.testing.assert_array_equal(np.bincount(data.labels), [500] * 10)
    np.testing.assert_array_equal(data.ids, np.arange(5000))
    original, labels = readers.read_mnist(raw)
    assert original.shape == (5000, 1, 28, 28)
    padded = np.pad(original, ((0, 0), (0, 0), (2, 2), (2, 2))).astype(float)
    means = padded.reshape(5000, 1, 16, 2, 16, 2).mean(axis=(3, 5))
    # Pillow's box filter rounds after each axis: up to 0.5 twice
    assert np.abs(data.images - means).max() <= 1
    np.testing.assert_array_equal(data.labels, labels)
    assert record.outside == [("raw", raw, "mnist")] and record.facts["raw_checksum_verified"]
    assert (record.facts["images"], record.facts["classes"]) == (5000, 10)


def test_max_images_keeps_nested_subsets_of_all_classes(tmp_path):
    """The source is sorted by class: its first rows would be of one class."""
    every, _ = readers.read_mnist(readers.mnist_file())
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
    (tmp_path / "m.csv.gz").write_bytes(gzip.compress(b"1,2,3\n4,5,6\n"))
    refused(DatasetSpec("mnist", 28, 1), tmp_path / "m.csv.gz", tmp_path, "m.csv.gz", "3 columns")


@pytest.mark.parametrize("content", [
    gzip.compress(b"1,2\n" * 999)[:-20],
    gzip.compress(",".join(["300"] * 784 + ["5\n"]).encode() * 2),
    gzip.compress(b"a,b\n"), b"text"])
def test_a_damaged_mnist_file_is_named(content, tmp_path):
    (tmp_path / "m.csv.gz").write_bytes(content)
    refused(DatasetSpec("mnist", 28, 1), tmp_path / "m.csv.gz", tmp_path, "m.csv.gz")


# --- CIFAR-10 -------------------------------------------------------------------------------------


def batch_bytes(number, count=4):
    """A batch as Python 2 with an old numpy wrote it: protocol 2, `numpy.core`, bytes for keys."""
    data = np.random.default_rng(number).integers(0, 256, (count, 3072), np.uint8)
    content = pickle.dumps({b"data": data, b"labels": [number] * count,
                            b"filenames": [b"a.png"] * count}, protocol=2)
    return content.replace(b"numpy._core.", b"numpy.core."), data


@pytest.fixture()
def cifar(tmp_path):
    return make_folder(tmp_path / "raw", {f"cifar-10-batches-py/data_batch_{i}": batch_bytes(i)[0]
                                          for i in range(1, 6)})


def archive_of(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    return path


def test_cifar_batches_in_order_from_archive_and_folder(cifar, tmp_path):
    archive = archive_of(cifar, tmp_path / "cifar-10-python.tar.gz")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    expected = np.concatenate([batch_bytes(i)[1] for i in range(1, 6)]).reshape(-1, 3, 32, 32)
    for images, labels in (readers.read_cifar10(archive, md5), readers.read_cifar10(cifar),
                           readers.read_cifar10(cifar / "cifar-10-batches-py")):
        np.testing.assert_array_equal(images, expected)
        np.testing.assert_array_equal(labels, np.repeat(np.arange(1, 6), 4))
    data, record = prepared(DatasetSpec("cifar10", 32, 3, num_images=20), cifar, tmp_path)
    np.testing.assert_array_equal(data.ids, np.arange(20))
    assert not record.facts["raw_checksum_verified"]  # the published checksum is the archive's


def test_cifar_archive_with_another_checksum(cifar, tmp_path):
    archive = archive_of(cifar, tmp_path / "cifar-10-python.tar.gz")
    refused(DatasetSpec("cifar10", 32, 3), archive, tmp_path, str(archive), readers.CIFAR_MD5)


class Malicious:
    """Unpickled by the ordinary reader, this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(protocol, cifar, tmp_path):
    content = pickle.dumps({b"data": Malicious(tmp_path / "hit")}, protocol=protocol)
    (cifar / "cifar-10-batches-py/data_batch_2").write_bytes(content)
    refused(DatasetSpec("cifar10", 32, 3), cifar, tmp_path, "data_batch_2", "posix.mkdir")
    assert not (tmp_path / "hit").exists()


@pytest.mark.parametrize("name", ["builtins.eval", "builtins.getattr", "numpy.load", "os.system",
                                  "numpy.core.multiarray.fromfile", "pickle.loads"])
def test_no_other_name_is_looked_up(name):
    module, _, function = name.rpartition(".")
    with pytest.raises(ValueError, match=re.escape(name)):
        readers.PlainUnpickler(io.BytesIO(b"")).find_class(module, function)


@pytest.mark.parametrize("content", [b"", b"garbage", pickle.dumps([1]), pickle.dumps({b"data": 3}),
                                     batch_bytes(1)[0][:-100],
                                     pickle.dumps({b"data": np.zeros((2, 3072), np.uint8),
                                                   b"labels": [1]})])
def test_a_damaged_batch_is_named(content, cifar, tmp_path):
    (cifar / "cifar-10-batches-py/data_batch_4").write_bytes(content)
    refused(DatasetSpec("cifar10", 32, 3), cifar, tmp_path, "data_batch_4", "not a CIFAR-10 batch")


def test_a_missing_batch_is_named(cifar, tmp_path):
    (cifar / "cifar-10-batches-py/data_batch_5").unlink()
    refused(DatasetSpec("cifar10", 32, 3), cifar, tmp_path, "data_batch_5")


def test_without_network_the_message_says_what_to_put_where(tmp_path, monkeypatch):
    import torchvision.datasets.utils

    def offline(url, root, filename, md5):
        assert root == str(tmp_path / "store") and filename == "cifar-10-python.tar.gz"
        assert md5 == readers.CIFAR_MD5
        raise OSError("no route to host")
    monkeypatch.setenv("AMBIENT_DATA", str(tmp_path / "store"))
    monkeypatch.setattr(torchvision.datasets.utils, "download_url", offline)
    refused(DatasetSpec("cifar10", 32, 3), None, tmp_path, "no route to host",
            "cifar-10-python.tar.gz", "datasets.cifar10.path", "config/local.yaml")


# --- zips and folders of images -------------------------------------------------------------------


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
    assert record.outside == [("raw", raw, "images")]


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
    ({FIRST: encoded(PIXELS[0, :4])}, (FIRST, "8x4", "square", "crop")),
    ({"notes.txt": b"x"}, ("notes.txt", "not an image", "take it out")),
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
    ({"sha256": "a" * 64}, "the configuration's sha256 is aaa"),
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
    assert data.images.shape == (1399, 3, 64, 64) and record.outside == [("raw", raw, "images")]


def test_a_name_that_is_twice_in_a_zip(tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of())
    with pytest.warns(UserWarning), zipfile.ZipFile(raw, "a") as archive:
        archive.writestr(FIRST, encoded(PIXELS[5]))
    refused(IMAGES, raw, tmp_path, f"{FIRST} is in it twice")


def test_a_local_path_in_the_specification_is_refused_since_it_would_be_recorded(tmp_path):
    spec = DatasetSpec("images", 8, 3, path=str(tmp_path / "raw.zip"))
    refused(spec, None, tmp_path, "path: got", "--raw")
