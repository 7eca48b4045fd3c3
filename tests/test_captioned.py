"""Captions in stored data: read by each source, kept once each, carried through mixtures, refused by name."""

import json
import re
import struct
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from raw_images import PIXELS, encoded, make_folder, prepared
from t2i_vectors import REFERENCE, needs_reference
from t2i_vectors import read as vectors
from tiny import kept

from ambient.annotation.levels import Inputs
from ambient.annotation.methods import by_source
from ambient.data import mds, texts
from ambient.data.annotations import Annotations
from ambient.data.captions import clean_caption
from ambient.data.datasets import Dataset, read, write
from ambient.data.texts import Texts
from ambient.jobs.stage import Record
from ambient.settings import Experiments
from ambient.specs import DatasetSpec, MixtureSpec
from ambient.specs.strict import SpecError, plain
from ambient.stages import prepare
from ambient.stages.combine import combine
from ambient.stages.corrupt import mix

SAID = ["a red kite", "zwei  Drachen\n", "a red kite", None, "naïve 🪁", ""]
KEPT = ["a red kite", "zwei Drachen", "a red kite", None, "naïve 🪁", ""]
IMAGES = PIXELS.transpose(0, 3, 1, 2)


def captioned(captions=SAID, first=0):
    count = len(captions)
    return Dataset(IMAGES[:count], np.full(count, -1), np.arange(first, first + count),
                   captions=Texts.of(captions))


def test_distinct_captions_are_kept_once_and_survive_the_file(tmp_path):
    write(tmp_path / "d", captioned())
    found = read(tmp_path / "d")
    assert found.captions.of_images() == KEPT and found.captions.texts == sorted({*KEPT} - {None})
    assert len(found.captions) == 4 and found.captions.rows.tolist() == [1, 3, 1, texts.NONE, 2, 0]
    some = found.taken(np.array([4, 0, 4])[:2][::-1])
    assert some.captions.of_images() == [KEPT[0], KEPT[4]] and len(some.captions) == 2
    digests = found.captions.digests()
    assert digests.shape == (4, 16) and len(np.unique(digests, axis=0)) == 4


def test_a_list_of_prompts_has_no_images(tmp_path):
    write(tmp_path / "d", Dataset(None, np.full(2, -1), np.arange(2), captions=Texts.of(["b", "a"])))
    assert read(tmp_path / "d").captions.of_images() == ["b", "a"]
    with pytest.raises(ValueError, match="1 captions for 6 images"):
        Dataset(IMAGES, np.full(6, -1), np.arange(6), captions=Texts.of(["a"]))
    with pytest.raises(ValueError, match="do not end where"):
        Texts(np.zeros(3, np.uint8), np.array([2]), np.array([0]))


def test_mixtures_carry_captions(tmp_path):
    data, other = captioned(), captioned(["b", "a red kite"])
    half = mix(MixtureSpec(0.5, 0, "gaussian_blur", {"sigma_px": 1.0}), data)
    assert half.captions.of_images() == KEPT and 0 < half.corrupted.sum() < 6
    fewer = mix(MixtureSpec(0.5, 0), data)
    assert fewer.captions.of_images() == [KEPT[i] for i in fewer.ids]
    both = mix(MixtureSpec(1.0, 0, "add", {"dataset": "others"}), data, other)
    assert both.captions.of_images() == [*KEPT, "b", "a red kite"] and len(both.captions) == 5
    bare = Dataset(IMAGES[:2], np.full(2, -1), np.arange(2))
    some = mix(MixtureSpec(1.0, 0, "add", {"dataset": "others"}), data, bare)
    assert some.captions.of_images() == [*KEPT, None, None]
    levels = [Annotations(one.ids, np.zeros(len(one.ids)), np.zeros(len(one.ids))) for one in (both, some)]
    together, _ = combine([(both, levels[0]), (some, levels[1])])
    assert together.captions.of_images() == [*KEPT, "b", "a red kite"]
    bare, _ = combine([(both, levels[0]), (some, levels[1])], keep=False)
    assert bare.images is None and bare.captions.of_images() == together.captions.of_images()
    np.testing.assert_array_equal(bare.shown([both, some]).images, together.images)
    asked = iter([both, some, data])
    bare.taken(np.isin(bare.ids, both.ids)).shown(asked)
    assert next(asked) is some  # no more are read than are needed


