"""Photographs of every kind become plain squares; what is converted or left out is counted, never refused."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from raw_images import encoded, make_folder, make_zip

from ambient.data import datasets, photos
from ambient.data.measures import measure
from ambient.data.raw import Raw
from ambient.data.squares import CROPS
from ambient.jobs.stage import Record
from ambient.specs import DatasetSpec, MixtureSpec, SelectSpec
from ambient.specs.strict import SpecError, build
from ambient.stages import prepare
from ambient.stages.corrupt import mix
from ambient.storage.files import sha256

SPEC = DatasetSpec("photos", 8, 3, crop="centre")
SHADES = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)


def noisy(seed, height=12, width=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(folder, files, spec=SPEC, rule=None):
    return photos.read(Raw(make_folder(folder, files)), spec, rule)


def select(**settings):
    return DatasetSpec("photos", 8, 3, crop="centre", select=SelectSpec(**settings))


@pytest.fixture
def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    return saved(Image.fromarray(noisy(1)), "PNG", exif=exif)


def test_what_is_converted_has_the_pixels_that_a_viewer_shows(tmp_path, turned):
    clear = np.dstack([noisy(2), np.full((12, 20), 0, np.uint8)])
    deep = np.full((12, 12), 2**15 + 77, np.uint16)
    grey = Image.fromarray(noisy(3)[:, :, 0])
    cmyk = Image.fromarray(noisy(4)).convert("CMYK")
    frames = [Image.fromarray(noisy(seed)).convert("P") for seed in (5, 6)]
    found = read(tmp_path / "in", {
        "a-turned.png": turned, "b-clear.png": saved(Image.fromarray(clear), "PNG"),
        "c-deep.png": saved(Image.fromarray(deep), "PNG"), "d-grey.png": saved(grey, "PNG"),
        "e-cmyk.jpg": saved(cmyk, "JPEG", quality=95),
        "f-moving.gif": saved(frames[0], "GIF", save_all=True, append_images=frames[1:])})
    by_name = dict(zip((found.names[row] for row in found.rows), found.images, strict=True))
    upright = Image.fromarray(np.rot90(noisy(1), -1))  # 20 high, 12 wide: its middle is 12 x 12
    expected = np.asarray(upright.crop((0, 4, 12, 16)).resize((8, 8), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(by_name["a-turned.png"], expected.transpose(2, 0, 1))
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


FILES = {f"{folder}/{i}.png": encoded(noisy(10 * k + i)) for k, folder in enumerate(("best", "rest"))
         for i in range(4)}


def names(found):
    return [found.names[row] for row in found.rows]


def test_parts_of_a_folder_share_no_id_and_make_it_whole(tmp_path):
    whole = read(tmp_path / "in", FILES)
    best = photos.read(Raw(tmp_path / "in"), select(folders=("best",)))
    rest = photos.read(Raw(tmp_path / "in"), select(without=("best",)))
    assert names(best) == [name for name in FILES if name.startswith("best")]
    assert sorted([*best.rows, *rest.rows]) == whole.rows.tolist() == list(range(8))
    assert best.left_out["images of other folders"] == rest.left_out["images of other folders"] == 4


def test_a_list_names_the_good_ones(tmp_path):
    rule = tmp_path / "good.txt"
    rule.write_text("# my favourites\nbest/1.png\n\n./rest/0.png\n")
    assert names(read(tmp_path / "in", FILES, select(by="list"), rule)) == ["best/1.png", "rest/0.png"]
    others = photos.read(Raw(tmp_path / "in"), select(by="list", good=False), rule)
    assert len(others.rows) == 6


def test_a_list_may_name_files_that_are_not_read(tmp_path):
    """And names whose accents are written in two characters, as some systems do."""
    rule, files = tmp_path / "good.txt", {"M\u00fcller.png": FILES["best/0.png"], "x.heic": b"heic",
                                           "#1.png": FILES["best/1.png"]}
    rule.write_text("x.heic\nMu\u0308ller.png\n#1.png\n# mine\n", encoding="utf-8")
    assert names(read(tmp_path / "in", files, select(by="list"), rule)) == ["#1.png", "M\u00fcller.png"]
    rule.write_text("x.heic\n")
    with pytest.raises(ValueError, match="names no image"):
        photos.read(Raw(tmp_path / "in"), select(by="list"), rule)


def test_copies_are_one_image_that_lies_in_the_folders_of_all(tmp_path):
    """Good images are often copied into a folder of their own, whose name may come last."""
    copied = {f"sharp/{i}.png": FILES[f"rest/{i}.png"] for i in range(2)}
    make_folder(tmp_path / "in", FILES | copied)
    good = photos.read(Raw(tmp_path / "in"), select(folders=("sharp",)))
    rest = photos.read(Raw(tmp_path / "in"), select(without=("sharp",)))
    assert names(good) == ["rest/0.png", "rest/1.png"] and len(rest.rows) == 6
    np.testing.assert_array_equal(good.images, read(tmp_path / "other", FILES).images[4:6])
    whole = photos.read(Raw(tmp_path / "in"), SPEC)
    assert sorted([*good.rows, *rest.rows]) == whole.rows.tolist()
    for part, selection in ((good, SelectSpec(folders=("sharp",))), (rest, SelectSpec(without=("sharp",)))):
        assert photos.chosen(whole, selection).rows.tolist() == part.rows.tolist()
    rule = tmp_path / "good.txt"
    rule.write_text("sharp/1.png\n")
    assert names(photos.read(Raw(tmp_path / "in"), select(by="list"), rule)) == ["rest/1.png"]
    table(tmp_path, [(name, i) for i, name in enumerate([*FILES, *copied]) if name != "rest/0.png"])
    scored = photos.read(Raw(tmp_path / "in"), select(by="scores", column="score", at_least=0.0),
                         tmp_path / "scores.csv")
    assert scored.scores.tolist() == [0, 1, 2, 3, 8, 5, 6, 7]  # a copy's, where it has none of its own


def test_a_name_that_can_not_be_shown_is_left_out(tmp_path):
    """Prepared data keep names in lines: one in two lines would give each image after it another's name."""
    found = read(tmp_path / "in", {"a\nb.png": encoded(noisy(0)), "c.png": encoded(noisy(1))})
    assert names(found) == ["c.png"] and found.rows.tolist() == [0]
    reason, = found.left_out
    assert reason.startswith("files whose names have characters that can't be shown")
    assert found.examples[reason] == "a?b.png"


