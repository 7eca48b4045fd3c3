"""What readers take, leave out, turn and refuse, and say of it; hostile files."""

import dataclasses
import gzip
import io
import json
import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ambient.data.datasets import Dataset
from ambient.data.image_files import Images
from ambient.data.raw import Raw
from ambient.data.sources import cifar10
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
    prepared,
    refused,
)

CLASSES = {f"{name}/{i}.png": encoded(PIXELS[i]) for i, name in enumerate(("cat", "dog", "cat"))}
LABELS = [[name, i % 2] for i, name in enumerate(files_of())]


def ways(way):
    return dataclasses.replace(IMAGES, labels=way)


# --- what is said -------------------------------------------------------------------------------------

def test_the_manifest_and_the_log_say_what_was_taken(tmp_path, capsys):
    raw = make_folder(tmp_path / "raw", CLASSES | {".DS_Store": b"x"})
    spec = dataclasses.replace(IMAGES, resolution=12, classes=(0,))
    _, record = prepared(spec, raw, tmp_path)
    found = record.facts
    assert (found["images"], found["raw_images"], found["raw_side"], found["classes"]) == (2, 3, 8, 1)
    assert found["class_names"] == {"0": "cat"} and found["class_images"] == {"0": 2}
    assert found["labels_from"] == "the folders' names"
    assert found["converted"] == {"enlarged, and blurred by that, from 8 to 12 pixels": 2}
    assert found["left_out"] == {"images of other classes": 1}
    log = capsys.readouterr().err
    assert f"took 2 of 3 images of 8x8 pixels from {raw}" in log and "cat 2" in log and "enlarged" in log


def test_hidden_files_of_a_zip_are_counted(tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of() | {"__MACOSX/._a.png": b"x", "00000/.t.png": b"x"})
    assert prepared(IMAGES, raw, tmp_path)[1].facts["left_out"] == {"hidden files (00000/.t.png)": 2}


def test_the_names_of_known_classes(tmp_path):
    _, record = prepared(DatasetSpec("mnist", 28, 1, max_images=50), None, tmp_path)
    assert record.facts["class_names"] == {str(i): str(i) for i in range(10)}
    assert sum(record.facts["class_images"].values()) == 50
    assert record.facts["left_out"] == {"images not drawn (max_images)": 4950}
    assert cifar10.CIFAR_CLASSES[3] == "cat" and len(cifar10.CIFAR_CLASSES) == 10


# --- links and names ----------------------------------------------------------------------------------

def test_a_linked_class_folder_is_read_and_counts_for_the_digest(tmp_path):
    plain = make_folder(tmp_path / "plain", CLASSES)
    linked = make_folder(tmp_path / "linked", {n: c for n, c in CLASSES.items() if n.startswith("cat")})
    (linked / "dog").symlink_to(plain / "dog")
    for raw in (plain, linked):
        data, record = prepared(IMAGES, raw, tmp_path)
        np.testing.assert_array_equal(data.labels, [0, 0, 1])
        assert record.facts["class_names"] == {"0": "cat", "1": "dog"}
    assert sha256_of_raw(linked) == sha256_of_raw(plain)


@pytest.mark.parametrize(("link", "to", "words"), [
    ("cat/gone.png", "nowhere.png", ("gone.png", "leads nowhere", "nowhere.png")),
    ("bird", "nowhere", ("bird", "leads nowhere")),
    ("cat/again", "..", ("again", "read already")),
    ("kitten", "cat", ("cat", "kitten", "read already")),
    ("loop", "loop", ("loop", "leads nowhere"))])
def test_links_that_can_not_be_meant(link, to, words, tmp_path):
    raw = make_folder(tmp_path / "raw", CLASSES)
    (raw / link).symlink_to(to)
    refused(IMAGES, raw, tmp_path, *words)


def test_a_fifo_is_named_and_not_waited_for(tmp_path):
    raw = make_folder(tmp_path / "raw", CLASSES)
    os.mkfifo(raw / "cat/pipe.png")
    refused(IMAGES, raw, tmp_path, "pipe.png", "neither a file nor a folder")


def test_a_zip_of_windows_has_folders(tmp_path):
    raw = make_zip(tmp_path / "w.zip", {n.replace("/", "\\"): content for n, content in CLASSES.items()})
    data, record = prepared(IMAGES, raw, tmp_path)
    np.testing.assert_array_equal(data.labels, [0, 0, 1])
    assert record.facts["converted"] == {"names with backslashes, read as folders": 3}
    both = make_zip(tmp_path / "l.zip", {n.replace("/", "\\"): c for n, c in files_of().items()} | listed(
        [[name.replace("/", "\\"), label] for name, label in LABELS]))
    np.testing.assert_array_equal(prepared(IMAGES, both, tmp_path)[0].labels, [0, 1, 0, 1, 0, 1])
    unpacked = make_folder(tmp_path / "u", {"cat\\0.png": encoded(PIXELS[0])})
    refused(IMAGES, unpacked, tmp_path / "no", "cat\\0.png", "backslash")


