"""Which photographs of a folder are taken, and which count as good: by folders, lists, scores, a measure."""


import numpy as np
import pytest
from raw_images import encoded, make_folder, noisy
from tiny import kept

from ambient.data import datasets, photos
from ambient.data.measures import measure
from ambient.data.raw import Raw
from ambient.jobs.stage import Record
from ambient.specs import DatasetSpec, MixtureSpec, SelectSpec
from ambient.specs.strict import SpecError, build
from ambient.stages import prepare
from ambient.stages.corrupt import mix
from ambient.storage.files import sha256

SPEC = DatasetSpec("photos", 8, 3, crop="centre")


def read(folder, files, spec=SPEC, rule=None):
    return photos.read(Raw(make_folder(folder, files)), spec, rule)


def select(**settings):
    return DatasetSpec("photos", 8, 3, crop="centre", select=SelectSpec(**settings))


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
    prepare.main(spec, record, raw=raw, state=kept(out.with_name("state")), out=out, rule=rule)
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