def test_the_level_of_added_images_is_that_of_their_source():
    spec = DatasetSpec("images", 8, 3, sigma_min=2.0, licence="CC0")
    assert "sigma_min" not in plain(spec.portable()) and plain(spec.portable())["licence"] == "CC0"
    levels = by_source.annotate(AnnotationOf(2.0), None, Inputs(), None)
    assert (levels.sigma_min, levels.sigma_max) == (2.0, 0.0)
    with pytest.raises(ValueError, match="sigma_min"):
        by_source.annotate(AnnotationOf(None), None, Inputs(), None)


class AnnotationOf:
    """What the method reads of its specification."""

    def __init__(self, sigma_min):
        self.sigma_min = sigma_min


# --- sources --------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[1]
PHOTOS = {"a.png": encoded(PIXELS[0]), "a.txt": b"a red  kite\n", "b.png": encoded(PIXELS[1]),
          "c.png": encoded(PIXELS[2]), "c.txt": "naïve".encode()}


def test_photographs_with_a_text_beside_each(tmp_path):
    spec = DatasetSpec("photos", 8, 3, crop="centre", captions="beside")
    data, record = prepared(spec, make_folder(tmp_path / "in", PHOTOS), tmp_path)
    assert data.captions.of_images() == ["a red kite", "naïve"] and data.ids.tolist() == [0, 2]
    np.testing.assert_array_equal(data.images, IMAGES[[0, 2]])
    assert record.facts["captions"] == 2 and record.facts["captions_from"] == "NAME.txt beside each image"
    assert record.facts["left_out"] == {"images without a caption": 1}
    more = {"a.jpg": encoded(PIXELS[3], "JPEG"), "b.txt": b"\xff", "notes.md": b""}
    _, record = prepared(spec, make_folder(tmp_path / "more", PHOTOS | more), tmp_path)
    assert record.facts["left_out"] == {"images without a caption": 1, "files that are no images": 1,
                                        "files of captions that are no text in UTF-8": 1}
    uncaptioned, record = prepared(DatasetSpec("photos", 8, 3, crop="centre"), tmp_path / "in", tmp_path)
    assert uncaptioned.captions is None and "captions" not in record.facts


@pytest.mark.parametrize("number", [0, -4])
def test_a_number_of_images_that_is_none_is_refused(number):
    with pytest.raises(SpecError, match=f"num_images: got {number}, allowed: > 0, or null"):
        DatasetSpec("photos", 8, 3, crop="centre", num_images=number)