@pytest.mark.parametrize(("name", "words"), [
    ("/etc/a.png", "outside of the zip"), ("../a.png", "outside of the zip"),
    ("C:\\a.png", "outside of the zip"),
    ("a/../../b.png", "outside of the zip"), ("a\nb.png", "can't be shown"), ("cat/0.PNG", "differ in case"),
    ("Cat/9.png", "differ in case")])
def test_names_in_a_zip(name, words, tmp_path):
    refused(IMAGES, make_zip(tmp_path / "r.zip", CLASSES | {name: encoded(PIXELS[3])}), tmp_path, words)


def test_a_class_that_a_manifest_could_not_hold_is_refused_at_the_start(tmp_path):
    raw = make_folder(tmp_path / "raw", CLASSES | {"~old/1.png": encoded(PIXELS[4])})
    refused(IMAGES, raw, tmp_path, "~old", "no absolute path")


# --- labels -------------------------------------------------------------------------------------------

def tree(*names):
    return {name: encoded(PIXELS[i % 6]) for i, name in enumerate(names)}


@pytest.mark.parametrize(("names", "words"), [
    (("train/0.png", "val/1.png"), ("train", "part of the data")),
    (("test/0.png", "cat/1.png"), ("test", "part of the data")),
    (("00000/0.png", "00001/1.png"), ("00000", "part of the data")),
    (("00000/0.png", "01000/1.png"), ("00000",)),
    (("train/cat/0.png", "train/dog/1.png", "val/cat/2.png"), ("folders within folders",)),
    (("cat/0.png", "1.png"), ("others in folders below",)),
])
def test_labels_are_not_guessed_from_folders(names, words, tmp_path):
    raw = make_zip(tmp_path / "r.zip", tree(*names))
    refused(IMAGES, raw, tmp_path, *words, "not to be guessed", "dataset.json", "to folder", "to top")


@pytest.mark.parametrize(("way", "labels", "classes"), [
    ("none", [-1, -1, -1], {}), ("folder", [0, 1, 0], {"0": "cat", "1": "dog"}),
    ("top", [0, 0, 1], {"0": "train", "1": "val"})])
def test_labels_as_the_configuration_says(way, labels, classes, tmp_path):
    raw = make_zip(tmp_path / "r.zip", tree("train/cat/0.png", "train/dog/1.png", "val/cat/2.png"))
    data, record = prepared(ways(way), raw, tmp_path)
    np.testing.assert_array_equal(data.labels, labels)
    assert record.facts["class_names"] == classes and f"`labels: {way}`" in record.facts["labels_from"]


def test_a_folder_around_all_and_a_lone_chunk_are_no_classes(tmp_path):
    around = make_zip(tmp_path / "a.zip", tree("mine/data/cat/0.png", "mine/data/dog/1.png"))
    data, record = prepared(IMAGES, around, tmp_path)
    np.testing.assert_array_equal(data.labels, [0, 1])
    assert record.facts["class_names"] == {"0": "cat", "1": "dog"}
    data, record = prepared(IMAGES, make_zip(tmp_path / "c.zip", files_of()), tmp_path)
    assert (data.labels == -1).all() and "00000" in record.facts["labels_from"]
    flat = make_zip(tmp_path / "f.zip", tree("0.png"))
    refused(ways("folder"), flat, tmp_path / "no", "0.png", "no folder")


def test_a_list_in_the_one_folder_that_holds_all_is_used(tmp_path):
    files = {f"mine/{name}": content for name, content in (files_of() | listed(LABELS)).items()}
    for make in (make_zip, make_folder):
        data, record = prepared(IMAGES, make(tmp_path / make.__name__, files), tmp_path)
        np.testing.assert_array_equal(data.labels, [0, 1, 0, 1, 0, 1])
        assert record.facts["labels_from"] == "dataset.json"


def test_the_list_of_a_part_is_kept_from_harm(tmp_path):
    parts = {f"a/{name}": content for name, content in (files_of() | listed(LABELS)).items()}
    raw = make_zip(tmp_path / "r.zip", parts | {"b/0.png": encoded(PIXELS[0])})
    refused(IMAGES, raw, tmp_path, "a/dataset.json lists a part", "Keep it", "labels are nowhere else")
    _, record = prepared(ways("top"), raw, tmp_path)
    assert record.facts["left_out"] == {"dataset.json, for the configuration's labels": 1}


@pytest.mark.parametrize("label", [10**12, 100_000, 10**30])
def test_classes_that_no_network_could_be_told(label, tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of() | listed([*LABELS[1:], [LABELS[0][0], label]]))
    refused(IMAGES, raw, tmp_path, "the label of 00000/img00000000.png is 1", "below 100,000")
    if label < 2**62:
        with pytest.raises(ValueError, match="a label is"):
            Dataset(np.zeros((1, 1, 4, 4), np.uint8), np.array([label]), np.arange(1))


@pytest.mark.parametrize("content", [
    b"[" * 100_000, b'{"labels": 3}', b"\xff\xfe", b'{"labels": [[1, 2, 3]]}', b'{"labels": [["a"]]}',
    b'{"labels": {"a": 1e999}}'])
