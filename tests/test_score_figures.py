"""Figures of scores: which images and patches they show, and what their curves are of."""

from __future__ import annotations

import contextlib

import finished
import numpy as np
import pytest

from ambient.data.datasets import Dataset, write
from ambient.data.scores import Scores
from ambient.report import figures, scored
from ambient.report.drawing import plt
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs import FigureSpec
from ambient.specs.strict import SpecError

COUNT, SIDE = 40, 8
LEVEL = np.random.default_rng(0).permutation(COUNT)  # of image i: its grey and its score
OVERLAY = """extends: tiny
datasets: {digits: {resolution: 32}}
scorers:
  contrast: {kind: measure, measure: contrast, patches: [16]}
  theirs: {kind: table, path: own.csv, column: q, patches: [16], patch_column: "q{px}"}
figures:
  figure4: {kind: best_worst, title: Figure 4, study: controlled, scorer: contrast, images: 4}
  figure5: {kind: best_worst_crops, title: Figure 5, study: controlled, scorer: contrast, patch_px: 16}
  figure30: {kind: score_histogram, title: Figure 30, study: controlled, scorer: contrast, within: class}
"""


def spec(kind, **own):
    common = {"names": (), "corruptions": (), "noise": {"P_mean": 0.0, "P_std": 1.0}, "epsilon": 0.05,
              "buffer": None, "crop_sigma": 0.001, "images": 4, "seed": 0, "title": "Digits"}
    return FigureSpec(kind=kind, **common, scorer="brightness", share=0.25, **own)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images of one grey each, scores: its level, and of patches which rise from left to right."""
    folder = tmp_path_factory.mktemp("scored")
    images = np.broadcast_to(LEVEL[:, None, None, None], (COUNT, 1, SIDE, SIDE)).astype(np.uint8).copy()
    images[:, :, :, SIDE // 2:] += 100
    ids = np.arange(COUNT) * 5
    write(folder / "data.safetensors", Dataset(images, LEVEL % 2, ids))
    each = np.stack([images[:, 0, y, x] for y in (0, 4) for x in (0, 4)], axis=1).reshape(COUNT, 2, 2)
    order = np.arange(COUNT)
    Scores(ids[order], LEVEL[order].astype(float), {4: each.mean(axis=(1, 2))},
           {4: each.astype(np.float32)}).write(folder / "scores.safetensors")
    return {"data": folder / "data.safetensors", "scores": folder / "scores.safetensors"}


@pytest.fixture
def drawn(files):
    yield lambda kind, **own: figures.KINDS[kind].draw(spec(kind, **own), **files)
    plt.close("all")


def pictures(figure):
    """(title, picture) of all that are shown, in order."""
    return [(axis.get_title(loc="left"), image.get_array()) for axis in figure.axes for image in axis.images]


def test_the_best_images_come_from_the_best_on_and_the_worst_from_the_worst_on(drawn):
    (best, above), (worst, below) = pictures(drawn("best_worst"))
    assert best == "the best: brightness 39 to 32" and worst == "the worst: brightness 7 to 0"
    assert above[::SIDE, ::SIDE].ravel().tolist() == list(range(39, 31, -1))
    assert below[::SIDE, ::SIDE].ravel().tolist() == list(range(8))


def test_in_classes_the_best_of_each_come_by_turns():
    score, groups = np.array([9.0, 8, 7, 6, 5, 4]), np.array([0, 0, 0, 0, 1, 1])
    best, worst = scored.extremes(score, groups, 4)
    assert best.tolist() == [0, 4, 1, 5] and worst.tolist() == [5, 3, 4, 2]


def test_patches_are_shown_in_the_images_that_they_are_of(drawn):
    figure = drawn("best_worst_crops", patch_px=4)
    shown = pictures(figure)
    assert len(shown) == 16
    for k in range(4):
        (_, whole), (value, patch) = shown[k], shown[4 + k]
        assert whole[0, 0] == 39 - k and float(value) == 139 - k and (patch == 139 - k).all()
        (_, whole), (value, patch) = shown[8 + k], shown[12 + k]
        assert whole[0, 0] == k and float(value) == k and (patch == k).all()
    frames = [patch.get_xy() for axis in figure.axes for patch in axis.patches]
    assert frames[:4] == [(3.5, -0.5)] * 4 and frames[4:] == [(-0.5, -0.5)] * 4


def test_patches_that_have_no_scores_can_not_be_shown(drawn):
    with pytest.raises(ValueError, match="no score of each patch of 8 pixels, allowed: 4"):
        drawn("best_worst_crops", patch_px=8)


@pytest.mark.parametrize(("within", "least"), [("all", 30), ("class", 30)])
def test_the_histogram_parts_the_good_from_the_others_and_the_curve_falls(drawn, within, least):
    left, right = drawn("score_histogram", within=within).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["30 others", "10 good images"]
    heights = [bar.get_height() for bar in left.patches]
    assert sum(heights) == COUNT
    curve = right.lines[0]
    np.testing.assert_allclose(curve.get_xdata(), (np.arange(COUNT) + 1) / COUNT)
    np.testing.assert_array_equal(curve.get_ydata(), np.arange(COUNT)[::-1])
    assert right.lines[1].get_xdata()[0] == 0.25 and right.lines[2].get_ydata()[0] == least


def test_scores_of_other_images_are_refused(files, tmp_path):
    Scores(np.arange(3), np.arange(3.0)).write(tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match="the scores were made for another dataset"):
        figures.KINDS["best_worst"].draw(spec("best_worst"), files["data"], tmp_path / "s.safetensors")


def test_a_scale_asks_for_them_by_name_and_they_are_drawn_from_two_files(tmp_path):
    finished.configure(tmp_path, OVERLAY)
    experiments = Experiments(tmp_path / "config", "away")
    graph = Graph(experiments)
    assert experiments.figure("figure4").share == experiments.fraction("controlled")
    for name in ("figure4", "figure5", "figure30"):
        job = graph.maker(f"results/away/{name}.png")
        assert job.kind == "crops_figures" and graph.reads(job) == {
            "data": ["results/away/data/digits.safetensors"],
            "scores": ["results/away/scores/digits/contrast.safetensors"]}
    with contextlib.chdir(tmp_path):
        finished.make(tmp_path, "results/away/figure5.png")
        assert (tmp_path / "results/away/figure5.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("old", "new", "words"), [
    ("scorer: contrast, images: 4", "scorer: contras, images: 4", "no such name in scorers: 'contras'"),
    ("patch_px: 16}", "patch_px: 8}", "figures.figure5.patch_px: got 8, allowed: 16"),
    ("scorer: contrast, patch_px", "scorer: theirs, patch_px",
     "patch_px: got 16, allowed: none: theirs scores no patches"),
    ("scorer: contrast, within: class", "scorer: contrast, share: 0.5", "unknown key 'share'"),
    ("{digits: {resolution: 32}}", "{digits: {resolution: 8}}", "one for images of 8 pixels")])
def test_what_a_figure_of_scores_can_not_show_is_refused(old, new, words, tmp_path):
    assert OVERLAY.count(old) == 1
    finished.configure(tmp_path, OVERLAY.replace(old, new))
    with pytest.raises(SpecError, match=words):
        Experiments(tmp_path / "config", "away")