def test_photographs_with_a_table(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("file,caption\nb.png,b\na.png,\n")
    spec = DatasetSpec("photos", 8, 3, crop="centre", captions="table", table=str(table))
    portable, record = spec.portable(), Record()
    assert portable.table is None and portable.table_sha256 and spec.captioned
    raw = make_folder(tmp_path / "in", {name: one for name, one in PHOTOS.items() if name.endswith(".png")})
    prepare.main(portable, record, raw=raw, state=kept(tmp_path / "state"), out=tmp_path / "out", table=table)
    assert read(tmp_path / "out").captions.of_images() == ["b"]
    assert [one["name"] for one in record.outside] == ["raw", "table"]
    table.write_text("file,caption\nb.png,c\n")
    with pytest.raises(ValueError, match="changed since the configuration was read"):
        prepare.main(portable, Record(), raw=raw, state=kept(tmp_path / "state"), out=tmp_path / "out",
                     table=table)


def tar_of(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return path


SHARDS = {"0.tar": {"x/1.png": PHOTOS["a.png"], "x/1.txt": b"one", "x/2.png": PHOTOS["b.png"],
                    "x/2.json": json.dumps({"width": 8, "prompt": "two"}).encode()},
          "1.tar": {"1.png": PHOTOS["c.png"], "1.txt": b" ", "3.png": encoded(PIXELS[3, :7]),
                    "3.txt": b"three", "4.png": encoded(PIXELS[4]), "4.txt": b"four"}}


def shards_at(folder, changes=()):
    for name, files in SHARDS.items():
        tar_of(folder / name, files | dict(changes) if name == "1.tar" else files)
    return folder


def test_tars_of_a_webdataset(tmp_path):
    spec = DatasetSpec("webdataset", 8, 3)
    folder = shards_at(tmp_path / "in", {"4.txt": b"\xef\xbb\xbffour", "._4.png": b"", "__MACOSX/4.png": b""})
    (folder / "1.tar").rename(folder / "1.TAR")
    make_folder(folder, {"0_stats.json": b"{}"})
    data, record = prepared(spec, folder, tmp_path)
    assert data.captions.of_images() == ["one", "two", "four"] and data.ids.tolist() == [0, 1, 4]
    np.testing.assert_array_equal(data.images, IMAGES[[0, 1, 4]])
    assert record.facts["left_out"] == {"images without a caption": 1, "smaller than 8 pixels": 1,
                                        "hidden files": 2, "files that are not .tar": 1}
    assert data.file_names[0] == "0.tar: x/1"
    for name in ("3.tar.gz", "2.tgz", "1.TAR.zst"):  # the first one of them is named
        make_folder(folder, {name: b""})
        with pytest.raises(ValueError, match=f"{name} is compressed"):
            prepared(spec, folder, tmp_path)


@pytest.mark.parametrize("enlarge", [False, True])
def test_images_of_coco_are_taken_though_their_shorter_side_is_480(tmp_path, enlarge):
    """At 512 pixels, here 8. The reference of Table 9a would have been of the few that are larger."""
    files = {f"{k}.png": encoded(PIXELS[k, :6]) for k in range(4)}
    files |= {f"{k}.txt": b"a" for k in range(4)}
    spec = DatasetSpec("webdataset", 8, 3, enlarge=enlarge)
    folder = tar_of(tmp_path / "in/0.tar", files | {"4.png": encoded(PIXELS[4]), "4.txt": b"b"}).parent
    data, record = prepared(spec, folder, tmp_path)
    assert len(data.images) == (5 if enlarge else 1)
    assert record.facts["left_out"] == ({} if enlarge else {"smaller than 8 pixels": 4})
    done = record.facts["converted"].get("enlarged, and blurred by that, to 8 pixels")
    assert done == (4 if enlarge else None)
    paper = Experiments(ROOT / "config", "paper")
    assert paper.dataset("coco").enlarge and not paper.dataset("sa-1b").enlarge


def test_captions_are_cleaned_where_that_is_asked(tmp_path):
    shards = shards_at(tmp_path / "in", {"4.txt": b"IMG_1234.jpg  A Dog, free shipping", "1.txt": b"#12"})
    data, record = prepared(DatasetSpec("webdataset", 8, 3, clean_captions=True), shards, tmp_path)
    assert data.captions.of_images() == ["one", "two", clean_caption("IMG_1234.jpg A Dog, free shipping")]
    assert "free shipping" not in data.captions.texts[-1]
    assert record.facts["left_out"]["images without a caption"] == 1
    raw = make_folder(tmp_path / "photos", PHOTOS | {"a.txt": b"A  Dog", "c.txt": b"#12"})
    spec = DatasetSpec("photos", 8, 3, crop="centre", captions="beside", clean_captions=True)
    assert prepared(spec, raw, tmp_path)[0].captions.of_images() == ["a dog"]
    with pytest.raises(SpecError, match="clean_captions: got True, allowed: true for images with captions"):
        DatasetSpec("images", 8, 3, clean_captions=True)


@pytest.mark.parametrize("changes, message", [
    ({"4.png": b"no image"}, "the image of 1.tar: 4 is damaged"),
    ({"4.png": PHOTOS["a.png"][:90]}, "the image of 1.tar: 4 is damaged or cut short"),
    ({"5.txt": b"five"}, "5 has only 5.txt, allowed: one image"),
    ({"README": b"mine"}, "README has only README, allowed: one image"),
    ({"a.b.png": b"", "a.b.txt": b""}, "a has only a.b.png, a.b.txt, .*whose ending begins at the first dot"),
    ({"4.jpg": PHOTOS["a.png"]}, "4 has the images 4.jpg and 4.png"),
    ({"4.PNG": PHOTOS["a.png"]}, "4.png and 4.PNG differ in case alone"),
    ({"5\n6.png": PHOTOS["a.png"]}, "has a line break in its name"),
    ({"4.txt": b"\xff"}, "/in/1.tar: 4: its caption is no text"),
    ({"4.txt": b"k\0i\0t\0e\0"}, "/in/1.tar: 4: its caption is no text"),
    ({"5.png": PHOTOS["a.png"], "5.json": b'{"caption": 5}'}, "/in/1.tar: 5: its caption is no text"),
    ({"5.png": PHOTOS["a.png"], "5.json": b'{"text": "\\ud83d"}'}, "/in/1.tar: 5: its caption is no text")])
def test_a_damaged_sample_is_refused_by_its_name_and_leaves_no_file(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        prepared(DatasetSpec("webdataset", 8, 3), shards_at(tmp_path / "in", changes), tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def mds_of(folder, rows, image="jpg", encoding="jpeg"):
    """A folder of one shard, written by the format's description."""
    columns = {"caption": "str", image: encoding}
    bodies = [struct.pack("<2I", *(len(row[name]) for name in columns)) + b"".join(map(row.get, columns))
              for row in rows]
    head, about = 4 * (len(rows) + 2), b"{}"
    ends = np.cumsum([head + len(about), *map(len, bodies)]).astype("<u4")
    shard = struct.pack("<I", len(rows)) + ends.tobytes() + about + b"".join(bodies)
    index = {"version": 2, "shards": [{
        "column_names": list(columns), "column_encodings": list(columns.values()),
        "column_sizes": [None, None], "compression": None, "format": "mds", "hashes": [],
        "samples": len(rows), "size_limit": 67108864,
        "raw_data": {"basename": "3/shard.00000.mds", "bytes": len(shard), "hashes": {}}, "version": 2,
        "zip_data": None}]}
    return make_folder(folder, {"index.json": json.dumps(index).encode(), "3/shard.00000.mds": shard})


def test_shards_of_mds(tmp_path):
    rows = [{"caption": b"one", "jpg": PHOTOS["a.png"]}, {"caption": b"two", "jpg": PHOTOS["b.png"]}]
    folder = mds_of(tmp_path / "in", rows)
    data, _ = prepared(DatasetSpec("mds", 8, 3), folder, tmp_path)
    assert data.captions.of_images() == ["one", "two"]
    np.testing.assert_array_equal(data.images, IMAGES[:2])
    facts = prepared(DatasetSpec("mds", 8, 3), make_folder(folder, {"x.mds": b""}), tmp_path)[1].facts
    assert facts["left_out"] == {"files that index.json does not name": 1}
    with pytest.raises(ValueError, match="has no column 'image'"):
        prepared(DatasetSpec("mds", 8, 3, image="image"), folder, tmp_path)
    shard = folder / "3/shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match=re.escape(f"{shard}: sample 1 is cut short: fetch it")):
        prepared(DatasetSpec("mds", 8, 3), folder, tmp_path)
    mds_of(folder, [{"caption": b"\xff", "jpg": PHOTOS["a.png"]}])
    with pytest.raises(ValueError, match=re.escape(f"{shard}, sample 0: its caption is no text in UTF-8: ")):
        prepared(DatasetSpec("mds", 8, 3), folder, tmp_path)


@pytest.mark.parametrize(("changes", "message"), [
    ({"samples": -3}, "(-3 samples,"), ({"samples": 10**12}, "it has 1 samples, index.json 1000000000000"),
    ({"samples": 1.5}, "(1.5 samples,"), ({"column_sizes": ["a", None]}, "the sizes ['a', None]"),
    ({"column_sizes": [None, -4]}, "the sizes [None, -4]"), ({"column_sizes": [None]}, "the sizes [None]"),
    ({"raw_data": {"basename": "../index.json"}}, "../index.json is missing"), (None, "shards is no list"),
    ({}, "index.json names 3/shard.00000.mds 2 times")])
def test_an_index_that_describes_no_shard_is_refused(tmp_path, changes, message):
    folder = mds_of(tmp_path / "in", [{"caption": b"one", "jpg": PHOTOS["a.png"]}])
    index = json.loads((folder / "index.json").read_text())
    index["shards"] = None if changes is None else [index["shards"][0], index["shards"][0] | changes]
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=re.escape(message)):
        prepared(DatasetSpec("mds", 8, 3), folder, tmp_path)


def test_samples_that_do_not_follow_each_other_are_refused(tmp_path):
    folder = mds_of(tmp_path / "in", [{"caption": b"one", "jpg": PHOTOS["a.png"]}])
    shard = folder / "3/shard.00000.mds"
    content = shard.read_bytes()
    for offsets in ((4, 20), (40, 20)):  # the first one lies in the list of offsets itself
        shard.write_bytes(content[:4] + struct.pack("<2I", *offsets) + content[12:])
        with pytest.raises(ValueError, match="3/shard.00000.mds is cut short, or its samples don't follow"):
            prepared(DatasetSpec("mds", 8, 3), folder, tmp_path)


def test_rows_of_parquet_files(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    parquet = pytest.importorskip("pyarrow.parquet")
    files = [{"bytes": PHOTOS[name], "path": name} for name in ("a.png", "b.png", "c.png")]
    (tmp_path / "in").mkdir()
    table = arrow.table({"image": files, "caption": [["one", "1"], ["two"], []]})
    parquet.write_table(table, tmp_path / "in/0.parquet", row_group_size=2)
    parquet.write_table(arrow.table({"image": [encoded(PIXELS[3])], "caption": ["four"]}),
                        tmp_path / "in/1.PARQUET")
    data, record = prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)
    assert data.captions.of_images() == ["one", "two", "four"] and data.ids.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(data.images, IMAGES[[0, 1, 3]])
    assert record.facts["left_out"] == {"images without a caption": 1}
    (tmp_path / "in/1.PARQUET").unlink()
    twice = arrow.table([arrow.array(["one"])] * 3, ["image", "caption", "caption"])
    parquet.write_table(twice, tmp_path / "in/1.parquet")
    with pytest.raises(ValueError, match="1.parquet: has several columns 'caption'"):
        prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)
    for columns, said in (({"image": [PHOTOS["a.png"]], "caption": [5]}, "'caption' holds int64, allowed"),
                          ({"image": [5], "caption": ["five"]}, "'image' holds int64, allowed: the bytes")):
        parquet.write_table(arrow.table(columns), tmp_path / "in/1.parquet")
        with pytest.raises(ValueError, match=f"1.parquet: the column {said}"):
            prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)
    parquet.write_table(arrow.table({"image": arrow.array([PHOTOS["a.png"], None], arrow.binary()),
                                     "caption": ["five", None]}), tmp_path / "in/1.parquet")
    assert prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)[1].facts["left_out"] == {
        "images without a caption": 2}
    with pytest.raises(ValueError, match="0.parquet: has no column 'text'; its columns are image, caption"):
        prepared(DatasetSpec("parquet", 8, 3, caption="text"), tmp_path / "in", tmp_path)
    parquet.write_table(arrow.table({"image": [b"none", None], "caption": ["five", "six"]}),
                        tmp_path / "in/1.parquet")
    with pytest.raises(ValueError, match="the image of 1.parquet, row 0 is damaged"):
        prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)
    parquet.write_table(arrow.table({"image": [PHOTOS["a.png"]] * 2, "caption": ["five", "six"]}),
                        tmp_path / "in/1.parquet")
    content = (tmp_path / "in/1.parquet").read_bytes()
    (tmp_path / "in/1.parquet").write_bytes(content[:40] + bytes(40) + content[80:])
    with pytest.raises(ValueError, match="the image of 1.parquet, row 0 is in a damaged group of rows"):
        prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)
    (tmp_path / "in/1.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="/in/1.parquet: "):
        prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)


