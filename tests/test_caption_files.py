"""Captions of own images: where they are read from, what is said of them, what is refused."""

import json
import shutil

import pytest
from clones import configuration
from raw_images import make_folder, make_zip
from test_new import GOOD, OTHER, folder, new

from ambient.commands import new_speed
from ambient.commands.new_captions import too_long
from ambient.data.caption_files import beside, from_table, prompts_of
from ambient.data.image_files import Archive, Folder
from ambient.data.raw import Raw

IMAGES = ["a.png", "sub/b.jpg", "sub/c.png"]


def among(path, files):
    """Captions that lie among IMAGES in a folder."""
    return beside(Folder(Raw(make_folder(path, files))), IMAGES, sorted(files))


def test_a_text_beside_each_image(tmp_path):
    files = {"a.txt": b"\xef\xbb\xbfa  red\r\n kite\n", "sub/b.txt": b"\xe9t\xe9", "sub/readme.txt": b"hello"}
    found = among(tmp_path / "in", files)
    assert found.texts == {"a.png": "a red kite"}
    assert (found.files, found.undecoded) == (["a.txt", "sub/b.txt"], ["sub/b.txt"])
    zipped = beside(Archive(Raw(make_zip(tmp_path / "in.zip", files))), IMAGES, sorted(files))
    assert zipped == found


def test_an_imagefolder_names_images_from_the_folder_of_its_table(tmp_path):
    rows = [{"file_name": "b.jpg", "text": "a kite"}, {"file_name": "a.png", "text": "elsewhere"}]
    found = among(tmp_path / "in", {
        "sub/metadata.jsonl": "\n".join(map(json.dumps, rows)).encode(), "a.txt": b"not read",
        "metadata.csv": b'file_name,text\na.png,"one, two"\n'})
    assert found.texts == {"sub/b.jpg": "a kite", "a.png": "one, two"}
    assert (found.strangers, found.by) == (["a.png"], "metadata.csv, metadata.jsonl")
    assert found.unused == {"captions in a table that are of no image here": 1}
    other = among(tmp_path / "other", {"sub/metadata.csv": b"file_name,text\n../a.png,A\n.\\b.jpg,B\n"})
    assert other.texts == {"a.png": "A", "sub/b.jpg": "B"}  # as names may be written
    files = Folder(Raw(make_folder(tmp_path / "mac", {"metadata.csv": "name,text\n\u00e9.png,E\n".encode()})))
    assert beside(files, ["e\u0301.png"], ["metadata.csv"]).texts == {"e\u0301.png": "E"}


@pytest.mark.parametrize("name, text", [
    ("t.csv", "image;Caption\r\nsub/b.jpg;a kite\r\nc.png;\r\nd.png;none\r\n"),
    ("t.jsonl", '{"name": "b.jpg", "caption": "a kite"}\n\n{"name": "sub/c.png", "caption": " "}\n'
     '{"name": "d.png", "caption": "none"}\n')])
