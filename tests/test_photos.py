"""Photographs of every kind become plain squares; what is converted or left out is counted, never refused."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from raw_images import encoded, make_folder, make_zip, noisy

from ambient.data import photos
from ambient.data.raw import Raw
from ambient.data.squares import CROPS
from ambient.specs import DatasetSpec

SPEC = DatasetSpec("photos", 8, 3, crop="centre")


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(folder, files, spec=SPEC, rule=None):
    return photos.read(Raw(make_folder(folder, files)), spec, rule)


@pytest.fixture(params=["PNG", "TIFF"])  # Pillow turns a TIFF by itself
def turned(request):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    return saved(Image.fromarray(noisy(1)), request.param, exif=exif)


def test_what_is_converted_has_the_pixels_that_a_viewer_shows(tmp_path, turned):
    clear = np.dstack([noisy(2), np.full((12, 20), 0, np.uint8)])
    deep = np.full((12, 12), 2**15 + 77, np.uint16)
    grey = Image.fromarray(noisy(3)[:, :, 0])
    cmyk = Image.fromarray(noisy(4)).convert("CMYK")
    frames = [Image.fromarray(noisy(seed)).convert("P") for seed in (5, 6)]
    found = read(tmp_path / "in", {
        "a-turned.tif": turned, "b-clear.png": saved(Image.fromarray(clear), "PNG"),
        "c-deep.png": saved(Image.fromarray(deep), "PNG"), "d-grey.png": saved(grey, "PNG"),
        "e-cmyk.jpg": saved(cmyk, "JPEG", quality=95),
        "f-moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:])})
    by_name = dict(zip((found.names[row] for row in found.rows), found.images, strict=True))
    upright = Image.fromarray(np.rot90(noisy(1), -1))  # 20 high, 12 wide: its middle is 12 x 12
    expected = np.asarray(upright.crop((0, 4, 12, 16)).resize((8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(by_name["a-turned.tif"], expected.transpose(2, 0, 1))
    assert (by_name["b-clear.png"] == 255).all()
    assert (by_name["c-deep.png"] == 128).all()
    assert (by_name["d-grey.png"] == by_name["d-grey.png"][:1]).all()
    first = np.asarray(frames[0].convert("RGB"))[:, 4:16]
    np.testing.assert_array_equal(by_name["f-moving.gif"], np.asarray(Image.fromarray(first).resize(
        (8, 8), Image.Resampling.LANCZOS)).transpose(2, 0, 1))
    assert found.converted == {
        "turned as their EXIF orientation says": 1, "laid on white where they are transparent": 1,
        "reduced from 16 bits to 8": 1, "grey, taken as colour": 2, "converted from CMYK": 1,
        "the first of several frames": 1, "cropped to a square (centre)": 5}


def test_greys_in_a_palette_or_with_transparency_are_grey(tmp_path):
    """A grey GIF has a palette, and a grey PNG with transparency two channels."""
    grey = Image.fromarray(noisy(1)[:, :, 0])
    half = Image.merge("LA", (grey, Image.fromarray(np.full((12, 20), 128, np.uint8))))
    clear = grey.convert("P")
    clear.putpalette([value for value in range(256) for _ in range(3)])
    images = {"a.gif": saved(grey, "GIF"), "b.png": saved(half, "PNG"),
              "c.png": saved(clear, "PNG", transparency=0), "d.png": saved(Image.fromarray(noisy(2)), "PNG")}
    found = read(tmp_path / "in", images)
    assert found.converted["grey, taken as colour"] == 3 and found.converted["laid on white where they are "
                                                                             "transparent"] == 2
    assert (found.images[:3] == found.images[:3, :1]).all()
    on_white = np.asarray(grey, float) * (128 / 255) + 255 * (127 / 255)
    square = Image.fromarray(on_white[:, 4:16].round().astype(np.uint8))
    small = square.resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(found.images[1, 0].astype(int), np.asarray(small).astype(int), atol=1)


def test_of_a_jpeg_with_several_pictures_the_first_is_read_as_any_jpeg(tmp_path):
    """Phones and stereo cameras write such (MPO), large ones, of which the decoder makes small ones."""
    large = [Image.fromarray(noisy(seed, 96, 96)) for seed in (1, 2)]
    found = read(tmp_path / "in", {
        "one.jpg": saved(large[0], "JPEG"),
        "two.jpg": saved(large[0], "MPO", save_all=True, append_images=large[1:])})
    assert found.converted["the first of several frames"] == 1
    np.testing.assert_array_equal(found.images[1], found.images[0])


def test_values_of_8_bits_in_an_image_of_more_are_not_taken_for_black(tmp_path):
    values = noisy(1)[:, :, 0]
    found = read(tmp_path / "in", {"a.png": encoded(noisy(2)),
                                   "b.png": saved(Image.fromarray(values.astype(np.uint16)), "PNG"),
                                   "c.tif": saved(Image.fromarray(values.astype(np.int32)), "TIFF"),
                                   "d.tif": saved(Image.fromarray(values.astype(np.int32) * 257), "TIFF")})
    assert [found.names[row] for row in found.rows] == ["a.png", "d.tif"]
    assert found.left_out == {"of 16 bits or more, with values of 8 alone: save them with 8": 2}
    first = Image.fromarray(values[:, 4:16]).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(found.images[1, 0], np.asarray(first))


def test_what_can_not_be_used_is_left_out_and_counted(tmp_path, capsys):
    good = encoded(noisy(0))
    found = read(tmp_path / "in", {
        "a.png": good, "again/b.png": good, "cut.png": good[:200], "noise.jpg": b"\xff\xd8 no picture",
        "empty.png": b"", "small.png": encoded(noisy(1, 7, 9)), "notes.txt": b"birds", "x.heic": b"heic",
        "float.tiff": saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF")})
    assert [found.names[row] for row in found.rows] == ["a.png"]
    assert found.left_out == {
        "of the same content as another": 1, "damaged or cut short": 1, "files that are no images": 1,
        "damaged, or of another format than their name says": 2, "smaller than 8 pixels": 1,
        "of floating-point values": 1, ".heic files, which are not read here: save them as JPEG or PNG": 1}
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert said[:2] == ["prepare: left out: cut.png is damaged or cut short",
                        "prepare: left out: empty.png is damaged, or of another format than their name says"]
    assert len(said) == 4


def test_a_tiff_cut_in_its_second_page_is_left_out(tmp_path):
    """Its pages are counted by a walk through the file, which ends where the file does."""
    whole = saved(Image.fromarray(noisy(0)), "TIFF", save_all=True, append_images=[Image.fromarray(noisy(1))])
    found = read(tmp_path / "in", {"a.png": encoded(noisy(2)), "cut.tif": whole[:len(whole) // 3]})
    assert found.left_out == {"damaged or cut short": 1}


def test_an_image_of_too_many_pixels_is_not_called_damaged(tmp_path, monkeypatch):
    """Pillow refuses one of twice the pixels itself."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    found = read(tmp_path / "in", {"a.png": encoded(noisy(0, 8, 9)), "b.png": encoded(noisy(1, 12, 12)),
                                   "c.png": encoded(noisy(2, 20, 20))})
    assert found.left_out == {"of more than 100 pixels": 2}