@pytest.mark.parametrize(("image", "caption"), [
    ("binary", "string"), ("large_binary", "large_string"), ("binary_view", "string_view"),
    ("dictionary", "dictionary"), ("struct", "list"), ("binary", "fixed_size_list")])
def test_columns_of_parquet_files_in_all_types_of_bytes_and_of_text(tmp_path, image, caption):
    arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    parquet = pytest.importorskip("pyarrow.parquet")
    types = {"dictionary": lambda kind: arrow.dictionary(arrow.int32(), kind),
             "struct": lambda kind: arrow.struct([("bytes", kind), ("path", arrow.string())]),
             "list": arrow.list_, "fixed_size_list": lambda kind: arrow.list_(kind, 1)}
    files, texts = [PHOTOS["a.png"], PHOTOS["b.png"], PHOTOS["a.png"]], ["one", "two", "one"]
    files = [{"bytes": one, "path": None} for one in files] if image == "struct" else files
    texts = [[one] for one in texts] if "list" in caption else texts
    columns = [arrow.array(values, types[name](inner()) if name in types else getattr(arrow, name)())
               for values, name, inner in ((files, image, arrow.binary), (texts, caption, arrow.string))]
    (tmp_path / "in").mkdir()
    parquet.write_table(arrow.table(columns, ["image", "caption"]), tmp_path / "in/0.parquet")
    data, _ = prepared(DatasetSpec("parquet", 8, 3), tmp_path / "in", tmp_path)
    assert data.captions.of_images() == ["one", "two", "one"]
    np.testing.assert_array_equal(data.images, IMAGES[[0, 1, 0]])