@pytest.mark.parametrize("line, message", [
    ("BEST/1.jpg", r"'BEST/1.jpg' is no image of the folder \(did you mean 'best/1.png'"),
    ("best/9.png", r"line 1: 'best/9.png' is no image of the folder \(did you mean 'best/"),
    ("0.png", "it may be any of best/0.png, rest/0.png"), ("", "names no image")])
def test_a_list_that_can_not_be_meant_is_refused(tmp_path, line, message):
    rule = tmp_path / "good.txt"
    rule.write_text(line)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "in", FILES, select(by="list"), rule)


def table(tmp_path, rows):
    path = tmp_path / "scores.csv"
    path.write_text("file,score\n" + "".join(f"{name},{score}\n" for name, score in rows))
    return path


def test_a_column_of_scores_with_a_threshold(tmp_path):
    rule = table(tmp_path, [(name, i) for i, name in enumerate(FILES)])
    found = read(tmp_path / "in", FILES, select(by="scores", column="score", at_least=5.0), rule)
    assert names(found) == list(FILES)[5:] and found.scores.tolist() == [5, 6, 7]


@pytest.mark.parametrize("rows, message", [
    ([("best/0.png", "nan")], "line 2: score is 'nan', allowed: a finite number"),
    ([("best/0.png", 1)], "no score for 7 images, the first is best/1.png")])
def test_scores_that_are_none_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "in", FILES, select(by="scores", column="score", at_least=5.0), table(tmp_path, rows))


@pytest.mark.parametrize("text", [
    "file;score\n{0};0,25\n{1};1,5\n", "file\tscore\n{0}\t0.25\n{1}\t1.5\n",
    "\ufeffpath , score\r\n{0},0.25\r\n{1}, 1.5\r\n",
    "file,score\n{0},0.25\n{1},1.5\nelsewhere.jpg,9\n{1},1.5\n"])
def test_tables_as_programs_write_them(tmp_path, text):
    """Semicolons with decimal commas, tabs, spaces around titles, rows of other images, a row twice."""
    rule = tmp_path / "scores.csv"
    rule.write_text(text.format("best/0.png", "rest\\1.png"), newline="")
    files = {name: FILES[name] for name in ("best/0.png", "rest/1.png")}
    found = read(tmp_path / "in", files, select(by="scores", column="score", at_least=0.0), rule)
    assert found.scores.tolist() == [0.25, 1.5]


@pytest.mark.parametrize("text, message", [
    ("best/0.png,1\nbest/1.png,1\n", "its first line must have the columns' titles, one of them name, file"),
    ("file,score\nbest/0.png,1\nbest/0.png,2\n", "line 3: best/0.png has another score than in a line"),
    ("file,score\nbest/0.png,85%\n", "line 2: score is '85%', allowed: a finite number"),
    ("file,score\nbest/0.png,\"0,5\"\n", "line 2: score is '0,5', allowed: a finite number")])