def test_any_other_list_is_named(content, tmp_path):
    raw = make_zip(tmp_path / "r.zip", files_of() | {"dataset.json": content})
    refused(IMAGES, raw, tmp_path, "dataset.json")


# --- pixels -------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("WEBP", "webp")])
def test_pictures_are_turned_as_their_orientation_says(kind, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, kind, exif=exif, lossless=True)
    raw = make_folder(tmp_path / "raw", {f"0.{suffix}": buffer.getvalue()})
    data, record = prepared(IMAGES, raw, tmp_path)
    np.testing.assert_array_equal(data.images[0], np.rot90(PIXELS[0], -1).transpose(2, 0, 1))
    assert record.facts["converted"] == {"turned as their EXIF orientation says": 1}


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, colour, rows, extra=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body


RGB_ROWS = b"".join(b"\0" + bytes(range(24)) for _ in range(8))


def frames(kind):
    buffer, stills = io.BytesIO(), [Image.fromarray(pixels) for pixels in PIXELS[:3]]
    stills[0].save(buffer, kind, save_all=True, append_images=stills[1:], lossless=True)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.png", png(8, 8, 16, 2, b"".join(b"\0" + bytes(48) for _ in range(8))), ("16 bits a channel",)),
    ("a.png", png(8, 8, 8, 2, RGB_ROWS, chunk(b"tRNS", bytes(6))), ("transparent colour",)),
    ("a.png", frames("PNG"), ("3 frames",)),
    ("a.webp", frames("WEBP"), ("3 frames",)),
    ("a.png", frames("GIF"), ("can't be decoded",)),
    ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", ("can't be decoded",)),
    ("a.png", png(100_000, 100_000, 8, 2, b""), ("can't be decoded", "too large")),
    ("a.png", png(12_000, 12_000, 8, 2, b""), ("can't be decoded", "12000x12000")),
    ("a.png", png(0, 0, 8, 2, b""), ("can't be decoded",)),
    ("a.png", png(8, 8, 8, 2, RGB_ROWS)[:-40], ("can't be decoded",)),
])
def test_pixels_that_would_need_a_choice_are_refused(name, content, words, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for make in (make_zip, make_folder):
            refused(IMAGES, make(tmp_path / make.__name__, {name: content}), tmp_path, name, *words)


# --- hostile archives ---------------------------------------------------------------------------------

def edited(path, offset_in_entry, value, count=2):
    """A zip whose entries, in both directories, have other bytes at an offset from their flags."""
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(mark)
        while place >= 0:
            content[place + at + offset_in_entry:place + at + offset_in_entry + count] = value
            place = content.find(mark, place + 4)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("offset", "value", "words"), [
    (0, b"\1\0", "encrypted"), (2, b"\x09\0", "deflate64"), (2, b"\x63\0", "99")])
def test_zips_that_can_not_be_read(offset, value, words, tmp_path):
    raw = edited(make_zip(tmp_path / "r.zip", files_of()), offset, value)
    refused(IMAGES, raw, tmp_path, "00000/img00000000.png", words)


def test_a_bomb_is_refused_by_its_declared_size_and_a_false_declaration_by_its_sum(tmp_path):
    raw = tmp_path / "bomb.zip"
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as file:
        for _ in range(300):
            file.write(bytes(2**20))
    assert raw.stat().st_size < 2**19
    refused(IMAGES, raw, tmp_path, "a.png", "314,572,800 bytes")
    content = raw.read_bytes()
    raw.write_bytes(content.replace(struct.pack("<I", 300 * 2**20), struct.pack("<I", 300)))
    refused(IMAGES, raw, tmp_path, "a.png", "can't be decoded")


def test_no_damage_to_a_zip_ends_in_anything_but_one_line(tmp_path):
    """Each byte of a small zip changed in turn: read as before, or refused by one line."""
    files = {"a.png": encoded(PIXELS[0]), "b.png": encoded(PIXELS[1])}
    whole = make_zip(tmp_path / "w.zip", files).read_bytes()
    outcomes = set()
    for place in range(0, len(whole), 7):
        (tmp_path / "d.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1:])
        try:
            raw = Raw(tmp_path / "d.zip")
            list(Images(raw, 3).read(np.arange(1)))
            outcomes.add("read")
        except ValueError as error:
            assert "\n" not in str(error) and str(error).startswith(str(tmp_path))
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_labels_of_digits_are_digits(tmp_path):
    row = ",".join(["0"] * 784 + ["10"])
    (tmp_path / "m.csv.gz").write_bytes(gzip.compress(f"{row}\n{row}\n".encode()))
    refused(DatasetSpec("mnist", 28, 1), tmp_path / "m.csv.gz", tmp_path, "m.csv.gz", "a label is 10")


def test_a_specification_from_before_means_the_same():
    old = json.loads('{"source": "images", "resolution": 8, "channels": 3}')
    assert DatasetSpec(**old) == IMAGES and IMAGES.labels is None