def test_a_parquet_file_whose_groups_have_other_rows_than_its_columns_is_damaged(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    parquet = pytest.importorskip("pyarrow.parquet")
    file, rows = tmp_path / "in/0.parquet", 37
    file.parent.mkdir()
    parquet.write_table(arrow.table({"image": [PHOTOS["a.png"]] * rows, "caption": ["one"] * rows}), file)
    content = bytearray(file.read_bytes())
    content[content.rindex(2 * rows)] += 2  # the rows of the group, as the format writes numbers
    file.write_bytes(content)
    assert parquet.ParquetFile(file).metadata.row_group(0).num_rows == rows + 1
    with pytest.raises(ValueError, match="/in/0.parquet: has 37 captions in groups of 38 rows"):
        prepared(DatasetSpec("parquet", 8, 3), file.parent, tmp_path)


@needs_reference
def test_mds_as_its_own_library_writes_it():
    known, folder = vectors("mds"), REFERENCE / "mds"
    found = [one.sample(i) for one in mds.shards(folder, lambda name: folder / name) for i in range(len(one))]
    assert len(found) == len(known["samples"]) == 11
    for sample, expected in zip(found, known["samples"], strict=True):
        assert sample["caption"].decode() == expected["caption"]
        for name in known["shapes"]:
            np.testing.assert_array_equal(np.frombuffer(sample[name], "<f2"),
                                          np.array(expected[name], np.float16).ravel())


def test_prompts_keep_their_order(tmp_path):
    spec = DatasetSpec("prompts", 8, 3)
    (tmp_path / "p.txt").write_text("b\na  cat\nb\n")
    data, record = prepared(spec, tmp_path / "p.txt", tmp_path)
    assert data.images is None and data.captions.of_images() == ["b", "a cat", "b"]
    assert record.facts["captions"] == 2
    rows = [{"tag": "colors", "include": [], "prompt": "a photo of a red dog"}, {"prompt": "two cats"}]
    (tmp_path / "g.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert prepared(spec, tmp_path / "g.jsonl", tmp_path)[0].captions.of_images() == [
        row["prompt"] for row in rows]
    (tmp_path / "c.csv").write_text('id,caption\n1,"a dog,\non grass"\n')
    assert prepared(spec, tmp_path / "c.csv", tmp_path)[0].captions.of_images() == ["a dog, on grass"]
    (tmp_path / "t.tsv").write_text('Prompt\tCategory\n"a" dog, red\tColors\nfive  cats\tFood & Drinks\n'
                                    '"two\tColors\n')
    data, record = prepared(spec, tmp_path / "t.tsv", tmp_path)
    assert data.captions.of_images() == ['"a" dog, red', "five cats", '"two']
    assert data.file_names == ["Colors/1", "Food & Drinks/2", "Colors/3"]
    assert data.labels.tolist() == [0, 1, 0]
    assert record.facts["class_names"] == {"0": "Colors", "1": "Food & Drinks"}
    (tmp_path / "c.csv").write_text("prompts,category\na,Text\nb,\n")
    with pytest.raises(ValueError, match="c.csv, line 3: got '', allowed: a category on every line"):
        prepared(spec, tmp_path / "c.csv", tmp_path)
    (tmp_path / "p.txt").write_text("b\n\na\n")
    with pytest.raises(ValueError, match="p.txt, line 2: got '', allowed: a caption"):
        prepared(spec, tmp_path / "p.txt", tmp_path)


@pytest.mark.parametrize(("name", "text", "message"), [
    ("c.csv", "caption\na dog, on grass\n", "line 2: got ' on grass' behind the last column"),
    ("c.tsv", "prompt\tcategory\na\tb\tc\n", "c.tsv, line 2: got 'c' behind the last column"),
    ("c.json", '[{"text": "a"}]', "c.json: allowed: .jsonl, an object a line"),
    ("c.csv", f"caption\n{'a' * 200_000}\n", "c.csv, line 2: field larger than field limit"),
    ("c.jsonl", '{"text": "a \\ud83d dog"}\n', "line 1: got 'a \\ud83d dog', allowed: a caption on every")])
def test_a_list_that_would_lose_words_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        prepared(DatasetSpec("prompts", 8, 3), tmp_path / name, tmp_path)


def test_a_caption_may_hold_other_breaks_of_lines_than_its_file(tmp_path):
    """JSON may have U+2028 as it is, and texts a form feed: each is white space of a caption."""
    (tmp_path / "c.jsonl").write_text('{"text": "a\u2028dog"}\n{"text": "a cat\x85"}\n')
    (tmp_path / "c.txt").write_bytes("a\u2028dog\r\na\x0ccat\rred".encode())
    for name, said in (("c.jsonl", ["a dog", "a cat"]), ("c.txt", ["a dog", "a cat", "red"])):
        data, _ = prepared(DatasetSpec("prompts", 8, 3), tmp_path / name, tmp_path)
        assert data.captions.of_images() == said
