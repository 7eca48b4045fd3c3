"""`python -m ambient annotate`: sigma_min of new images, equal to the workflow's for the same image."""

import dataclasses
import io
import shutil
import zipfile
from collections import Counter
from types import SimpleNamespace

import finished
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import kept

from ambient.commands import annotate
from ambient.commands import scale as scales
from ambient.commands.images import prepared
from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.data.sources import mnist
from ambient.data.submitted import ABOUT, SHEET
from ambient.specs import DatasetSpec, SelectSpec
from ambient.stages import prepare

MIXTURE = "results/away/mixtures/controlled/blur-0.6/clean-0.2.safetensors"
ROWS = "results/away/annotations/controlled/blur-0.6/per-sample.safetensors"


def write(folder, images, names):
    folder.mkdir()
    for image, name in zip(images, names, strict=True):
        Image.fromarray(image[0]).save(folder / name)


def expected():
    """(corrupted training images, their ids, the workflow's sigma_min)."""
    mixture, rows = read(MIXTURE), Annotations.read(ROWS)
    bad = mixture.corrupted == 1
    return mixture.images[bad], mixture.ids[bad], rows.sigma_min[bad]


def asked(folder, *options):
    """The table that the command writes of a folder, by file."""
    out = folder.parent / "out.csv"
    assert annotate.main(["away", "--images", str(folder), "--out", str(out), *options]) == 0
    return pd.read_csv(out).set_index("file")


def test_training_images_get_their_annotation_again(away, tmp_path):
    images, ids, sigma_min = expected()
    order = np.random.default_rng(0).permutation(len(images))
    write(tmp_path / "all", images, [f"{place:03}.png" for place in order])
    table = asked(tmp_path / "all").loc[[f"{place:03}.png" for place in order]]
    np.testing.assert_allclose(table["sigma_min"], sigma_min, rtol=1e-5)
    np.testing.assert_array_equal(table["training_id"], ids)
    np.testing.assert_array_equal(table["crossed"], np.isfinite(sigma_min))
    assert len(np.unique(sigma_min)) > 20  # equal numbers would prove nothing
    levels = [float(name.removeprefix("p_good_at_")) for name in table if name.startswith("p_good_at_")]
    np.testing.assert_allclose(levels, np.geomspace(0.1, 1.0, 6)[[0, 1, 2, 4, 5]], rtol=5e-3)


def test_what_lies_beside_samples_is_not_annotated(away, tmp_path):
    images, _, sigma_min = expected()
    write(tmp_path / "drawn", images[:5], [f"{k:02}.png" for k in range(5)])
    Image.new("L", (99, 77)).save(tmp_path / "drawn" / SHEET)
    with pytest.raises(ValueError, match="99"):
        asked(tmp_path / "drawn")
    (tmp_path / "drawn" / ABOUT).write_text("{}")
    np.testing.assert_allclose(asked(tmp_path / "drawn")["sigma_min"], sigma_min[:5], rtol=1e-5)


def test_probabilities_are_cut_to_their_range(away, tmp_path, monkeypatch):
    protocol = SimpleNamespace(sigmas=np.array([0.1, 1.0]), crossing=lambda curves: curves[:, 0])
    monkeypatch.setattr(annotate, "curves_of", lambda *_: (protocol, np.array([[-0.1, 1.2], [0.3, 0.4]])))
    write(tmp_path / "two", np.zeros((2, 1, 8, 8), np.uint8), ["a.png", "b.png"])
    found = asked(tmp_path / "two")[["p_good_at_0.1", "p_good_at_1"]]
    np.testing.assert_allclose(found, [[1, 0], [0.7, 0.6]])


def test_an_image_is_annotated_alike_among_others(away, tmp_path, monkeypatch):
    images, ids, sigma_min = expected()
    new = np.random.default_rng(1).integers(0, 256, (3, 1, 8, 8), np.uint8)
    write(tmp_path / "few", [*images[5:9], *new], [f"{k}.png" for k in range(7)])
    write(tmp_path / "one", new[1:2], ["x.png"])
    few, one = asked(tmp_path / "few"), asked(tmp_path / "one")
    np.testing.assert_allclose(few["sigma_min"][:4], sigma_min[5:9], rtol=1e-5)
    assert list(few["training_id"][:4]) == list(ids[5:9]) and few["training_id"][4:].isna().all()
    np.testing.assert_allclose(few.loc["5.png"].astype(float), one.loc["x.png"].astype(float), rtol=1e-5)
    hashed, content = Counter(), annotate.content
    monkeypatch.setattr(annotate, "content", lambda image: hashed.update([image.tobytes()]) or content(image))
    asked(tmp_path / "few")
    assert [hashed[image.tobytes()] for image in new] == [1, 1, 1]  # once each
    assert few["p_good_at_0.1"].nunique() == 7


