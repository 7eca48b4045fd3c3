"""`python -m ambient sample`: PNG files equal to the workflow's samples, resumed and never mixed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ambient.commands import sample
from ambient.commands import scale as scales
from ambient.commands.pictures import LEAST
from ambient.evaluation.draw import Draw
from ambient.provenance import manifest
from ambient.storage.files import read_arrays, sha256

RUN = "ambient-blur-0.6"
WEIGHTS = f"results/away/runs/{RUN}/seed-0/denoiser.safetensors"


def images_in(folder, count):
    return np.stack([np.asarray(Image.open(folder / f"{k:06}.png"))[None] for k in range(count)])


@pytest.fixture
def drawn(monkeypatch):
    """The numbers of the images that are drawn from now on."""
    whole, numbers = Draw.images, []

    def images(self, seed, ids):
        numbers.extend(ids)
        return whole(self, seed, ids)

    monkeypatch.setattr(Draw, "images", images)
    return numbers


@pytest.mark.parametrize("seed", [0, 1])
def test_the_images_are_the_workflows(away, tmp_path, seed):
    assert sample.main(["away", "--count", "40", "--seed", str(seed), "--out", str(tmp_path / "a")]) == 0
    samples = read_arrays(f"results/away/runs/{RUN}/seed-0/samples.safetensors")["256"]
    np.testing.assert_array_equal(images_in(tmp_path / "a", 40), samples[seed])
    sheet = np.asarray(Image.open(tmp_path / "a/contact-sheet.png"))
    assert sheet.shape == (6 * LEAST, 7 * LEAST)  # 40 images, 7 in a row; each pixel 8 x 8
    np.testing.assert_array_equal(sheet[4::8, 4::8][:8, 8:16], samples[seed, 1, 0])
    about = json.loads((tmp_path / "a/samples.json").read_text())
    assert about["run"] == RUN and about["seed"] == seed and about["snapshot"] == 256
    assert about["weights_sha256"] == sha256(WEIGHTS) and about["sampler"]["num_steps"] == 3
    assert about["provenance_root"]["manifests"] == 5  # dataset, mixture, classifier, annotations, weights


def test_what_is_missing_is_drawn_and_nothing_else(away, tmp_path, drawn):
    line = ["away", "--run", "only-clean", "--out", str(tmp_path / "b"), "--count"]
    sample.main([*line, "3"])
    first = images_in(tmp_path / "b", 3)
    inode = (tmp_path / "b/000000.png").stat().st_ino
    (tmp_path / "b/000001.png").unlink()
    (tmp_path / "b/000002.png").write_bytes((tmp_path / "b/000002.png").read_bytes()[:-30])  # cut short
    drawn.clear()
    sample.main([*line, "5"])
    np.testing.assert_array_equal(images_in(tmp_path / "b", 5)[:3], first)
    assert (tmp_path / "b/000000.png").stat().st_ino == inode and drawn == list(range(5))
    drawn.clear()
    sample.main([*line, "5"])
    assert drawn == []


def test_foreign_files_are_refused(away, tmp_path, drawn):
    out = tmp_path / "c"
    line = ["away", "--run", "only-clean", "--count", "2", "--out", str(out)]
    out.mkdir()
    (out / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds files that this command did not write"):
        sample.main(line)
    (out / "holiday.png").unlink()
    sample.main(line)
    for changes, word in ((["--seed", "1"], "seed 0, these would be of 1"),
                          (["--run", RUN], "samples of weights_sha256")):
        with pytest.raises(ValueError, match=word):
            sample.main([*line, *changes])
    (out / "000001.png").unlink()
    Image.new("L", (8, 8)).save(out / "000001.png")
    with pytest.raises(ValueError, match="000001.png: is there and is not this sample"):
        sample.main(line)
    assert np.asarray(Image.open(out / "000001.png")).max() == 0
    with pytest.raises(ValueError, match="a file is there"):
        sample.main([*line[:-1], str(out / "000000.png")])


def test_the_run_is_the_one_whose_annotation_is_learnt(away):
    assert scales.learnt_run(scales.experiments_of("away")) == RUN
    with pytest.raises(ValueError, match="has 4 rows .* name a run .ambient-blur-1.0, ambient-blur-0.8"):
        scales.learnt_run(scales.experiments_of("small"))
    for line, words in ((["awya"], "no such scale: 'awya' .did you mean 'away'"),
                        (["away", "--run", "only-clear"], "did you mean 'only-clean'"),
                        (["away", "--training-seed", "7"], "--training-seed: got 7, allowed: 0"),
                        (["away", "--count", "0"], "--count"), (["away", "--seed", "-1"], "--seed"),
                        (["tiny"], "no such file; make it with: snakemake --cores 2 results/tiny")):
        with pytest.raises(ValueError, match=words):
            sample.main(line)


def test_weights_that_are_not_those_of_their_manifest_are_refused(copy, tmp_path):
    path = copy / WEIGHTS
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="not what its manifest says; see: python -m ambient audit"):
        sample.main(["away", "--out", str(tmp_path / "d")])
    path.with_name(path.name + ".manifest.json").unlink()
    with pytest.raises(ValueError, match="has no manifest"):
        sample.main(["away", "--out", str(tmp_path / "d")])
    assert not (tmp_path / "d").exists()


def test_from_the_command_line_help_and_one_line_errors(away):
    def run(*words):
        line = [sys.executable, "-m", "ambient", "sample", *words]
        return subprocess.run(line, capture_output=True, text=True)

    text = run("--help").stdout
    options = ("--run", "--training-seed", "--count", "--seed", "--out")
    assert "learnt" in text and all(word in text for word in options)
    refused = run("away", "--run", "nothing")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(("folder", "why"), [
    ("file/inside", "Not a directory"), ("/proc/inside", "No such file")])
def test_a_folder_that_can_not_be_written_is_named_by_its_option(away, tmp_path, folder, why):
    (tmp_path / "file").write_text("x")
    out = tmp_path / folder
    with pytest.raises(ValueError, match=f"^--out {out}: can't be written .{why}.*: give another place$"):
        sample.main(["away", "--count", "1", "--out", str(out)])


def test_a_damaged_description_and_a_seed_out_of_range_are_refused(away, tmp_path):
    (tmp_path / "samples.json").write_text('{"a":')
    with pytest.raises(ValueError, match=f"^--out {tmp_path}: .*samples.json: not valid JSON.*: give"):
        sample.main(["away", "--count", "1", "--out", str(tmp_path)])
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match=f"^--seed: got {seed}, allowed: 0 to 2.63 - 1$"):
            sample.main(["away", "--seed", str(seed)])


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_weights_whose_manifest_is_damaged_are_to_be_made_again(copy, content):
    record = manifest.path_for(Path(WEIGHTS))
    record.unlink() if content is None else record.write_text(content)
    with pytest.raises(ValueError, match=f"{WEIGHTS}.*again with: snakemake --cores 2 {WEIGHTS}$"):
        sample.main(["away", "--count", "1"])