def test_tables_that_can_not_be_meant_are_refused(tmp_path, text, message):
    rule = tmp_path / "scores.csv"
    rule.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "in", FILES, select(by="scores", column="score", at_least=0.0), rule)


def test_a_missing_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no column 'mark'; its columns are file, score"):
        read(tmp_path / "in", FILES, select(by="scores", column="mark", at_least=1.0), table(tmp_path, []))


@pytest.mark.parametrize("text, chosen, message", [
    ("best/9.png\n", {"by": "list"}, "line 1: 'best/9.png' is no image"),
    ("file,score\nbest/0.png,x\n", {"by": "scores", "column": "score", "at_least": 0.0},
     "line 2: score is 'x'"),
    (None, {"by": "list"}, "select.by is list, which needs a file")])
def test_a_rule_is_looked_through_before_an_image_is_read(tmp_path, monkeypatch, text, chosen, message):
    rule = tmp_path / "rule"
    if text:
        rule.write_text(text)
    monkeypatch.setattr(photos, "looks", None)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "in", FILES, select(**chosen), rule if text else None)


def test_a_measure_of_quality_tells_which_are_good(tmp_path):
    flat = {f"flat/{i}.png": encoded(np.full((24, 24, 3), 10 * i, np.uint8)) for i in range(3)}
    files = flat | {f"noise/{i}.png": encoded(noisy(i, 24, 24)) for i in range(3)}
    spec = DatasetSpec("photos", 24, 3, crop="centre", select=SelectSpec(by="quality", measure="contrast",
                                                                         at_least=0.1))
    found = read(tmp_path / "in", files, spec)
    assert names(found) == [name for name in files if name.startswith("noise")]
    assert found.scores.tolist() == [measure("contrast")(image) for image in found.images]


@pytest.mark.parametrize("settings, key", [
    ({"by": "scores"}, "column"), ({"by": "quality"}, "measure"), ({"good": False}, "by"),
    ({"by": "list", "at_least": 1.0}, "at_least")])
def test_a_selection_that_contradicts_itself_is_refused(settings, key):
    with pytest.raises(SpecError, match=f"^{key}: "):
        SelectSpec(**settings)


def test_the_crop_belongs_to_photographs():
    settings = {"resolution": 8, "channels": 3}
    with pytest.raises(SpecError, match="d: missing key 'crop'"):
        build(DatasetSpec, settings | {"source": "photos"}, "d")
    with pytest.raises(SpecError, match="d: unknown key 'crop'"):
        build(DatasetSpec, settings | {"source": "images", "crop": "pad"}, "d")


def prepare_photos(spec, raw, out, rule=None):
    record = Record()
    prepare.main(spec, record, raw=raw, out=out, rule=rule)
    return datasets.read(out), record


def test_the_stage_keeps_names_and_scores_and_notes_the_rule(tmp_path):
    rule = table(tmp_path, [(name, i) for i, name in enumerate(FILES)])
    make_folder(tmp_path / "in", FILES)
    spec = select(by="scores", column="score", at_least=6.0, sha256=sha256(rule))
    data, record = prepare_photos(spec, tmp_path / "in", tmp_path / "out.safetensors", rule)
    assert data.file_names == list(FILES)[6:] and data.scores.tolist() == [6, 7]
    assert data.ids.tolist() == [6, 7]
    assert record.facts["left_out"] == {"images that are not good by the rule": 6}
    assert [(one["name"], one["sha256"]) for one in record.outside][1:] == [("rule", sha256(rule))]
    rule.write_text(rule.read_text() + "\n")
    with pytest.raises(ValueError, match="it changed meanwhile; run the same command again"):
        prepare_photos(spec, tmp_path / "in", tmp_path / "out.safetensors", rule)


def test_two_parts_of_a_folder_make_the_mixture_that_one_dataset_would(tmp_path):
    make_folder(tmp_path / "in", FILES)
    good, _ = prepare_photos(select(folders=("best",)), tmp_path / "in", tmp_path / "good.safetensors")
    rest, _ = prepare_photos(select(without=("best",)), tmp_path / "in", tmp_path / "rest.safetensors")
    spec = MixtureSpec(1.0, 0, "add", {"dataset": "rest", "same_source": True})
    mixed = mix(spec, good, rest)
    whole, _ = prepare_photos(SPEC, tmp_path / "in", tmp_path / "whole.safetensors")
    np.testing.assert_array_equal(mixed.images, whole.images)
    assert mixed.ids.tolist() == list(range(8)) and mixed.corrupted.tolist() == [0] * 4 + [1] * 4
    assert mixed.file_names == list(FILES)
    assert mix(MixtureSpec(1.0, 0), good).file_names == list(FILES)[:4]
    with pytest.raises(ValueError, match="image 0 is in the dataset and among the added ones, 4 in all"):
        mix(spec, good, good)