def test_a_table_from_elsewhere_names_images_as_lists_do(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    found = from_table(tmp_path / name, IMAGES)
    assert found.texts == {"sub/b.jpg": "a kite", "sub/c.png": ""}
    assert (found.strangers, found.by, found.files) == (["d.png"], name, [])


@pytest.mark.parametrize("name, text, message", [
    ("t.csv", "name,score\na.png,1\n", "t.csv: needs a column of captions, one of text, caption, prompt; it"),
    ("t.csv", "id,text\na.png,1\n", "t.csv: needs a column of names, one of name, file"),
    ("t.jsonl", '{"name": "a.png"\n', "t.jsonl, line 1: not JSON"),
    ("t.jsonl", '\n["a.png"]\n', "t.jsonl, line 2: got '..a.png..', allowed: an object"),
    ("t.jsonl", '{"name": "a.png", "text": 1}\n', "line 1: text is 1, allowed: a text of whole characters"),
    ("t.jsonl", '{"name": "a.png", "text": "\\ud83d"}\n', r"line 1: text is '.ud83d', allowed: a text"),
    ("t.csv", 'name,text\na.png,one\nsub/b.jpg,"two\nsub/c.png,three\n', "t.csv, line 3: unexpected end of "),
    ("t.csv", "name,text, text\na.png,one,two\n", "t.csv: has two columns 'text'; take one out, or name"),
    ("t.csv", '"name,text\na.png,one\n', "t.csv, line 1: unexpected end of data"),
    ("t.csv", "n\0a\0m\0e\0,\0", "t.csv: not a text file in UTF-8"),
    ("t.csv", "name,text\na.png,one\n./a.png,two\n", "line 3: a.png has another caption"),
    ("t.parquet", "", "t.parquet: no table of captions, allowed: .csv or .jsonl"),
    ("t.csv", "name,text\na.png,\xe9\n", "t.csv: not a text file in UTF-8")])
def test_a_table_that_can_not_be_meant_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        from_table(tmp_path / name, IMAGES)


@pytest.mark.parametrize("name, text", [("T.CSV", "name,text\na.png,A\n"),
                                        ("T.Jsonl", '{"name": "a.png", "text": "A"}')])
def test_the_case_of_a_tables_ending_is_no_matter(tmp_path, name, text):
    """T.CSV was read as JSON."""
    (tmp_path / name).write_text(text)
    assert from_table(tmp_path / name, IMAGES).texts == {"a.png": "A"}


def test_no_caption_in_json_is_an_empty_one(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"name": "a.png", "text": null}')
    assert from_table(tmp_path / "t.jsonl", IMAGES).texts == {"a.png": ""}


def test_texts_in_utf_16_are_no_captions(tmp_path):
    """Without a mark at its begin such a text is one in UTF-8, too, with a character 0 behind each letter."""
    found = among(tmp_path / "in", {"a.txt": "a kite".encode("utf-16-le"), "sub/b.txt": b"kite"})
    assert (found.texts, found.undecoded) == ({"sub/b.jpg": "kite"}, ["a.txt"])


@pytest.mark.parametrize("name, text, message", [
    ("p.csv", 'prompt\n"one\ntwo\nthree\n', "p.csv, line 2: unexpected end of data"),
    ("p.tsv", "prompt\tprompt\none\ttwo\n", "p.tsv: has two columns 'prompt'"),
    ("p.jsonl", '{"prompt": "\\ud83d"}', r"line 1: got '.ud83d', allowed: .* half of a surrogate pair"),
    ("p.txt", "o\0n\0e\0", "p.txt: not a text file in UTF-8")])
def test_prompts_that_can_not_be_meant_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        prompts_of(tmp_path / name)


def test_a_folder_without_captions_is_refused(tmp_path):
    with pytest.raises(ValueError, match="in: no captions among the images, allowed: a text file NAME.txt"):
        among(tmp_path / "in", {"other.txt": b"hello"})


def test_words_and_marks_are_counted_against_the_tokens():
    """A begin and an end leave 75: 'word,' is a word and a mark."""
    assert not too_long(" ".join(["word"] * 75)) and too_long(" ".join(["word"] * 76))
    assert not too_long("word, " * 37) and too_long("word, " * 38)


def test_new_says_what_it_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(new_speed, "SECONDS", 0.0)
    images, config = folder(tmp_path / "photos"), configuration(tmp_path / "config")
    for i, path in enumerate(sorted((images / "best").iterdir())[:10]):
        path.with_suffix(".txt").write_text("" if i == 0 else "word " * 80 if i == 1 else f"bird {i // 2}")
    (images / "notes.txt").write_text("mine")
    shutil.copy(images / "best/0005.png", images / "rest/copy.png")  # one image, captioned by its first name
    assert new(config, "--images", images, "--good", images / "best", "--captions") == 0
    said = capsys.readouterr().out
    assert (f"captions (NAME.txt beside each image): 9 of {GOOD + OTHER} images have one, 5 distinct" in said)
    for line in ("230 images have none (such as best/0010.png)", "1 are empty (such as best/0000.png)",
                 "1 have more than 75 words and marks, so more than the 77 tokens",
                 "does not learn from captions: they stay where they are, pinned with the images",
                 "1 files that are no images\n"):
        assert line in said, line
    (config / "scales/birds.yaml").unlink()
    assert new(config, "--images", images, "--caption-table", tmp_path / "no.csv") == 2
    (table := tmp_path / "table.csv").write_text("name,words\nbest/0000.png,a bird\n")
    monkeypatch.setattr("ambient.data.photos.looks", None)  # no image is read before a table is
    assert new(config, "--images", images, "--caption-table", table) == 2
    assert f"{table}: needs a column of captions" in capsys.readouterr().err
