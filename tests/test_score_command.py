"""`python -m ambient score`: images from outside under a table's protocol, as a row that says so."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from results_tree import audit, refit
from safetensors.numpy import save_file

from ambient.commands import score
from ambient.data.submitted import Wanted, read
from ambient.report import page
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.strict import SpecError
from ambient.stages import outside
from ambient.storage.files import read_arrays, read_json, sha256, sha256_of_raw

RUN = "results/away/runs/ambient-blur-0.6/seed-0"
TABLE, COMPARED = Path("results/away/table2a.csv"), Path("results/away/table2a-with-outside.csv")
LINE = ["--protocol", "table2a", "--scale", "away", "--samples"]
GREY = Wanted(40, 1, 8)


@pytest.fixture
def theirs(copy):
    """The scale's own samples of sampling seed 1, and one image more, as somebody else's folder."""
    images = read_arrays(f"{RUN}/samples.safetensors")["256"][1]
    folder = Path("their samples")
    folder.mkdir()
    for k, image in enumerate([*images, images[0] // 2]):
        Image.fromarray(image[0]).save(folder / f"{k:03}.png")
    return folder


def test_a_row_from_outside_has_the_score_of_its_images(theirs, capsys):
    before = sha256(TABLE)
    assert score.main([*LINE, str(theirs), "--name", "Their model"]) == 0
    said = capsys.readouterr()
    own = next(one for one in read_json(f"{RUN}/metrics.json")["scores"] if one["seed"] == 1)
    table = pd.read_csv(COMPARED)
    assert list(table["origin"]) == ["here", "here", "outside"]
    assert table["value"].iloc[2] == pytest.approx(own["value"], rel=1e-5)
    assert table["method"].iloc[2] == "Their model" and table["run_id"].iloc[2] == "outside/their-model"
    assert list(table["num_samples"]) == [40, 40, 40] and table["value_std"].isna().iloc[2]
    assert sha256(TABLE) == before
    rows = [line.partition(",")[2] for line in COMPARED.read_text().splitlines()]
    assert rows[:3] == TABLE.read_text().splitlines()
    assert [line.split("  ")[-1] for line in said.out.splitlines()[1:4]] == [
        "Only Clean", "Ambient-o", "Their model (from outside)"]
    assert "Their model (from outside)" in said.out and "the first 40 by name or place" in said.err
    assert COMPARED.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    entry = yaml.safe_load(Path("config/outside/their-model.yaml").read_text())
    assert entry["sha256"] == sha256_of_raw(theirs)[0] and entry["label"] == "Their model"


def test_the_audit_reaches_what_it_can_and_says_what_it_can_not(theirs):
    score.main([*LINE, str(theirs), "--name", "x"])
    results = {path.name: one for path, one in audit(Path("results/away")).results.items()}
    assert [one for result in results.values() for one in result.problems] == []
    for name, level in (("x.json", 3), (COMPARED.name, 3), ("table2a-with-outside.png", 2), (TABLE.name, 3)):
        assert results[name].level == level, name
    assert any("nobody here saw their making" in note for note in results["x.json"].notes)
    assert results["x.json"].manifest["external"][0]["sha256"] == sha256_of_raw(theirs)[0]


@pytest.mark.parametrize(("file", "change", "word"), [
    ("results/away/outside/x.json", lambda text: text.replace('"value": ', '"value": 1'), "differs"),
    ("results/away/outside/x.json", lambda text: text.replace('"label": "x"', '"label": "y"'), "differs"),
    (str(COMPARED), lambda text: text.replace("outside,x", "here,x"), "differs")])
def test_what_was_changed_by_one_who_knows_how_is_told(theirs, file, change, word):
    score.main([*LINE, str(theirs), "--name", "x"])
    path = Path(file)
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    refit(path)
    found = audit(path).results[path.absolute()]
    assert [problem.word for problem in found.problems] == [word]


def test_the_same_command_measures_nothing_again(theirs, monkeypatch):
    score.main([*LINE, str(theirs), "--name", "x"])
    monkeypatch.setattr(outside, "moments", None)
    assert score.main([*LINE, str(theirs), "--name", "x"]) == 0
    with pytest.raises(ValueError, match="x.yaml is there, of other images, another table or target"):
        score.main([*LINE, str(theirs), "--name", "x", "--target", "digits"])
    (theirs / "000.png").unlink()
    with pytest.raises(ValueError, match="x.yaml is there, of other images"):
        score.main([*LINE, str(theirs), "--name", "x"])


def test_rows_stand_there_as_long_as_their_files_do(theirs):
    theirs = theirs.rename("b-1.5")  # a folder's name has no ending
    for line in (["--name", "a"], []):
        score.main([*LINE, str(theirs), *line])
    Path("config/outside/b-1.5.yaml").rename("config/outside/b.yaml")
    assert list(pd.read_csv(COMPARED)["method"])[2:] == ["a", "b-1.5"]
    graph = Graph(Experiments("config", "away"))
    assert str(COMPARED) in graph.target("table2a") and graph.maker("results/away/outside/b.json")
    png, report = COMPARED.with_suffix(".png"), graph.made("results/away/report.html")
    assert graph.reads(report)["compared"] == [str(png)]
    spec = graph.experiments.tables["table2a"]
    shown = page.section(spec, TABLE, [png] * 4, [], [], [png], 3)["pictures"]
    assert [one["title"] for one in shown][3:] == ["Noise classifiers", "With rows from outside"]
    for label in ("a", "b"):
        Path(f"config/outside/{label}.yaml").unlink()
    graph = Graph(Experiments("config", "away"))
    assert str(COMPARED) not in graph.target("table2a") and "compared" not in graph.reads(report)
    with pytest.raises(SpecError, match="nothing stands beside the table table2a"):
        graph.asks(graph.maker(str(COMPARED)))


def test_entries_of_no_table_are_refused_when_the_scale_is_read(copy):
    entry = {"scale": "away", "table": "table2a", "path": "x", "sha256": "0" * 64, "label": "x"}
    for changes, words in (({"table": "table2aa"}, "no such name: 'table2aa' .did you mean 'table2a'"),
                           ({"target": "cats"}, "target: got 'cats', allowed: one of digits"),
                           ({"labels": "y"}, "unknown key 'labels'")):
        Path("config/outside").mkdir(exist_ok=True)
        Path("config/outside/x.yaml").write_text(yaml.safe_dump(entry | changes))
        with pytest.raises(SpecError, match=f"outside/x.yaml.*{words}"):
            Experiments("config", "away")
        if "labels" not in changes:
            Experiments("config", "tiny")  # of another scale


# --- what is read --------------------------------------------------------------------------------------


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (42, 1, 8, 8), np.uint8)


@pytest.mark.parametrize("write", [
    lambda images, path: np.save(path / "a.npy", images),
    lambda images, path: np.save(path / "a.npy", images[:, 0]),
    lambda images, path: np.savez(path / "a.npz", images.transpose(0, 2, 3, 1)),
    lambda images, path: np.savez_compressed(path / "a.npz", arr_0=images, arr_1=np.zeros(3)),
    lambda images, path: save_file({"samples": images, "labels": np.zeros(2)}, path / "a.safetensors")])
def test_arrays_are_read_in_every_arrangement(images, write, tmp_path):
    write(images, tmp_path)
    (path,) = tmp_path.iterdir()
    found = read(path, GREY)
    np.testing.assert_array_equal(found.images, images[:40])
    assert (found.of, found.pin) == (42, (sha256(path), path.stat().st_size))


def test_folders_are_read_by_sorted_name_without_what_sample_puts_beside(images, tmp_path):
    order = np.random.default_rng(1).permutation(42)
    for k in order:
        Image.fromarray(images[k, 0]).save(tmp_path / f"{k:02}.png")
    Image.new("L", (99, 99)).save(tmp_path / "contact-sheet.png")
    with pytest.raises(ValueError, match="images must have one size"):
        read(tmp_path, GREY)  # anybody's file of that name is an image
    (tmp_path / "samples.json").write_text("{}")
    found = read(tmp_path, GREY)
    np.testing.assert_array_equal(found.images, images[:40])
    assert found.pin == sha256_of_raw(tmp_path)


@pytest.mark.parametrize(("name", "content", "words"), [
    ("a.npy", np.zeros((39, 1, 8, 8), np.uint8), "holds 39 images, the protocol takes 40: draw more"),
    ("a.npy", np.zeros((40, 1, 8, 8)), r"is float64, allowed: uint8; .* round\(\(x \+ 1\) \* 127.5\)"),
    ("a.npy", np.zeros((40, 3, 8, 8), np.uint8), r"\(40, 3, 8, 8\), the protocol's images are \(N, 1, 8"),
    ("a.npy", np.zeros((40, 1, 16, 16), np.uint8), r"the protocol's images are \(N, 1, 8, 8\)"),
    ("a.npy", np.asfortranarray(np.zeros((40, 1, 8, 8), np.uint8)), "Fortran's order"),
    ("a.npy", np.array([print] * 40), "is object, allowed: uint8"),
    ("a.npz", {"one": np.zeros(3), "two": np.zeros(3)}, "holds the arrays one, two: call that of the images"),
    ("a.npz", {"images": np.array([print])}, "is object, allowed: uint8"),
    ("a.gif", b"GIF", "got a file .gif, allowed: a folder or zip of images, or .npy, .npz, .safetensors"),
    ("a.npy", b"nothing", "a.npy: "), ("a.npz", b"nothing", "a.npz: "),
    ("a.safetensors", b"nothing", "a.safetensors: "), ("a.npy", None, "no such file or folder")])
def test_what_does_not_fit_is_refused_by_name(name, content, words, tmp_path):
    path = tmp_path / name
    if content is None:
        os.mkfifo(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=words) as caught:
        read(path, GREY)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_whose_directory_points_before_its_begin_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", np.zeros((40, 1, 8, 8), np.uint8))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[-6] += 7  # the place of the directory, which all others are counted from
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="a.npz: arr_0.npy can't be opened, the file is damaged"):
        read(tmp_path / "a.npz", GREY)


def test_pictures_that_do_not_fit_are_refused_by_name(tmp_path):
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="are 16x16 pixels, the protocol's are 8x8: draw them at that size"):
        read(tmp_path, GREY)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png has the mode RGB"):
        read(tmp_path, GREY)


def test_what_is_asked_for_is_checked_before_anything_is_read(theirs, monkeypatch):
    monkeypatch.setattr(score, "read", None)
    for line, words in (
            (["--protocol", "table99", "--scale", "away", "--samples", "x"], "no table 'table99'"),
            ([*LINE, "x", "--name", "§"], "--name: got '§', allowed"),
            ([*LINE, "x", "--target", "cats"], "--protocol: target: got 'cats', allowed: one of digits"),
            (["--protocol", "table2a", "--scale", "tiny", "--samples", "x"], "no such file; make it with")):
        with pytest.raises(ValueError, match=words):
            score.main(line)
    assert not Path("config/outside").exists()


# Printed: the most memory, MiB, that 192 MiB of images of a file or folder took, 16 of them at a time.
PARTS = """
import sys
from pathlib import Path
from ambient.data import submitted
from ambient.provenance.manifest import peak_memory
submitted.TOGETHER = 16
before = peak_memory()
submitted.read(Path(sys.argv[1]), submitted.Wanted(256, 3, 512)).check()
print((peak_memory() - before) // 2**20)
"""


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "folder"])
def test_no_more_images_are_in_memory_than_are_looked_at(kind, tmp_path):
    images = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 512, 512, 3))
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, images)
    elif kind == "npz":
        np.savez_compressed(path, images=images)
    elif kind == "safetensors":
        save_file({"images": np.ascontiguousarray(images)}, path)
    else:
        path.mkdir()
        for k, image in enumerate(images):
            Image.fromarray(image).save(path / f"{k:03}.bmp")
    grown = int(subprocess.run([sys.executable, "-c", PARTS, path], check=True, text=True,
                               stdout=subprocess.PIPE).stdout)
    assert grown < 100


def test_images_that_change_while_they_are_measured_are_refused(theirs, monkeypatch):
    measure = outside.moments

    def changing(*given):
        found = measure(*given)
        (theirs / "000.png").write_bytes((theirs / "001.png").read_bytes())
        return found

    monkeypatch.setattr(outside, "moments", changing)
    with pytest.raises(ValueError, match="000.png changed while it was read"):
        score.main([*LINE, str(theirs)])
    assert not COMPARED.exists()


def test_a_damaged_image_is_named_before_the_row_is_noted(theirs):
    content = (theirs / "003.png").read_bytes()
    (theirs / "003.png").write_bytes(content[:len(content) // 2])
    with pytest.raises(ValueError, match="003.png can't be decoded"):
        score.main([*LINE, str(theirs)])
    assert not Path("config/outside").exists()
