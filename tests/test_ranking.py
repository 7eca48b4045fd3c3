"""Which images are the best: the rule of quality against vectors, closed forms and the released mistake."""

import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from ambient.data import ranking
from ambient.data.datasets import Dataset
from ambient.data.scores import Scores, cut, means
from ambient.diffusion import randomness
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.diffusion.wholes import floor_of
from ambient.specs import BestSpec, MixtureSpec
from ambient.specs.strict import SpecError
from ambient.stages.corrupt import mix

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
VECTORS = REFERENCE / "latent/quality_rule.safetensors"
SIDES = (32, 64, 128, 256, 512)


@pytest.fixture(scope="module")
def vectors():
    if not VECTORS.exists():
        pytest.skip(f"no vectors at {REFERENCE}")
    with safe_open(VECTORS, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def annotated(by_side, score, bad_share, sigma_min, crops):
    """(sigma_min, sigma_max) of the rule, as the vectors state it."""
    groups = np.zeros(len(score), np.int64)
    good = ranking.counts(groups, float(1 - Fraction(str(bad_share))))
    low = np.where(ranking.ranks(score, groups) < good, 0, np.float32(sigma_min))
    high = ranking.sigma_max(by_side, good, groups, ranking.RELEASED) if crops else np.zeros(len(score))
    return low, high.astype(np.float32)


def test_the_rule_is_that_of_the_vectors(vectors):
    arrays, about = vectors
    by_side = {side: arrays[f"CLIP-IQA-{side}"] for side in SIDES}
    assert {int(k): v for k, v in json.loads(about["mapping"]).items()} == ranking.RELEASED
    runs = json.loads(about["runs"])
    assert len(runs) == 3
    for run in runs:
        low, high = annotated(by_side, arrays["CLIP-IQA"], run["bad_share"], run["sigma_min"], run["crops"])
        np.testing.assert_array_equal(low, arrays[f"out.{run['tag']}.sigma_min"])
        np.testing.assert_array_equal(high, arrays[f"out.{run['tag']}.sigma_max"])
        assert (low == 0).sum() == run["good"]


def test_ties_go_to_the_lower_place_and_the_released_rank_is_the_permutation(vectors):
    arrays, _ = vectors
    scores = arrays["ties.scores"]
    expected = arrays["ties.out.sigma_min"]
    good = ranking.ranks(scores, np.zeros(len(scores))) < (expected == 0).sum()
    np.testing.assert_array_equal(good, expected == 0)
    released = ranking.released_ranks(arrays["CLIP-IQA"]) < 100
    np.testing.assert_array_equal(released, arrays["released_rule.sigma_min"] == 0)


def test_images_are_used_at_the_levels_of_the_vectors(vectors):
    arrays, _ = vectors
    (low, high), sigma = arrays["grid.pairs"].T, arrays["grid.sigma"]
    allowed = arrays["grid.out.eligible"].astype(bool)
    pairs = low[:, None], high[:, None]
    np.testing.assert_array_equal(Admission().admits(sigma, *pairs), allowed)
    tn = np.where(Admission().above(sigma, pairs[0]), pairs[0], 0)
    np.testing.assert_array_equal(np.where(allowed, tn, 0), arrays["grid.out.sigma_tn"])
    sampler = EligibleSampler(low, high, Admission())
    np.testing.assert_array_equal(np.sum(sampler.count(sigma), axis=0), allowed.sum(axis=0))


def test_patches_are_those_of_the_vectors(vectors):
    arrays, _ = vectors
    for side in (8, 16, 32, 64):
        each = np.stack([cut(image, side).max(axis=(2, 3, 4)) for image in arrays["patch.images"]])
        np.testing.assert_allclose(means(each), arrays[f"patch.out.{side}"], rtol=1e-12)


@pytest.mark.parametrize(("total", "share", "expected"), [
    (1_281_167, 0.1, 128_116), (10, 0.1, 1), (100, 0.1, 10), (90, 0.1, 9), (30, 0.7, 21), (7, 1.0, 7),
    (3, 0.3, 0), (1000, 0.29, 290), (100, 0.58, 58), (100, 1 - 0.9, 10), (10, 1 - 0.9, 1), (90, 1 - 0.9, 9),
    (1_281_167, 1 - 0.9, 128_116), (99, 1 - 0.9, 9), (10**9, 1 - 0.9, 10**8), (10**9, 0.099999, 99_999_000)])
def test_the_number_of_good_images_is_exact(total, share, expected):
    assert ranking.count(total, share) == expected


def test_a_share_of_decimals_is_the_floor_of_the_exact_product():
    """However the share was computed: as it is written, or as what another leaves of 1."""
    rng = np.random.default_rng(0)
    for digits in range(1, 7):
        parts, totals = rng.integers(0, 10**digits + 1, 2000).tolist(), rng.integers(1, 10**7, 2000).tolist()
        for part, total in zip(parts, totals, strict=True):
            share, rest = (float(f"{k / 10**digits:.{digits}f}") for k in (part, 10**digits - part))
            exact = total * part // 10**digits
            assert floor_of(total, share) == floor_of(total, 1 - rest) == exact, (total, share)


def test_ranks_are_the_inverse_of_the_sorting_permutation_in_each_group():
    rng = np.random.default_rng(0)
    scores, groups = rng.integers(0, 9, 200) / 8, rng.integers(0, 3, 200)
    found = ranking.ranks(scores, groups)
    for i in range(200):
        same = groups == groups[i]
        before = (scores > scores[i]) | ((scores == scores[i]) & (np.arange(200) < i))
        assert found[i] == (same & before).sum()
    counts = ranking.counts(groups, 0.35)
    for group in range(3):
        size = int((groups == group).sum())
        assert ((found < counts) & (groups == group)).sum() == size * 35 // 100


def test_a_larger_side_takes_the_place_of_a_smaller_ones():
    groups, good = np.zeros(4), np.full(4, 2)
    by_side = {8: np.array([4, 3, 2, 1.0]), 16: np.array([1, 4, 3, 2.0])}
    np.testing.assert_array_equal(ranking.sigma_max(by_side, good, groups, {8: 0.1, 16: 0.5}),
                                  [0.1, 0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="no scores of patches of 32 pixels, allowed: 8, 16"):
        ranking.sigma_max(by_side, good, groups, {32: 0.1})


# --- the operation --------------------------------------------------------------------------------

DATA = Dataset(np.random.default_rng(1).integers(0, 256, (90, 1, 4, 4), dtype=np.uint8), np.arange(90) % 3,
               np.arange(90) * 2 + 5)
SCORES = Scores(DATA.ids, np.random.default_rng(2).integers(0, 40, 90).astype(float))


def rank(fraction=0.1, seed=3, **params):
    return MixtureSpec(fraction, seed, "rank", {"scorer": "s"} | params)


def test_all_images_stay_as_they_are_and_the_best_are_clean():
    for within, groups in (("all", np.zeros(90)), ("class", DATA.labels)):
        mixed = mix(rank(within=within), DATA, SCORES)
        np.testing.assert_array_equal(mixed.images, DATA.images)
        np.testing.assert_array_equal(mixed.ids, DATA.ids)
        clean = mixed.corrupted == 0
        assert clean.sum() == 9
        for group in np.unique(groups):
            mine = groups == group
            ordered = sorted(np.flatnonzero(mine), key=lambda i: (-SCORES.score[i], DATA.ids[i]))
            assert set(np.flatnonzero(clean & mine)) == set(ordered[:mine.sum() // 10])


def test_only_good_is_the_same_mixture_without_the_others():
    whole = mix(rank(within="class"), DATA, SCORES)
    alone = mix(rank(within="class", drop=True), DATA, SCORES)
    np.testing.assert_array_equal(alone.ids, DATA.ids[whole.corrupted == 0])
    np.testing.assert_array_equal(alone.images, DATA.images[whole.corrupted == 0])
    assert not alone.corrupted.any()


def test_the_control_is_as_many_by_seed_and_id_whatever_they_score():
    one, other = (mix(rank(0.2, choice="random", within="class"), DATA, scores).corrupted
                  for scores in (SCORES, Scores(DATA.ids, -SCORES.score)))
    np.testing.assert_array_equal(one, other)
    u = randomness.uniform("rank", 3, DATA.ids)
    for label in range(3):
        mine = DATA.labels == label
        assert set(np.flatnonzero(mine & (one == 0))) == set(np.flatnonzero(mine)[np.argsort(-u[mine])[:6]])
    assert (one != mix(rank(0.2, seed=4, choice="random", within="class"), DATA, SCORES).corrupted).any()


def test_the_released_choice_is_the_released_mistake():
    mixed = mix(rank(choice="released"), DATA, SCORES)
    order = sorted(range(90), key=lambda i: (-SCORES.score[i], i))
    assert set(np.flatnonzero(mixed.corrupted == 0)) == {i for i in range(90) if order[i] < 9}
    assert (mixed.corrupted != mix(rank(), DATA, SCORES).corrupted).any()
    with pytest.raises(SpecError, match="within: got 'class', allowed: all if choice is released"):
        mix(rank(choice="released", within="class"), DATA, SCORES)


def test_scores_are_matched_by_id_and_never_by_place():
    shuffled = Scores(np.arange(300), np.zeros(300))
    shuffled.score[DATA.ids] = SCORES.score
    np.testing.assert_array_equal(mix(rank(), DATA, shuffled).corrupted, mix(rank(), DATA, SCORES).corrupted)
    with pytest.raises(ValueError, match="no score for sample 5 .45 missing."):
        mix(rank(), DATA, Scores(DATA.ids[1::2], SCORES.score[1::2]))


@pytest.mark.parametrize(("data", "spec", "words"), [
    (DATA, rank(0.01), "leaves none of 90 images clean: raise it, or give more images$"),
    (DATA, rank(0.02, within="class"), "leaves none of 90 images clean: .* of each class"),
    (Dataset(DATA.images, np.full(90, -1), DATA.ids), rank(within="class"), "90 of 90 images have no class")])
def test_a_share_that_leaves_nothing_and_classes_that_are_not_there_are_refused(data, spec, words):
    with pytest.raises(ValueError, match=words):
        mix(spec, data, SCORES)


def test_a_share_of_no_image_is_refused_with_the_file():
    scores, labels = np.arange(6.0), np.array([0, 0, 0, 1, 1, 1])
    assert ranking.places_of_best(scores, labels, BestSpec("s", 0.4, "all"), "d").tolist() == [4, 5]
    assert ranking.places_of_best(scores, labels, BestSpec("s", 0.4, "class"), "d").tolist() == [2, 5]
    with pytest.raises(ValueError, match=r"d: best.share: got 0.1, of which 6 images leave none, allowed"):
        ranking.places_of_best(scores, labels, BestSpec("s", 0.1, "all"), "d")
    with pytest.raises(ValueError, match=r"d: .* 6 images of several classes leave none"):
        ranking.places_of_best(scores, labels, BestSpec("s", 0.3, "class"), "d")
