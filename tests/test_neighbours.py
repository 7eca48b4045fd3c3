"""Distances of samples to training images, against those to as many unseen ones."""

import contextlib

import finished
import numpy as np
import pandas as pd
import pytest
import torch

from ambient.data.datasets import Dataset, to_float, write
from ambient.data.scores import Scores
from ambient.evaluation import neighbours
from ambient.report.drawing import plt
from ambient.report.figures import neighbours as figure_kind
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs import BestSpec, DetectorSpec, NeighboursSpec
from ambient.specs.strict import SpecError
from ambient.stages import detector as make_detector
from ambient.stages import neighbours as stage
from ambient.storage import arrays
from ambient.storage.arrays import latest, part, selected
from ambient.storage.files import write_arrays
from tests.tiny import RECORD, kept

RNG = np.random.default_rng(0)
OVERLAY = finished.OVERLAY.replace("resolution: 8}", "resolution: 8}, held: {like: digits, part: [0.5, 0.6]}")
FIGURE = """figures:
  near:
    {kind: neighbours, title: Near, study: controlled, runs: [only-clean, ambient-blur-0.6], unseen: held}
"""
CPU = torch.device("cpu")


def test_distances_are_to_the_nearest_image_of_each_part(tmp_path):
    images, samples = RNG.integers(0, 256, (700, 1, 4, 4), np.uint8), RNG.random((9, 16))
    rows = RNG.permutation(700)[:600]
    part = np.r_[np.arange(590) % 3, np.full(10, neighbours.NONE)]
    found = neighbours.distances(samples, images, rows, part, stage.pixels, CPU, "test",
                                 kept(tmp_path))
    points = to_float(images).reshape(700, 16)[rows]
    every = np.sqrt(((samples[:, None] - points[None]) ** 2).sum(axis=2))
    wanted = np.stack([every[:, part == k].min(axis=1) for k in range(3)], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_lost_shard_of_distances_is_made_again_and_no_other(tmp_path, monkeypatch):
    images, samples, seen = RNG.integers(0, 256, (700, 1, 4, 4), np.uint8), RNG.random((9, 16)), []

    def pixels(some):
        seen.append(len(some))
        return stage.pixels(some)

    def found(folder, shard):
        monkeypatch.setattr(neighbours, "SHARD", shard)
        return neighbours.distances(samples, images, np.arange(700), np.arange(700) % 3, pixels, CPU, "test",
                                    kept(tmp_path / folder))

    whole = found("whole", 1000)
    np.testing.assert_array_equal(found("parts", 100), whole)
    next((tmp_path / "parts").glob("*/test-3.safetensors")).unlink()
    seen.clear()
    np.testing.assert_array_equal(found("parts", 100), whole)
    assert seen == [100]


def test_parts_have_the_same_number_of_images_whatever_others_there_are():
    ids = np.arange(100) * 7
    part = neighbours.parts_of(ids, 30, 0, "a")
    assert np.bincount(part + 1).tolist() == [10, 30, 30, 30]
    assert (neighbours.parts_of(ids, 30, 1, "a") != part).any()


def test_copies_are_nearer_to_training_images_and_others_are_as_near():
    """Of unseen points the share is 0.5; a copy has the distance 0 to one of its parts."""
    train, test, fresh = RNG.normal(size=(3, 600, 4))

    def to(samples, points):
        distance = np.sqrt(((samples[:, None] - points[None]) ** 2).sum(axis=2)).reshape(len(samples), 6, 100)
        return distance.min(axis=2)

    free = neighbours.compared(to(fresh, train), to(fresh, test))
    assert abs(free["nearer_to_train"] - 0.5) < 4 * free["nearer_to_train_stderr"]
    assert abs(free["difference"]) < 4 * free["difference_stderr"]
    assert free["difference"] == pytest.approx(free["test"] - free["train"])
    copied = neighbours.compared(to(train, train), to(train, test))
    assert copied["difference"] > 10 * copied["difference_stderr"]


@pytest.fixture
def files(tmp_path):
    """20 training images and 10 unseen ones of one grey each, of which the brighter are the better."""
    made = {}
    for name, first, count in (("data", 0, 20), ("unseen", 100, 10)):
        images = np.broadcast_to((first + np.arange(count))[:, None, None, None], (count, 1, 4, 4))
        write(tmp_path / name, Dataset(images.astype(np.uint8), np.zeros(count, int), np.arange(count)))
        role = {"data": "scores"}.get(name, "unseen_scores")
        made |= {name: tmp_path / name, role: tmp_path / role}
        Scores(np.arange(count), np.arange(count, dtype=float)).write(made[role])
    grey = np.full((1, 2, 1, 4, 4), 19, np.uint8)
    write_arrays(tmp_path / "samples", {"64": grey, "128": np.concatenate([grey, grey + 1])})
    return made | {"samples": [tmp_path / "samples"], "state": kept(tmp_path / "state"),
                   "out": tmp_path / "out.csv"}


def test_samples_are_compared_with_all_images_and_with_the_good_ones(files):
    spec = NeighboursSpec(("a",), 5, BestSpec("s", 0.1, "all"), None, 0)
    stage.main(spec, RECORD, **files)
    rows = pd.read_csv(files["out"])
    assert rows["images"].tolist() == ["all", "good"] and rows["of"].tolist() == [10, 1]
    grey = 4 / 127.5  # a distance of one grey in 16 pixels; the good ones are 18, 19, one a part, and 109
    assert (rows["train"][1], rows["test"][1]) == pytest.approx((0.5 * grey, 90 * grey), rel=1e-5)
    assert rows["test"][0] == pytest.approx(81 * grey, rel=1e-5)
    assert rows["nearer_to_train"].tolist() == [1, 1]
    assert rows["samples"].tolist() == [2, 2] and rows["train_stderr"].tolist() == [0, 0]


def test_samples_are_read_and_kept_by_shards(files, monkeypatch):
    """10,000 samples of 512 x 512 pixels are 8 GB. A lost shard is read again, and no other."""
    spec, taken, read = NeighboursSpec(("a", "b"), 5, None, None, 0), arrays.Stored.rows, []

    def rows(array, index):
        read.append(len(index))
        return taken(array, index)

    write_arrays(files["samples"][0], {"64": np.arange(7 * 16, dtype=np.uint8).reshape(1, 7, 1, 4, 4)})
    monkeypatch.setattr(arrays, "HELD", 0)
    monkeypatch.setattr(stage, "BATCH", 2)
    monkeypatch.setattr(arrays.Stored, "rows", rows)
    found = []
    for counts in ([2, 2, 1] * 2, [1]):
        drawn = [selected(part(latest(path), 0), np.arange(5)) for path in files["samples"] * 2]
        found.append(stage.of_samples(drawn, stage.pixels, files["state"]))
        assert read == counts
        read.clear()
        next(files["state"].folder.glob("*samples-2.safetensors")).unlink()
    np.testing.assert_array_equal(*found)
    stage.main(spec, RECORD, **files | {"samples": files["samples"] * 2})
    assert pd.read_csv(files["out"])["samples"].tolist() == [5, 5]


def test_distances_may_be_of_the_features_of_a_detector(tmp_path):
    """By networks that were trained, whose parameters have gradients."""
    spec = DetectorSpec("classifier", features=6, channels=8, nimg=64, batch=32, lr=1e-3)
    images = RNG.integers(0, 256, (60, 1, 16, 16), np.uint8)
    for name, rows in (("data", slice(40)), ("unseen", slice(40, 60))):
        write(tmp_path / name, Dataset(images[rows], np.arange(60)[rows] % 2, np.arange(60)[rows]))
    write_arrays(tmp_path / "samples", {"64": images[None, :5]})
    make_detector.main(spec, RECORD, data=tmp_path / "data", weights=None, state=kept(tmp_path / "s"),
                       out=tmp_path / "net")
    stage.main(NeighboursSpec(("a",), 5, None, spec, 0), RECORD, samples=[tmp_path / "samples"],
               data=tmp_path / "data", unseen=tmp_path / "unseen", detector=tmp_path / "net",
               state=kept(tmp_path / "state"), out=tmp_path / "out.csv")
    (row,) = pd.read_csv(tmp_path / "out.csv").to_dict("records")
    assert row["samples"] == 5 and row["train"] < row["test"]  # the samples are training images


def test_a_stage_without_what_it_needs_says_so(files):
    with pytest.raises(ValueError, match="best needs --scores and --unseen-scores"):
        stage.main(NeighboursSpec(("a",), 5, BestSpec("s", 0.1, "all"), None, 0), RECORD,
                   **files | {"scores": None})
    with pytest.raises(ValueError, match="--detector: got d, allowed: none, distances are of pixels"):
        stage.main(NeighboursSpec(("a",), 5, None, None, 0), RECORD, **files, detector="d")


def test_a_share_of_no_image_is_refused_before_anything_is_compared(files):
    """Of ten unseen images a twentieth is none: there was a division by zero after all other distances."""
    with pytest.raises(ValueError, match=r"/unseen: best.share: got 0.05, of which 10 images leave none"):
        stage.main(NeighboursSpec(("a",), 5, BestSpec("s", 0.05, "all"), None, 0), RECORD,
                   **files | {"samples": []})


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("near")
    finished.configure(folder, OVERLAY + FIGURE)
    with contextlib.chdir(folder):
        return Experiments(folder / "config", finished.SCALE)


def test_the_job_reads_the_samples_of_the_runs_and_both_datasets(settings):
    graph = Graph(settings)
    job = graph.maker("results/away/neighbours/near.csv")
    assert graph.reads(job) == {
        "samples": [f"results/away/runs/{run}/seed-0/samples.safetensors"
                    for run in ("only-clean", "ambient-blur-0.6")],
        "data": ["results/away/data/digits.safetensors"], "unseen": ["results/away/data/held.safetensors"]}
    assert settings.figure("near").methods == ("Only Clean", "Ambient-o")


def test_the_figure_has_a_line_for_each_run(settings, tmp_path):
    found = neighbours.compared(RNG.random((9, 2)), RNG.random((9, 1)))
    found |= {"images": "all", "samples": 9, "of": 10}
    pd.DataFrame([{"run": "ambient-blur-0.6"} | found | {"train": 3.0, "test": 4.0},
                  {"run": "only-clean"} | found | {"train": 1.0, "test": 2.0}]).to_csv(tmp_path / "t.csv")
    figure = figure_kind.draw(settings.figure("near"), tmp_path / "t.csv")
    axis, = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["Only Clean", "Ambient-o"]
    train, test = (line.get_xdata().tolist() for line in axis.lines if line.get_marker() in "so")
    assert (train, test) == ([1.0, 3.0], [2.0, 4.0])
    plt.close(figure)


@pytest.mark.parametrize(("own", "message"), [
    ({"runs": []}, "figures.near.runs: got .., allowed: names in runs"),
    ({"unseen": "digits"}, "near.unseen: got 'digits', allowed: another dataset of the size of digits"),
    ({"unseen": "cifar10"}, "near.unseen: got 'cifar10', allowed: another dataset of the size of digits"),
    ({"detector": "digitnett"}, "no such name in detectors: 'digitnett'"),
    ({"best": {"scorer": "legible", "share": 0.1, "within": "all"}}, "near.best.scorer: no such name")])
def test_what_can_not_be_compared_is_refused(settings, own, message):
    given = {"runs": ["only-clean"], "unseen": "held"} | own
    with pytest.raises(SpecError, match=message):
        figure_kind.Spec.follows(settings, "figures.near", settings.figure_entry("near"), given)


def test_a_tie_is_not_nearer_and_errors_are_of_n_less_one():
    found = neighbours.compared(np.array([[1.0], [3.0]]), np.array([[2.0], [3.0]]))
    assert found["nearer_to_train"] == 0.5 and found["train_stderr"] == pytest.approx(1.0)
