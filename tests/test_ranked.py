"""Data whose quality nobody planted, from scores to a table: all jobs of a small scale, in this process."""

import contextlib
import shutil
from dataclasses import replace

import finished
import numpy as np
import pandas as pd
import pytest

from ambient.annotation.levels import Inputs
from ambient.annotation.methods import by_quality
from ambient.data import ranking
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read
from ambient.data.scores import Scores
from ambient.evaluation import small_nets
from ambient.evaluation.features import extract
from ambient.evaluation.frechet import moments
from ambient.report.captions import label_of
from ambient.report.page import table_of
from ambient.report.preferences import preference
from ambient.settings import Experiments
from ambient.specs import AnnotationSpec
from ambient.specs.strict import SpecError
from ambient.storage.files import read_arrays, write_json
from tests.results_tree import audit, remake

FRACTION = 0.2
OVERLAY = """extends: tiny
datasets:
  digits: {resolution: 32, max_images: null, part: [0.0, 0.03], classes: [0, 1, 2]}
  judged: {like: digits, part: [0.5, 0.53], classes: [0, 1, 2]}
scorers:
  legibility: {kind: legibility, folds: 2, features: 8, channels: 8, nimg: 256, batch: 32, lr: 0.01}
  contrast: {kind: measure, measure: contrast, patches: [16]}
  judged: {kind: margin, detector: judge}
corruptions:
  best: {op: rank, scorer: legibility, within: class}
  best-alone: {op: rank, scorer: legibility, within: class, drop: true}
detectors:
  judge: {like: digitnet, members: 1, features: 8, channels: 8, dataset: judged}
  judge-good: {like: judge, weights_of: judge, best: {scorer: legibility, share: 0.2, within: class}}
annotations:
  by-quality: {method: by_quality, sigma_min: 0.5, scorer: contrast, within: class, crop_map: given,
               patch_px: [16], patch_sigma_max: [0.25], label: By quality}
studies:
  controlled: {clean_fraction: 0.2, detector: [judge, judge-good],
               training: {optimiser: {nimg: 128}, snapshots: [128]},
               sampling: {num_samples: 20, seeds: [0]}}
tables:
  ranked:
    title: Digits by legibility
    scorers: [judged]
    defaults: {study: controlled}
    rows:
      only-good: {corruption: best-alone, annotation: clean, label: Only Good}
      with-crops: {corruption: best, annotation: by-quality}
"""
HERE = "results/away"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder in which a table of two such runs was made."""
    folder = tmp_path_factory.mktemp("ranked")
    with contextlib.chdir(folder):
        finished.configure(folder, OVERLAY)
        finished.make(folder, f"{HERE}/ranked.csv")
    return folder / HERE


def good_of(data, folder, scorer="legibility"):
    """The best fifth of each class, counted out."""
    scores = Scores.read(folder / f"scores/digits/{scorer}.safetensors").score
    found = np.zeros(len(data.ids), bool)
    for label in set(data.labels.tolist()):
        mine = np.flatnonzero(data.labels == label)
        found[sorted(mine, key=lambda i: (-scores[i], i))[:len(mine) // 5]] = True
    return found


def test_the_mixture_is_the_dataset_with_its_best_fifth_marked(made):
    data, mixture = read(made / "data/digits.safetensors"), read(
        made / "mixtures/controlled/best/clean-0.2.safetensors")
    np.testing.assert_array_equal(data.images, mixture.images)
    np.testing.assert_array_equal(mixture.corrupted == 0, good_of(data, made))
    alone = read(made / "mixtures/controlled/best-alone/clean-0.2.safetensors")
    np.testing.assert_array_equal(alone.ids, data.ids[mixture.corrupted == 0])


def test_patches_give_sigma_max_to_the_others_and_one_sigma_min_is_theirs(made):
    mixture = read(made / "mixtures/controlled/best/clean-0.2.safetensors")
    table = Annotations.read(made / "annotations/controlled/best/by-quality.safetensors").of(mixture.ids)
    np.testing.assert_array_equal(table.sigma_min, 0.5 * mixture.corrupted)
    means = Scores.read(made / "scores/digits/contrast.safetensors").patch_means[16]
    found = ranking.ranks(means, mixture.labels) < ranking.counts(mixture.labels, FRACTION)
    np.testing.assert_array_equal(table.sigma_max, 0.25 * (found & (mixture.corrupted == 1)))
    assert (table.sigma_max > 0).any()


def test_the_judge_has_seen_none_of_the_images_and_measures_to_the_good_ones_too(made):
    data, judged = read(made / "data/digits.safetensors"), read(made / "data/judged.safetensors")
    assert not len(np.intersect1d(data.ids, judged.ids)) and len(judged.ids) > 20
    experiments = Experiments(made.parents[1] / "config", "away")
    weights = made / "detectors/judged/judge.weights"
    for name, images in (("judge", data.images), ("judge-good", data.images[good_of(data, made)])):
        expected = moments(extract(experiments.detector(name), weights, images))
        stored = read_arrays(made / f"detectors/digits/{name}-reference.safetensors")
        np.testing.assert_allclose(stored["mean"], expected.mean, rtol=1e-6)
        assert stored["count"][0] == len(images)
    assert not (made / "detectors/judged/judge-good.weights").exists()


def test_the_table_says_to_which_images_each_distance_is(made):
    table = pd.read_csv(made / "ranked.csv")
    assert table["method"].tolist() == ["Only Good", "By quality"]
    assert set(table["corruption"]) == {"rank"} and set(table["scorer"]) == {"legibility"}
    assert set(table["fd-judge-good_reference_best"]) == {"best 0.2 by legibility within each class"}
    assert "reference_best" not in table and (table["fd-judge-good"] != table["value"]).all()
    assert (table["fd-judge-good_reference_images"] < table["reference_images"]).all()
    assert table["images_added"].tolist()[0] == 0 and table["images_clean"].nunique() == 1
    assert table["sigma_max_mean"].notna().tolist() == [False, True]


def test_samples_are_scored_by_who_did_not_annotate_and_compared_in_pairs(made):
    table, scores = pd.read_csv(made / "ranked.csv"), []
    network = small_nets.load(made / "detectors/judged/judge.weights")
    for run in ("only-good", "with-crops"):
        place = made / f"runs/{run}/seed-0"
        images = read_arrays(place / "samples.safetensors")["128"]
        log_p = small_nets.log_probabilities(network, images[0])[0]
        expected = [np.subtract(*sorted(p.tolist())[:-3:-1]) for p in log_p]
        scores.append(read_arrays(place / "scores-judged.safetensors")["score"])
        assert scores[-1].shape == (1, 20)
        np.testing.assert_allclose(scores[-1][0], expected, atol=1e-5)
    np.testing.assert_allclose(table["judged_mean"], [one.mean() for one in scores], rtol=1e-5)
    np.testing.assert_allclose(table["judged_median"], [np.median(one) for one in scores], rtol=1e-5)
    rate = (scores[1] > scores[0]).mean()
    assert np.isnan(table["judged_win_rate"][0]) and table["judged_win_rate"][1] == pytest.approx(rate)
    shown = table_of(Experiments(made.parents[1] / "config", "away").table("ranked"), table)
    assert f"{rate:.3f}" == shown["rows"][1]["cells"][shown["columns"].index("judged: win rate")]


def test_a_win_rate_counts_ties_as_halves_and_has_a_standard_error():
    one, other = np.array([[3.0, 1, 2, 5]]), np.array([[2.0, 1, 4, 1]])
    assert preference(one, other) == {"win_rate": 0.625, "ties": 0.25,
                                      "win_rate_se": (0.625 * 0.375 / 4) ** 0.5}
    assert preference(other, one)["win_rate"] == 1 - 0.625
    with pytest.raises(ValueError, match="samples of the shapes .1, 4. and .1, 3. are no pairs"):
        preference(one, other[:, :3])


def test_the_audit_derives_the_table_and_tells_scores_of_another_scorer(made, tmp_path):
    found = audit(made).results[made / "ranked.csv"]
    assert found.level == 3, found.problems
    for name, deeds, words in (
            ("best", {"detectors/digits/judge-good-reference.safetensors": best_by_another} | {
                f"runs/{run}/seed-0/{file}-judge-good.{kind}": detector_best_by_another
                for run in ("only-good", "with-crops")
                for file, kind in (("metrics", "json"), ("moments", "safetensors"))},
             "is of the best by legibility, its specification says other"),
            ("mixture", {"mixtures/controlled/best/clean-0.2.safetensors":
                         lambda told: told["spec"]["params"].update(scorer="other")},
             "clean-0.2.safetensors, its specification says other")):
        forged = shutil.copytree(made, tmp_path / name / HERE)
        remake(forged, {forged / place: deed for place, deed in deeds.items()})
        said = [problem.detail for one in audit(forged).results.values() for problem in one.problems]
        assert any(words in detail for detail in said), said


def best_by_another(told):
    told["spec"]["best"]["scorer"] = "other"


def detector_best_by_another(told):
    told["spec"]["detector"]["best"]["scorer"] = "other"


# --- what is refused when the configuration is read -----------------------------------------------


@pytest.mark.parametrize(("old", "new", "words"), [
    ("scorer: legibility, within: class}\n  best-alone", "scorer: legible, within: class}\n  best-alone",
     "corruptions.best.scorer: no such name in scorers: 'legible' .did you mean 'legibility'"),
    ("within: class, drop", "within: classes, drop", "within: got 'classes', allowed: class, all"),
    ("within: class, drop", "withn: class, drop", "unknown key 'withn'"),
    ("within: class, crop_map", "within: all, crop_map",
     "annotations.by-quality.within: got 'all', allowed: class, as corruptions.best"),
    ("patch_px: [16], ", "", "patch_px: got .., allowed: sides of patches"),
    ("patch_sigma_max: [0.25]", "patch_sigma_max: [0.25, 1.0]", "patch_sigma_max: .*1 levels"),
    ("share: 0.2", "share: 0.0", "detectors.judge-good.best.share: got 0.0, allowed"),
    ("weights_of: judge,", "weights_of: judge, nimg: 128,", "weights_of: got 'judge', allowed: .*: judge"),
    ("weights_of: judge,", "weights_of: judge, dataset: digits,", "judge-good.dataset: got 'digits', allow"),
    ("0.03], classes: [0, 1, 2]", "0.03], classes: [0]", "scorers.legibility.kind: got 'legibility', allow"),
    ("patches: [16]", "patches: [24]", "scorers.contrast.patches: .* divide the images' 32 pixels"),
    ("scorers: [judged]", "scorers: [legibility]", "ranked.scorers: got 'legibility', .* image alone"),
    ("scorers: [judged]", "scorers: [contrast]", "got 'contrast', allowed: one that has not told the good"),
    ("margin, detector: judge", "margin, detector: jury", "judged.detector: no such name in detectors"),
    ("best, annotation: by", "none, annotation: by", "got corruption 'none', allowed for method by_qual")])
def test_what_does_not_fit_together_is_refused(old, new, words, tmp_path):
    assert OVERLAY.count(old) == 1
    finished.configure(tmp_path, OVERLAY.replace(old, new))
    with pytest.raises(SpecError, match=words):
        Experiments(tmp_path / "config", "away")


def test_a_score_judges_itself_where_its_table_says_so(tmp_path):
    own = "scorers: [contrast]\n    own_judge: true"
    finished.configure(tmp_path, OVERLAY.replace("scorers: [judged]", own))
    found = Experiments(tmp_path / "config", "away")
    assert found.table("ranked").scorers == ("contrast",)


# --- the method by itself -------------------------------------------------------------------------


def spec(**changes):
    common = {"epsilon": 0.05, "num_sigmas": 4, "grid": "geometric", "noise": {"P_mean": 0, "P_std": 1},
              "sigma_low": 0.1, "sigma_high": 1.0, "num_trials": 1, "smoothing_span": 1, "seed": 0,
              "never_crosses": "last", "precision": "float32"}
    return AnnotationSpec(method="by_quality", sigma_min=0.2, scorer="s", **common | changes)


def test_the_released_map_is_that_of_imagenet_and_a_measured_one_is_in_latents(tmp_path):
    assert by_quality.levels_of(spec(crop_map="released"), Inputs()) == ranking.RELEASED
    write_json(tmp_path / "map.json", {"sigmas": [0.1, 0.2, 0.4], "crop_px": [2, 4, 8]})
    measured = spec(patch_px=(16, 32, 64), pixel_factor=8)
    assert measured.reads_locality()
    assert by_quality.levels_of(measured, Inputs(locality=tmp_path / "map.json")) == {
        16: 0.1, 32: 0.2, 64: 0.4}
    with pytest.raises(SpecError, match="pixel_factor: got 8, allowed: >= 1, a divisor"):
        replace(measured, patch_px=(4,))
    for map_of in ({"crop_map": "released"},
                   {"crop_map": "given", "patch_px": (16,), "patch_sigma_max": (0.1,)}):
        assert spec(**map_of).pixel_factor == 1
        with pytest.raises(SpecError, match="pixel_factor: got 8, allowed: 1: crop_map [gr]"):
            spec(**map_of, pixel_factor=8)


def test_a_scorer_without_patches_is_refused(tmp_path):
    Scores(np.arange(4), np.arange(4.0)).write(tmp_path / "s.safetensors")
    data = Dataset(np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, int), np.arange(4),
                   np.array([1, 1, 0, 0], np.uint8))
    with pytest.raises(ValueError, match="no scores of patches of 32 pixels, allowed: none, the scorer has"):
        by_quality.annotate(spec(crop_map="released"), data, Inputs(scores=tmp_path / "s.safetensors"), None)


def test_a_row_of_ranked_images_is_not_named_by_the_good_ones():
    """All data by quality is no row of the best tenth. Where methods repeat, the label tells rows apart."""
    rows = Experiments("config", "demo").table("table1").rows
    names = [label_of(row, rows) for row in rows]
    assert names == [row.method for row in rows] and "EDM2" in names
    twice = [replace(row, method="EDM2") for row in rows]
    assert label_of(twice[0], twice) == "EDM2, the most legible tenth"