def test_a_colour_image_of_16_bits_is_counted(tmp_path):
    """Pillow opens it as RGB. The PNG is written here, since Pillow writes none."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = noisy(0, 8, 8)
    rows = b"".join(b"\0" + (row.astype(">u2") << 8 | 3).astype(">u2").tobytes() for row in pixels)
    content = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
               + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    found = read(tmp_path / "in", {"a.png": content})
    np.testing.assert_array_equal(found.images[0], pixels.transpose(2, 0, 1))
    assert found.converted == {"reduced from 16 bits to 8": 1}


def test_a_zip_is_not_unpacked_into_all_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "LARGEST", 10_000)
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", encoded(noisy(0)))
        archive.writestr("b.png", bytes(10_001))
    reason = "files of more than 10,000 bytes, which are not read from a zip"
    assert photos.read(Raw(path), SPEC).left_out == {reason: 1}


def test_a_damaged_zip_entry_is_left_out(tmp_path):
    path = make_zip(tmp_path / "in.zip", {"a.png": encoded(noisy(0)), "b.png": encoded(noisy(1))})
    content = bytearray(path.read_bytes())
    content[content.index(b"b.png") + 60] ^= 1  # one bit of the stored file: its CRC is wrong now
    path.write_bytes(content)
    assert photos.read(Raw(path), SPEC).left_out == {"damaged, or of another format than their name says": 1}


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no images in it"):
        read(tmp_path / "in", {"notes.txt": b"birds"})
    with pytest.raises(ValueError, match="none of 1 images can be used: 1 damaged"):
        read(tmp_path / "other", {"a.png": b"birds"})


def test_pixels_that_need_no_change_stay_as_they_are(tmp_path):
    pixels = noisy(0, 8, 8)
    found = read(tmp_path / "in", {"a.png": encoded(pixels)})
    np.testing.assert_array_equal(found.images[0], pixels.transpose(2, 0, 1))
    assert not found.converted and not found.left_out


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("size", [(40, 40), (24, 41), (33, 9), (8, 8), (100, 17)])
def test_every_crop_gives_a_square_of_the_side(name, size):
    image = Image.new("RGB", size, (9, 99, 199))
    square = CROPS[name](image, 8)
    assert square.size == (8, 8)
    assert name == "pad" or set(square.get_flattened_data()) == {(9, 99, 199)}


def test_padding_keeps_the_whole_image():
    image = Image.new("L", (16, 8), 255)
    square = np.asarray(CROPS["pad"](image, 8))
    assert square.sum() == 255 * 16 * 8 / 4 and (square[:2] == 0).all() and (square[2:6] == 255).all()