def test_another_ones_results_need_not_be_writable(copy, tmp_path, capsys):
    images, _, sigma_min = expected()
    write(tmp_path / "few", images[5:9], [f"{k}.png" for k in range(4)])
    shutil.rmtree(copy / "results/.state")
    (copy / "results/.state").write_text("")
    np.testing.assert_allclose(asked(tmp_path / "few")["sigma_min"], sigma_min[5:9], rtol=1e-5)
    assert "can't be written: what is asked of the training images is not kept" in capsys.readouterr().err


def test_dense_annotations_are_found_again_too(copy, tmp_path):
    path = copy / "config/scales/away.yaml"
    path.write_text(path.read_text().replace("shared_noise", "dense"))
    for old in (copy / ROWS, (copy / ROWS).with_suffix(".json")):
        old.unlink()
    finished.make(copy, ROWS)
    images, _, sigma_min = expected()
    write(tmp_path / "some", images[3:30], [f"{k:02}.png" for k in range(27)])
    np.testing.assert_allclose(asked(tmp_path / "some")["sigma_min"], sigma_min[3:30], rtol=1e-5)


def test_raw_images_are_prepared_as_the_datasets(away, tmp_path):
    raw, _ = mnist.arrays(mnist.locate(DatasetSpec("mnist", 28, 1)))
    data = read("results/away/data/digits.safetensors")
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for k, row in enumerate(data.ids[:9]):
            Image.fromarray(raw[row, 0]).save(buffer := io.BytesIO(), format="PNG")
            archive.writestr(f"{k}.png", buffer.getvalue())
    digits = scales.experiments_of("away").dataset("digits")
    found = prepared(tmp_path / "raw.zip", digits)
    np.testing.assert_array_equal(found.images, data.images[:9])
    assert found.converted == {"resized from 28 to 8 pixels": 9}


def test_photographs_are_cropped_and_left_out_as_the_datasets(tmp_path):
    random, folder = np.random.default_rng(0), tmp_path / "photos"
    folder.mkdir()
    for name, shape in (("a.jpg", (40, 30, 3)), ("b.png", (20, 20)), ("c.png", (9, 30, 3))):
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(folder / name)
    spec = DatasetSpec("photos", 16, 3, crop="pad")
    record = SimpleNamespace(facts={}, external=lambda *_: None)
    prepare.main(spec, record, raw=folder, state=kept(tmp_path / "state"), out=tmp_path / "data.safetensors")
    chosen = dataclasses.replace(spec, select=SelectSpec(folders=("good",)))  # of the dataset's own folder
    found = prepared(folder, chosen)
    np.testing.assert_array_equal(found.images, read(tmp_path / "data.safetensors").images)
    assert found.names == ["a.jpg", "b.png"] and found.left_out == {"smaller than 16 pixels": 1}


def test_what_can_not_be_annotated_is_refused(away, tmp_path, capsys, monkeypatch):
    images, *_ = expected()
    write(tmp_path / "two", images[:2], ["a.png", "b.png"])
    line = ["away", "--images", str(tmp_path / "two")]
    (tmp_path / "notes.csv").write_text("file,rating\na.png,5\n")
    for changes, words in (
            (["--run", "only-clean"], "annotated by the method clean"),
            (["--corruption", "jpeg-15"], "jpeg-15, allowed for the run ambient-blur-0.6: one of blur-0.6"),
            (["--out", str(tmp_path / "notes.csv")], "is there and is no table of this command"),
            (["--out", str(tmp_path / "two/new.csv")], "lies in the folder of --images, whose SHA-256"),
            (["--images", str(tmp_path / "gone")], "no such folder or zip")):
        with pytest.raises(ValueError, match=words):
            annotate.main([*line, *changes])
    assert "rating" in (tmp_path / "notes.csv").read_text()
    with monkeypatch.context() as patched:  # known before the classifier is asked
        patched.setattr(annotate, "table_of", None)
        with pytest.raises(ValueError, match="notes.csv/new.csv: can't be written .* give another place"):
            annotate.main([*line, "--out", str(tmp_path / "notes.csv/new.csv")])
    assert annotate.main(line) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("file,sigma_min,crossed,training_id,p_good_at_0.1")
    assert "2 images" in said.err and "2 are training images" in said.err


def test_a_damaged_classifier_is_refused_before_it_is_asked(copy, tmp_path):
    images, *_ = expected()
    write(tmp_path / "two", images[:2], ["a.png", "b.png"])
    path = copy / "results/away/classifiers/controlled/blur-0.6/balanced.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="balanced.safetensors: not what its manifest says"):
        annotate.main(["away", "--images", str(tmp_path / "two")])
