"""Measures of quality: closed forms, an independent implementation, damage to real photographs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ambient.data import photos, quality
from ambient.data.datasets import to_float, to_uint8
from ambient.data.luma import luma
from ambient.data.measures import measure
from ambient.data.raw import Raw
from ambient.provenance.source_code import closure
from ambient.settings.compatible_data import check_dataset
from ambient.specs import DatasetSpec, SelectSpec
from ambient.specs.strict import SpecError
from benchmarks.quality import damaged, photographs, scores, separation

SHIPPED = {"sharpness", "noise", "blockiness", "exposure", "contrast", "detail", "quality"}


def wave(order, side=64, height=100):
    """Half a cosine wave times `order` along x, without change along y: reflection continues it as it is."""
    line = 128 + height * np.cos(np.pi * order * (np.arange(side) + 0.5) / side)
    return np.rint(np.tile(line, (side, 1))).astype(np.uint8)[None]


# --- the registry ---------------------------------------------------------------------------------


def test_measures_are_the_files_of_their_folder():
    files = {path.stem for path in Path(quality.__file__).parent.glob("[!_]*.py")}
    assert set(quality.KINDS) == files >= SHIPPED


def test_a_file_more_is_a_measure_more(tmp_path):
    (tmp_path / "redness.py").write_text("def score(image):\n    return image[0].mean()\n")
    code = ("import numpy as np; from ambient.data import quality\n"
            f"quality.__path__.append({str(tmp_path)!r})\n"
            "from ambient.data.measures import measure\n"
            "print(measure('redness')(np.full((3, 16, 16), 7, np.uint8)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "7.0\n"


def test_scores_need_no_torch():
    code = ("import sys, numpy as np; from ambient.data.measures import KINDS, measure\n"
            "[measure(name)(np.zeros((3, 16, 16), np.uint8)) for name in KINDS]\n"
            "print(sorted({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(("name", "words"), [
    ("sharpnes", "did you mean 'sharpness'?"), ("", "known: blockiness, contrast, detail"),
    ("__init__", "known"), ("clip-iqa", "got 'clip-iqa'")])
def test_an_unknown_measure_is_refused_in_one_line(name, words):
    with pytest.raises(ValueError) as refused:
        measure(name)
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(quality.KINDS))
@pytest.mark.parametrize("image", [np.zeros((3, 32, 32), np.float32), np.zeros((32, 32), np.uint8),
                                   np.zeros((4, 32, 32), np.uint8), np.zeros((1, 32, 15), np.uint8)])
def test_what_is_no_prepared_image_is_refused(name, image):
    with pytest.raises(ValueError, match=r"allowed: uint8 \(1 or 3, H, W\) with H and W of at least 16"):
        measure(name)(image)


@pytest.mark.parametrize("name", sorted(quality.KINDS))
def test_any_image_has_a_finite_score_and_is_left_as_it_was(name):
    rng = np.random.default_rng(3)
    for side in (16, 28, 48):
        for image in (np.zeros((3, side, side), np.uint8), np.full((1, side, side), 255, np.uint8),
                      rng.integers(0, 256, (3, side, side), np.uint8)):
            before = image.copy()
            value = measure(name)(image)
            assert isinstance(value, float) and np.isfinite(value)
            np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", sorted(quality.KINDS))
def test_grey_images_score_as_their_three_equal_channels(name):
    grey = photographs(32, 1)[0][:1]
    assert measure(name)(grey) == pytest.approx(measure(name)(np.repeat(grey, 3, axis=0)), rel=1e-9)


# --- what selects by them -------------------------------------------------------------------------


def by_quality(name, resolution=32):
    return DatasetSpec("photos", resolution, 3, crop="centre",
                       select=SelectSpec(by="quality", measure=name, at_least=0.25))


def test_a_folder_of_photographs_is_parted_by_a_measure(tmp_path, capsys):
    sharp = photographs(32, 4)
    blurred = damaged(sharp, ("gaussian_blur", {"sigma_px": 1.5}))
    for k, image in enumerate([*sharp, *blurred]):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{k}.png")
    spec = by_quality("sharpness")
    good = photos.read(Raw(tmp_path), spec)
    poor = photos.read(Raw(tmp_path), replace(spec, select=replace(spec.select, good=False)))
    assert good.rows.tolist() == [0, 1, 2, 3] and poor.rows.tolist() == [4, 5, 6, 7]
    np.testing.assert_allclose(poor.scores, [measure("sharpness")(image) for image in blurred])
    assert "score by sharpness: 8/8 images" in capsys.readouterr().err


def test_a_measure_that_there_is_not_is_refused_before_a_job_runs():
    check_dataset("birds", by_quality("noise"))
    message = r"datasets.birds.select.measure: got 'sharp' \(did you mean 'sharpness'"
    with pytest.raises(SpecError, match=message):
        check_dataset("birds", by_quality("sharp"))
    with pytest.raises(SpecError, match="datasets.birds.resolution: got 8, allowed: at least 16 pixels"):
        check_dataset("birds", by_quality("noise", 8))


def test_the_code_of_a_dataset_has_the_measure_that_it_names_and_no_other():
    code = closure("ambient.prepare", frozenset(["photos", "sharpness"]))
    files = {name for name in code if name.startswith("ambient/data/quality/")}
    assert files == {"ambient/data/quality/sharpness.py"} and "ambient/data/luma.py" in code


# --- each measure ---------------------------------------------------------------------------------


def test_luma_is_that_of_jpeg():
    image = photographs(32, 1)[0]
    pillow = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))
    np.testing.assert_allclose(luma(image), pillow, atol=0.51)


@pytest.mark.parametrize("order", [4, 16, 32])
def test_sharpness_of_a_wave_is_what_a_gaussian_takes_from_it(order):
    """A wave cos(w x) is an eigenfunction of the blur, with the eigenvalue sum_k g_k cos(w k)."""
    k = np.arange(-3, 4)
    weights = np.exp(-k**2 / (2 * 0.7**2))
    left = (weights * np.cos(np.pi * order / 64 * k)).sum() / weights.sum()
    assert measure("sharpness")(wave(order)) == pytest.approx(1 - left, abs=0.01)


def test_sharpness_knows_no_contrast_and_nothing_of_an_empty_picture():
    strong, weak = (measure("sharpness")(wave(8, height=height)) for height in (100, 25))
    assert strong == pytest.approx(weak, abs=0.01)
    assert measure("sharpness")(np.full((1, 32, 32), 90, np.uint8)) == 0


def test_noise_of_a_chessboard_and_of_what_is_linear_along_lines_or_columns():
    board = 128 + 12 * (-1) ** np.add.outer(np.arange(32), np.arange(32))
    assert measure("noise")(board[None].astype(np.uint8)) == pytest.approx(-12 * 16 / 6)
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    for smooth in (x + 3 * y, 20 + 7 * x, y**2 // 4 + 2 * x, 8 * (x % 3) + y):  # the last: stripes
        assert measure("noise")(smooth[None].astype(np.uint8)) == 0


def test_noise_is_in_proportion_to_its_standard_deviation():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((3, 128, 128))
    read = [-measure("noise")(to_uint8(noise * std / 127.5)) / std for std in (4, 8, 16)]
    np.testing.assert_allclose(read, 0.775, atol=0.01)
    half = photographs(64, 1)[0].copy()
    half[:, :32] = 100  # a sky without noise: one flat part is enough to tell that the camera has none
    noisy = to_uint8(to_float(half) + noise[:, :64, :64] * 4 / 127.5)
    assert measure("noise")(half) > measure("noise")(noisy) + 2


def test_blockiness_of_steps_between_blocks_and_elsewhere():
    """A staircase of h along x has steps h between blocks and h/2 on both sides; moved, it has none there."""
    stairs = np.tile(20 * (np.arange(64) // 8), (64, 1)).astype(np.uint8)[None]
    within = 7 * 2 * 10 / (61 - 7)  # seven edges, each with two neighbours, among 61 steps
    assert measure("blockiness")(stairs) == pytest.approx(-np.log(21 / (within + 1)))
    assert measure("blockiness")(stairs.transpose(0, 2, 1)) == pytest.approx(measure("blockiness")(stairs))
    assert measure("blockiness")(np.roll(stairs, 4, axis=2)) > 0 > measure("blockiness")(stairs)
    ramp = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)[None]
    assert measure("blockiness")(ramp) == 0


def test_exposure_is_one_in_the_middle_and_minus_one_where_all_is_clipped():
    for value, expected in ((0, -1), (255, -1), (2, 4 / 255 - 1), (3, 6 / 255), (51, 0.4), (204, 0.4)):
        assert measure("exposure")(np.full((3, 16, 16), value, np.uint8)) == pytest.approx(expected, abs=1e-9)
    half = np.full((1, 16, 16), 127, np.uint8)
    half[:, :4] = 255  # a quarter is clipped
    assert measure("exposure")(half) == pytest.approx(1 - abs(2 * (0.75 * 127 + 0.25 * 255) / 255 - 1) - 0.25)


def test_contrast_is_the_range_between_two_quantiles():
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert measure("contrast")(ramp) == pytest.approx(0.9)
    assert measure("contrast")(ramp // 2) == pytest.approx(0.45, abs=0.005)
    ramp.reshape(-1)[:10] = 255  # a few pixels do not matter
    assert measure("contrast")(ramp) == pytest.approx(0.9, abs=0.03)


def test_detail_is_the_mean_step_along_lines_and_columns():
    stripes = np.tile(np.array([[0, 60]], np.uint8), (16, 8))[None]  # each step along a line is one of 60
    assert measure("detail")(stripes) == pytest.approx(60) == measure("detail")(stripes.transpose(0, 2, 1))
    assert measure("detail")(stripes // 2) == pytest.approx(30)
    assert measure("detail")(np.full((3, 16, 16), 9, np.uint8)) == 0


def test_quality_is_the_worst_of_five_in_spreads_below_the_ordinary():
    ordinary = {"sharpness": (0.36, 0.051), "noise": (-1.1, 2.2), "blockiness": (0.0, 0.12),
                "exposure": (0.79, 0.19), "contrast": (0.68, 0.20)}
    for image in photographs(48, 6):
        spreads = [(measure(name)(image) - median) / spread for name, (median, spread) in ordinary.items()]
        assert measure("quality")(image) == pytest.approx(min(spreads))


@pytest.mark.parametrize(("names", "op", "params"), [
    (["sharpness", "quality"], "gaussian_blur", {"sigma_px": 0.6}),
    (["sharpness", "quality"], "motion_blur", {"length_px": 5.0}),
    (["sharpness", "quality"], "pixelate", {"block_px": 2}),
    (["blockiness", "quality"], "jpeg", {"quality": 25}),
    (["noise", "quality"], "additive_noise", {"std": 0.1}),
    (["noise", "quality"], "random_mask", {"prob": 0.2}),
    (["exposure", "quality"], "colour_shift", {"shift": -0.8}),
    (["contrast", "quality"], "contrast", {"factor": 0.2})])
@pytest.mark.parametrize("side", [32, 64])
def test_damage_to_photographs_is_told_by_the_measure_it_is_for(names, op, params, side):
    good, bad = photographs(side, 48, seed=1), damaged(photographs(side, 48, seed=2), (op, params))
    for name in names:
        assert separation(*(scores(measure(name), part) for part in (good, bad))) > 0.88, name


def test_sharpness_of_a_photograph_by_a_blur_that_is_written_out():
    image = photographs(32, 1)[0]
    k = np.arange(-3, 4)
    weights = np.exp(-k**2 / (2 * 0.7**2)) / np.exp(-k**2 / (2 * 0.7**2)).sum()
    picture = np.tensordot([0.299, 0.587, 0.114], image.astype(float), 1)
    padded = np.pad(picture, 3, mode="symmetric")
    lines = sum(w * padded[:, 3 + j:35 + j] for w, j in zip(weights, k, strict=True))
    blurred = sum(w * lines[3 + j:35 + j] for w, j in zip(weights, k, strict=True))
    before, after = (np.abs(p[1:] - p[:-1]).mean() + np.abs(p[:, 1:] - p[:, :-1]).mean()
                     for p in (picture, blurred))
    assert measure("sharpness")(image) == pytest.approx(1 - (after + 0.1) / (before + 0.1), rel=1e-6)
