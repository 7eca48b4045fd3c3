"""`ambient new`: what it says of a folder, what it refuses, and the scale that it writes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from clones import clone, configuration
from raw_images import encoded, make_folder

from ambient import __main__ as front_door
from ambient.commands import new as new_command
from ambient.commands import new_look, new_parts, new_speed
from ambient.commands.new_sizes import fewer_levels, levels, near, sizes
from ambient.settings import Experiments
from ambient.settings.compatible_data import check_network
from ambient.settings.graph import Graph
from ambient.specs import NetworkSpec, SelectSpec

ROOT = Path(__file__).parents[1]
GOOD, OTHER = 60, 180


def picture(seed, side=32, channels=3):
    """A smooth picture: noise of few pixels, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), np.uint8)
    return np.kron(small, np.ones((side // 4, side // 4, 1), np.uint8))


def folder(path, good=GOOD, other=OTHER, **options):
    return make_folder(path, {f"{'best' if i < good else 'rest'}/{i:04d}.png": encoded(picture(i, **options))
                              for i in range(good + other)})


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setattr(new_speed, "tflops", lambda experiments, page: {"train": 0.05})  # timed elsewhere
    return configuration(tmp_path / "config")


def new(config, *arguments):
    return front_door.main(["new", "birds", "--config", str(config), *map(str, arguments)])


def written(config):
    return yaml.safe_load((config / "scales/birds.yaml").read_text())


def test_one_file_is_written_that_the_workflow_reads(tmp_path, config, capsys):
    images = folder(tmp_path / "photos")
    before = {path: path.read_bytes() for path in [*config.rglob("*.yaml"), *images.rglob("*.png")]}
    assert new(config, "--images", images, "--good", images / "best") == 0
    after = {path: path.read_bytes() for path in [*config.rglob("*.yaml"), *images.rglob("*.png")]}
    assert after.items() - before.items() == {(config / "scales/birds.yaml",
                                               (config / "scales/birds.yaml").read_bytes())}
    said = capsys.readouterr().out
    for line in ("240 image files, of which 240 can be used", "60 images: those in the folder best",
                 "180 images: all others", "minutes on this machine",
                 "snakemake --cores 2 --config scale=birds"):
        assert line in said, line
    found = Experiments(config, "birds")
    assert found.main == ["birds"]
    rows = found.tables["birds"].rows
    assert [row.method for row in rows] == ["Only Good", "All data", "Ambient-o"]
    assert len({found.training(row.run, 0) for row in rows}) == 1  # the same budget


def test_the_parts_are_those_of_the_folder_and_pinned(tmp_path, config):
    images = folder(tmp_path / "photos")
    new(config, "--images", images, "--good", images / "best", "--bad", f"blurred={images / 'rest'}")
    datasets = written(config)["datasets"]
    assert set(datasets) == {"birds-good", "birds-blurred"}
    assert datasets["birds-good"]["select"] == {"folders": ["best"]}
    assert datasets["birds-blurred"]["select"] == {"folders": ["rest"], "without": ["best"]}
    assert len({one["sha256"] for one in datasets.values()}) == 1
    assert written(config)["corruptions"]["plus-blurred"]["same_source"] is True


def test_a_folder_of_its_own_for_the_good_ones(tmp_path, config):
    new(config, "--images", folder(tmp_path / "rest", good=0), "--good",
        make_folder(tmp_path / "best", {f"{i}.png": encoded(picture(1000 + i)) for i in range(GOOD)}))
    assert written(config)["corruptions"] == {"plus-other": {"op": "add", "dataset": "birds-other"}}
    assert written(config)["datasets"]["birds-good"]["path"].endswith("best")


@pytest.mark.parametrize("good", ["Yes", "NO", "Null", "On", "best"])
def test_a_folder_whose_name_is_a_word_of_yaml(tmp_path, config, good):
    images = folder(tmp_path / "photos")
    (images / "best").rename(images / good)
    assert new(config, "--images", images, "--good", images / good) == 0
    assert written(config)["datasets"]["birds-good"]["select"] == {"folders": [good]}


def test_a_linked_folder_lies_where_the_link_does(tmp_path, config):
    """Its images were taken for good ones elsewhere, and for others here, and refused as both."""
    images = folder(tmp_path / "all", good=0)
    best = make_folder(tmp_path / "elsewhere", {f"{i}.png": encoded(picture(1000 + i)) for i in range(GOOD)})
    (images / "best").symlink_to(best)
    (tmp_path / "photos").symlink_to(images)
    assert new(config, "--images", tmp_path / "photos", "--good", tmp_path / "photos/best",
               "--bad", f"dull={images / 'rest'}") == 0
    datasets = written(config)["datasets"]
    assert {one["path"] for one in datasets.values()} == {str(images)}
    assert datasets["birds-good"] | {"select": {"folders": ["best"]}} == datasets["birds-good"]
    assert {name: one["num_images"] for name, one in datasets.items()} == {
        "birds-good": GOOD, "birds-dull": OTHER}


def test_folders_elsewhere_are_told_of_and_one_in_colour_makes_all_colour(tmp_path, config, capsys):
    images = make_folder(tmp_path / "rest", {f"{i}.png": encoded(picture(i)[:, :, 0]) for i in range(OTHER)})
    best = folder(tmp_path / "best", other=0)
    make_folder(best, {f"small/{i}.png": encoded(picture(500 + i, side=16)) for i in range(20)}
                | {"x.heic": b"heic"})
    assert new(config, "--images", images, "--good", best) == 0
    assert {one["channels"] for one in written(config)["datasets"].values()} == {3}
    said = capsys.readouterr().out
    for line in (f"{best}:\n  80 image files, of which 60 can be used", "20 smaller than 32 pixels",
                 "1 .heic files", "180 grey, taken as colour",
                 f"20 images of {best} are smaller than 32 pixels"):
        assert line in said, line


def test_one_image_is_not_good_and_other(tmp_path, config, capsys):
    """Good ones were copied elsewhere: the classifier would learn them as both."""
    images = folder(tmp_path / "photos")
    copies = shutil.copytree(images / "best", tmp_path / "best")
    assert new(config, "--images", images, "--good", copies) == 2
    said = capsys.readouterr().err
    assert "60 images, such as 00" in said and "an image is one of them" in said


def test_a_table_of_scores(tmp_path, config, capsys):
    images = folder(tmp_path / "photos")
    table = tmp_path / "scores.csv"
    table.write_text("file,quality\n" + "".join(
        f"{path.relative_to(images)},{i}\n" for i, path in enumerate(sorted(images.rglob("*.png")))))
    new(config, "--images", images, "--good", table, "--share", "0.25")
    chosen = written(config)["datasets"]["birds-good"]
    assert chosen["select"] == {"by": "scores", "column": "quality", "at_least": 179.0}
    assert chosen["num_images"] == 61 and chosen["rule"] == str(table)
    assert written(config)["datasets"]["birds-other"]["select"] == chosen["select"] | {"good": False}
    (config / "scales/birds.yaml").rename(tmp_path / "birds.yaml")
    assert new(config, "--images", images, "--good", table, "--at-least", "1000") == 2
    assert "--at-least: got 1000.0, allowed: at most 239, the largest score by" in capsys.readouterr().err
    (tmp_path / "birds.yaml").rename(config / "scales/birds.yaml")
    assert Experiments(config, "birds").main_figures == ["birds-scores", "birds-sigma-min", "birds-use"]


@pytest.mark.parametrize("best, message", [
    (40, "all images are good by their scores: 0 is the lowest, of 200 images. Say from which one on an "
         "image is good, such as --at-least 1.0"),
    (240, "all images have the same score, 1, which can't tell")])
def test_a_share_that_equal_scores_make_everything_is_refused(tmp_path, config, capsys, best, message):
    images, table = folder(tmp_path / "photos"), tmp_path / "scores.csv"
    names = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    table.write_text("file,good\n" + "".join(f"{name},{int(i < best)}\n" for i, name in enumerate(names)))
    assert new(config, "--images", images, "--good", table) == 2
    assert message in capsys.readouterr().err


def test_a_share_that_equal_scores_make_larger_is_told_as_it_is(tmp_path, config, capsys):
    images, table = folder(tmp_path / "photos"), tmp_path / "scores.csv"
    names = sorted(path.relative_to(images) for path in images.rglob("*.png"))
    table.write_text("file,stars\n" + "".join(
        f"{name},{5 if i < 120 else 4}\n" for i, name in enumerate(names)))
    assert new(config, "--images", images, "--good", table) == 0
    assert "by the column stars of scores.csv, which 50%, 120 images with this very score among them, reach" \
        in capsys.readouterr().out


@pytest.mark.parametrize(("share", "reached"), [(0.9, 91), (0.2, 21), (0.5, 51), (0.95, 96), (0.1, 11)])
def test_a_share_of_different_scores_takes_as_many(share, reached):
    """1 - 0.9 is 0.09999999999999998, and 100 of it 9.999999999999998: one image more was taken."""
    photos = SimpleNamespace(scores=np.random.default_rng(0).permutation(np.arange(1.0, 102.0)))
    rule = SelectSpec(by="quality", measure="quality", at_least=0.0)
    select, words = new_parts.with_threshold(rule, "a", photos, None, share)
    assert (photos.scores >= select.at_least).sum() == reached
    assert words == f"a score of at least {select.at_least} by a, which the best {share:.0%} reach"


@pytest.mark.parametrize("name", ["line\nbreak", "broken\udcff", "line\u2028separator"])
def test_a_path_that_no_line_can_hold_is_refused_before_images_are_read(tmp_path, config, capsys, name):
    (tmp_path / name).mkdir()
    for option, other in (("--good", "--images"), ("--images", "--good")):
        assert new(config, option, tmp_path / name, other, tmp_path) == 2
        assert f"{option}: got {str(tmp_path / name)!a}, allowed: a path without" in capsys.readouterr().err


@pytest.mark.parametrize(("at_least", "scores", "written"), [
    (0.123412, [0.1, 0.123412, 0.2], 0.1234), (12344.6, [12344.0, 12344.6, 12345.0], 12344.6),
    (-7.14427, [-8.0, -7.14427, 0.0], -7.1443), (0.1 + 0.2, [0.3, 0.1 + 0.2], 0.1 + 0.2)])
def test_a_threshold_has_few_digits_and_the_same_images(at_least, scores, written):
    assert new_parts.shortest(at_least, np.array(scores)) == written


def test_without_a_word_on_which_are_good_a_measure_tells(tmp_path, config, capsys):
    images = folder(tmp_path / "photos")
    new(config, "--images", images, "--measure", "contrast", "--share", "0.25")
    select = written(config)["datasets"]["birds-good"]["select"]
    assert (select["by"], select["measure"]) == ("quality", "contrast")
    assert "by the measure contrast, which the best 25% reach" in capsys.readouterr().out
    assert Experiments(config, "birds").figures["birds-scores"].at_least == select["at_least"]


def test_several_kinds_are_mixed_in_one_run(tmp_path, config, capsys):
    images = folder(tmp_path / "photos", other=120)
    asked = ("--images", images, "--good", images / "best", "--bad", f"dark={images / 'dark'}")
    make_folder(images, {f"dark/{i}.png": encoded(picture(500 + i)) for i in range(20)})
    assert new(config, *asked) == 2
    assert "20 dark images are too few for a noise classifier of their own" in capsys.readouterr().err
    make_folder(images, {f"dark/{i}.png": encoded(picture(500 + i)) for i in range(60)})
    new(config, *asked)
    found = Experiments(config, "birds")
    ambient = found.run(found.tables["birds"].rows[2].run)
    assert ambient.parts == (("plus-dark", "per-sample"), ("plus-other", "per-sample"))
    graph, place = Graph(found), "results/birds/classifiers/birds"
    assert graph.reads(graph.maker("results/birds/report.html"))["classifiers"] == [
        f"{place}/plus-dark/balanced.calibration.json", f"{place}/plus-other/balanced.calibration.json"]
    assert found.tables["birds"].told_apart == ("dark images", "other images")


@pytest.mark.parametrize("good, other, message", [
    (20, 0, "20 good images are too few"), (60, 0, "there are no others"),
    (60, 20, "20 other images are too few"), (40, 40, "80 images in all are too few")])
def test_too_few_images_are_refused_with_the_reason(tmp_path, config, capsys, good, other, message):
    images = folder(tmp_path / "photos", good, other)
    assert new(config, "--images", images, "--good", images / "best") == 2
    assert message in capsys.readouterr().err
    assert not (config / "scales/birds.yaml").exists()


def test_the_file_is_written_last_so_that_a_stopped_command_can_be_given_again(
        tmp_path, config, monkeypatch, capsys):
    images, there = folder(tmp_path / "photos"), []
    monkeypatch.setattr(new_command, "told_time", lambda experiments, reading: iter(
        [f"{experiments.scale}: {there.append(sorted((config / 'scales').glob('birds*')))}"]))
    (config / "local.yaml").write_text("datasets: {nowhere: {source: mnist}}")
    assert new(config, "--images", images, "--good", images / "best") == 2 and not there
    assert f"error: {config / 'local.yaml'}: datasets: unknown name 'nowhere'" in capsys.readouterr().err
    (config / "local.yaml").unlink()
    assert new(config, "--images", images, "--good", images / "best") == 0
    assert there == [[]] and written(config)["main"]["tables"] == ["birds"]


def test_how_far_images_differ_is_their_standard_deviation():
    groups = [np.random.default_rng(k).integers(0, 256, (300 * k, 3, 4, 4), np.uint8) for k in (1, 2)]
    assert new_look.spread(groups) == pytest.approx(np.concatenate(groups).std(0).mean())
    assert new_look.spread([np.full((5, 1, 2, 2), 255, np.uint8)]) == 0


def test_grey_images_are_learnt_as_grey(tmp_path, config):
    images = make_folder(tmp_path / "photos", {
        f"{'best' if i < GOOD else 'rest'}/{i}.png": encoded(picture(i)[:, :, 0])
        for i in range(GOOD + OTHER)})
    new(config, "--images", images, "--good", images / "best")
    assert written(config)["datasets"]["birds-good"]["channels"] == 1


@pytest.mark.parametrize("arguments, message", [
    (["--images", "nowhere"], "--images: no such folder or zip: nowhere"),
    (["--images", "{fifo}"], "--images: no such folder or zip: "),
    (["--good", "{fifo}"], "--good: no such folder or file: "),
    (["--resolution", "8"], "--resolution: got 8, allowed: 16 to 256"),
    (["--resolution", "250"], "an even number that can be halved to 64 or less, such as 248 or 256"),
    (["--resolution", "33"], "an even number that can be halved to 64 or less, such as 32 or 36"),
    (["--bad", "x"], "--bad: got 'x', allowed: KIND=FOLDER"),
    (["--share", "2"], "--share: got 2.0, allowed: between 0 and 1"),
    (["--measure", "qualty"], "--measure: got 'qualty', allowed: "),
    (["--at-least", "nan"], "--at-least: got nan, allowed: a number"),
    (["--seeds", "1000000000"], "--seeds: got 1000000000, allowed: 1 to 100"),
    (["--at-least", "4", "--good", "{images}"], "--at-least: got 4.0, but no scores tell here"),
    (["--column", "score"], "--column: got score, but no scores tell here")])
def test_arguments_that_can_not_be_meant_are_refused(tmp_path, config, capsys, arguments, message):
    images = make_folder(tmp_path / "photos", {"a.png": encoded(picture(0))})
    given = ["--images", images] if "--images" not in arguments else []
    os.mkfifo(tmp_path / "good.txt")
    arguments = [one.format(images=images, fifo=tmp_path / "good.txt") for one in arguments]
    assert new(config, *given, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name, words", [
    ("pixel", "studies.yaml has in studies: choose another name"), ("table2a", "table2a.yaml has in tables"),
    ("7", "no word that YAML takes for a number"), ("08", "or Snakemake for a number"),
    ("1e5", "or Snakemake for a number"), ("nan", "or Snakemake for a number"),
    ("true", "no word that YAML"), ("Birds", "small letters")])
def test_a_name_that_means_something_else_is_refused(tmp_path, config, capsys, name, words):
    """Before an image is read: the folder is empty."""
    assert front_door.main(["new", name, "--config", str(config), "--images", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_folders_are_written_as_they_lie(tmp_path, config, monkeypatch):
    """A ~ that a shell left, and a way through another folder."""
    images = folder(tmp_path / "photos")
    monkeypatch.setenv("HOME", str(images))
    assert new(config, "--images", images / "best/..", "--good", images / "best", "--bad", "dull=~/rest") == 0
    datasets = written(config)["datasets"]
    assert {one["path"] for one in datasets.values()} == {str(images)}
    assert datasets["birds-dull"]["select"]["folders"] == ["rest"]


def test_one_folder_is_not_good_and_bad(tmp_path, config, capsys):
    images = folder(tmp_path / "photos")
    assert new(config, "--images", images, "--good", images / "best", "--bad", f"dull={images / 'best'}") == 2
    assert "--bad: dull is the folder of --good" in capsys.readouterr().err
    two = [f"dull={images / 'best'}", "--bad", f"dull={images / 'rest'}"]
    assert new(config, "--images", images, "--bad", *two) == 2
    assert "--bad: got dull twice, allowed: one folder of each kind" in capsys.readouterr().err


def test_a_folder_that_holds_one_of_another_option_is_refused(tmp_path, config, capsys):
    """Before an image is read: the folders are empty."""
    place = tmp_path / "p"
    for name in ("photos/best/dull", "photos/rest", "q/good", "q/bad"):
        (place / name).mkdir(parents=True)
    images, best, apart = place / "photos", place / "photos/best", place / "q"
    (place / "good.txt").write_text("a.png")
    beside = ("; allowed: a folder inside of that one, or one beside it. Give the folder of all images to "
              "--images")
    one = ": an image is of one kind. Move one of the folders out of the other"
    for told, said in (
            ([images, "--good", place],
             f"--good: got {place}, which holds that of --images, {images}{beside}"),
            ([images, "--good", images], f"--good: got {images}, which is the folder of --images{beside}"),
            ([images, "--bad", f"dull={place}"],
             f"--bad dull: got {place}, which holds that of --images, {images}{beside}"),
            ([images, "--good", best, "--bad", f"dull={images}"],
             f"--bad dull: got {images}, which is the folder of --images{beside}"),
            ([images, "--good", apart / "good", "--bad", f"dull={apart}"],
             f"--bad dull: got {apart}, which holds that of --good, {apart / 'good'}{one}"),
            ([images, "--good", apart, "--bad", f"dull={apart / 'bad'}"],
             f"--good: got {apart}, which holds that of --bad dull, {apart / 'bad'}{one}"),
            ([images, "--good", best, "--bad", f"dull={best / 'dull'}"],
             f"--good: got {best}, which holds that of --bad dull, {best / 'dull'}{one}")):
        assert new(config, "--images", *told) == 2
        assert f"error: {said}\n" in capsys.readouterr().err
    # What a folder of --images takes first is not in the one around it. A list is no folder.
    for told in (["--good", best / "dull", "--bad", f"rest={best}"],
                 ["--good", place / "good.txt", "--bad", f"dull={apart}"]):
        assert new(config, "--images", images, *told) == 2
        assert "no images" in capsys.readouterr().err


def test_a_scale_that_exists_is_kept(tmp_path, config, capsys):
    (config / "scales/birds.yaml").write_text("extends: small\n")
    assert new(config, "--images", tmp_path) == 2
    assert "exists. Edit it, or remove it" in capsys.readouterr().err


@pytest.mark.parametrize("side", [16, 24, 28, 32, 48, 56, 64, 96, 100, 128, 256])
def test_every_resolution_has_a_network(side):
    chosen = sizes(side)
    spec = NetworkSpec(chosen.channels, chosen.levels, 1, (), 0.0)
    check_network("studies.birds.training", spec, side)
    assert side >> (len(levels(side)) - 1) >= 7


def test_a_side_that_can_hardly_be_halved_is_refused_or_told():
    """Of two levels or more in any case; of as many as the sides beside it, or it is said."""
    refused, told = [], {}
    for side in range(16, 257):
        try:
            chosen = sizes(side)
        except ValueError:
            refused.append(side)
            chosen = sizes(near(side)[0])
        told[side] = " ".join(fewer_levels(side))
        assert len(chosen.levels) >= 2
        most = max(k for k in range(1, 5) if side >> (k - 1) >= 7)
        assert bool(told[side]) == (len(levels(side)) < most)
        assert len(sizes(near(side)[0]).levels) == most
    assert {*range(17, 257, 2)} < {*refused} and 16 not in refused
    assert [side for side in refused if side % 2 == 0] == [*range(130, 257, 4)]
    assert told[34] == ("34 pixels can be halved to 17 alone, so the network has 2 levels: with --resolution "
                        "32 or 36 it has 3")


SHORT = {  # what a training needs to be one of seconds
    r"nimg: \d+": "nimg: 256", r"batch: \d+": "batch: 64", r"ramp_nimg: \d+": "ramp_nimg: 0",
    r"model_channels: \d+": "model_channels: 8", r"channel_mult: \[[^]]*\]": "channel_mult: [1, 2]",
    r"evaluations: \d+": "evaluations: 2", r"num_sigmas: \d+": "num_sigmas: 4", r"bfloat16": "float32",
    r"snapshots: \[[^]]*\]": "snapshots: [128, 256]", r"num_steps: \d+": "num_steps: 3",
    r"num_samples: \d+": "num_samples: 60"}


def test_from_a_folder_to_the_page(tmp_path):
    """The two commands of the README, on a small folder: every stage runs, the audit closes."""
    place = clone(tmp_path / "clone", "none")
    images = folder(tmp_path / "photos")
    (images / "best/broken.png").write_bytes(b"no picture")
    ask = [sys.executable, "-m", "ambient"]
    told = {"cwd": place, "env": os.environ | {"PYTHONPATH": str(place)}, "check": True, "timeout": 600}
    subprocess.run([*ask, "new", "birds", "--images", images, "--good", images / "best",
                    "--resolution", "16"], **told)
    scale = place / "config/scales/birds.yaml"
    text = scale.read_text()
    for pattern, short in SHORT.items():
        assert re.search(pattern, text), pattern
        text = re.sub(pattern, short, text)
    text += "detectors: {selfnet: {members: 1, features: 8, channels: 8, nimg: 256, batch: 64}}\n"
    scale.write_text(text)
    subprocess.run(["snakemake", "--cores", "2", "--quiet", "all", "--config", "scale=birds"], **told)
    page = (place / "results/birds/report.html").read_text()
    for words in ("Only Good", "Ambient-o", "birds-good</b>: 60 of 241 image files", "he other images ",
                  "good, held out", "1 damaged", "The noise classifier", "photos  [raw, sha256"):
        assert words in page, words
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert len(anchors) > 20 and set(anchors) <= set(re.findall(r' id="([^"]+)"', page))
    summary = place / "results/birds/annotations/birds/plus-other/per-sample.json"
    unsure = json.loads(summary.read_text())["unsure"]
    assert unsure and all(0.02 <= one["from"] < one["to"] <= 10 for one in unsure)
    table = pd.read_csv(place / "results/birds/birds.csv")
    assert table["method"].tolist() == ["Only Good", "All data", "Ambient-o"] and table["value"].notna().all()
    assert set(table["metric"]) == {"fd-selfnet"}
    audited = subprocess.run([*ask, "audit", "results/birds", "--json"], **told, capture_output=True)
    assert json.loads(audited.stdout)["artefacts"]["results/birds/birds.csv"]["level"] == 3
