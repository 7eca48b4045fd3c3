"""GenEval's verdicts and the Vendi score: vectors of the reference, and closed forms."""

import math
from collections import Counter

import numpy as np
import pytest
from t2i_vectors import needs_reference, read

from ambient.data import sources
from ambient.data.coco import NAMES
from ambient.data.prompt_forms import BEFORE, understood, words
from ambient.evaluation.geneval import (
    TASKS,
    Clause,
    Detection,
    Prompt,
    Rules,
    Share,
    counted,
    geneval_faults,
    geneval_prompt,
    geneval_score,
    overlap,
    relations,
)
from ambient.evaluation.vendi import vendi
from ambient.specs import DatasetSpec

LEFT, RIGHT, FAR_RIGHT = (0.0, 10.0, 10.0, 20.0), (40.0, 10.0, 50.0, 20.0), (80.0, 10.0, 90.0, 20.0)


@needs_reference
def test_positions_and_overlaps_are_those_of_the_reference():
    t = read("geneval")
    for one in t["relative_position"]:
        found = relations(one["a"], one["b"], t["thresholds"]["position"])
        assert sorted(found) == one["relations_of_a_to_b"], one
    for one in t["iou"]:
        assert overlap(one["a"], one["b"]) == pytest.approx(one["iou"], abs=1e-15)
    assert len(t["relative_position"]) == 68


@needs_reference
def test_verdicts_are_those_of_the_reference():
    t = read("geneval")
    of = t["thresholds"]
    rules = Rules(of["score"], of["score_counting"], of["max_objects"], of["max_overlap"], of["position"])
    assert rules == Rules() and len(t["verdicts"]) == 144
    for one in t["verdicts"]:
        detections = {name: [Detection(tuple(box[:4]), box[4], colour) for box, colour in
                             zip(boxes, one["colours"][name], strict=True)]
                      for name, boxes in one["detections"].items()}
        said = geneval_faults(geneval_prompt(one | {"tag": one["task"]}), detections, rules)
        assert (not said) == one["correct"], (said, one)


@pytest.mark.parametrize(("a", "expected"), [
    (LEFT, {"left of"}), (FAR_RIGHT, {"right of"}), (RIGHT, set()), ((40.0, 15.0, 50.0, 25.0), {"below"}),
    ((40.0, 14.0, 50.0, 24.0), set()), ((10.0, -20.0, 20.0, -10.0), {"left of", "above"}),
    ((35.0, -20.0, 45.0, -10.0), {"above"})])
def test_relations_by_hand(a, expected):
    """The other box is 10 x 10: centres count as apart beyond 0.1 (10 + 10) = 2 pixels on an axis."""
    assert relations(a, RIGHT) == expected


def test_a_relation_is_measured_by_the_whole_offset():
    """o = (30, 40): reduced by 10 on each axis it is (20, 30), over |o| = 50: 0.4 and 0.6."""
    a, b = (30.0 - 25, 40.0 - 25, 30.0 + 25, 40.0 + 25), (-25.0, -25.0, 25.0, 25.0)
    assert relations(a, b) == {"below"}
    assert relations(a, b, margin=0.0) == {"right of", "below"}


def test_the_overlap_counts_the_last_pixel():
    assert overlap((0, 0, 9, 9), (0, 0, 9, 9)) == 1
    assert overlap((0, 0, 9, 9), (9, 9, 18, 18)) == 1 / 199
    assert overlap((0, 0, 9, 9), (10, 0, 19, 9)) == 0


def test_what_counts_are_the_surest_above_the_threshold():
    ones = [Detection(LEFT, 0.3), Detection(LEFT, 0.95), Detection(RIGHT, 0.31), Detection(LEFT, 0.9)]
    assert [one.score for one in counted(ones, False)] == [0.95, 0.9, 0.31]
    assert [one.score for one in counted(ones, True)] == [0.95]
    assert [one.score for one in counted(ones, False, Rules(overlap=0.9))] == [0.95, 0.31]
    assert len(counted([Detection(LEFT, 0.5)] * 20, False)) == 16


def test_verdicts_by_hand():
    dogs = [Detection(LEFT, 0.9, "red"), Detection(FAR_RIGHT, 0.8, "blue"), Detection(RIGHT, 0.2, "red")]
    seen = {"dog": dogs, "cat": [Detection(RIGHT, 0.99, "red")]}

    def said(task, *include, exclude=()):
        return geneval_faults(Prompt(task, include, exclude), seen)

    one, two, cat = Clause("dog", 1), Clause("dog", 2), Clause("cat", 1)
    assert said("single_object", one) == said("two_object", one, cat) == []
    assert said("two_object", Clause("bird", 1), cat) == ["bird: 0 of 1"]
    assert said("counting", cat, exclude=(("cat", 2),)) == []
    assert said("counting", cat, exclude=(("cat", 1),)) == ["cat: 1 of them, allowed: fewer than 1"]
    assert said("counting", two) == ["dog: 0 of 2"]  # 0.9 and 0.8 are not above 0.9
    assert said("colors", Clause("dog", 1, "red")) == []
    assert said("colors", Clause("dog", 2, "red")) == ["dog: not red"]
    assert said("position", cat, Clause("dog", 1, None, "left of", 0)) == []
    assert said("position", cat, Clause("dog", 2, None, "left of", 0)) == ["dog: not left of cat"]
    assert said("position", Clause("cat", 1, "blue"), Clause("dog", 1, None, "left of", 0)) == [
        "cat: not blue", "dog: what it should be left of is not as asked for"]


def test_a_later_clause_may_refer_to_one_in_the_wrong_place():
    """Only number and colour decide whether a clause can be referred to."""
    seen = {"dog": [Detection(LEFT, 1.0)], "cat": [Detection(RIGHT, 1.0)], "car": [Detection(FAR_RIGHT, 1.0)]}
    clauses = Clause("dog", 1), Clause("cat", 1, None, "left of", 0), Clause("car", 1, None, "right of", 1)
    assert geneval_faults(Prompt("position", clauses), seen) == ["cat: not left of dog"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"tag": "colours"}, "tag: got 'colours', allowed: single_object"),
    ({"include": [{"class": "dog", "count": 0}]}, "count: got one below 1"),
    ({"include": [{"class": "dog", "count": 1, "position": ["above", 0]}]}, r"position: got \['above', 0"),
    ({"exclude": [{"class": "dog", "count": 0}]}, "count: got one below 1"),
    ({"include": [{"class": "dog", "count": 1.5}]}, "count: got 1.5, allowed: a whole number"),
    ({"include": [{"count": 1}]}, "class: got None"), ({"include": []}, "include: got none, allowed: one"),
    ({"include": [{"class": "a", "count": 1}, {"class": "b", "count": 1, "position": ["above", None]}]},
     r"position: got \['above', None\]")])
def test_prompts_that_mean_nothing_are_refused(changes, said):
    line = {"tag": "counting", "include": [{"class": "dog", "count": 1}], "prompt": "a photo of a dog"}
    assert geneval_prompt(line) == Prompt("counting", (Clause("dog", 1),))
    with pytest.raises(ValueError, match=said):
        geneval_prompt(line | changes)


def test_the_score_is_the_mean_of_the_tasks():
    right = dict.fromkeys(TASKS, [True, False]) | {"counting": [True, False, False, False]}
    found = geneval_score(right)
    assert found["counting"] == Share(0.25, pytest.approx(math.sqrt(0.25 * 0.75 / 4)))
    assert found["overall"].share == pytest.approx((5 * 0.5 + 0.25) / 6)
    assert found["overall"].standard_error == pytest.approx(math.sqrt(5 * 0.125 + 0.046875) / 6)
    for nothing in ({}, {"counting": []}):
        with pytest.raises(ValueError, match="right: got a task without images"):
            geneval_score(nothing)


def test_the_published_prompts_are_drawn_anew():
    """553, as many of each task, number and relation as are published, in the published order."""
    spec = DatasetSpec("geneval", 512, 3, num_images=553)
    found = sources.KINDS["geneval"].draw(spec)
    captions = found.captions.of_images()
    asked = [understood(caption, NAMES) for caption in captions]
    assert Counter(one["tag"] for one in asked) == dict(zip(TASKS, (80, 99, 80, 94, 100, 100), strict=True))
    assert Counter(one["include"][0]["count"] for one in asked if one["tag"] == "counting") == {
        2: 26, 3: 28, 4: 26}
    assert Counter(one["include"][1]["position"][0] for one in asked if one["tag"] == "position") == {
        "left of": 19, "right of": 27, "above": 26, "below": 28}
    assert captions[0] == "a photo of a bench" and captions[80] == "a photo of a bench and a sports ball"
    drawn = {BEFORE + words(one): one for one in sources.KINDS["geneval"].drawn(spec)}
    assert [drawn[caption] for caption in captions] == asked  # what is asked for follows from the words
    with pytest.raises(ValueError, match="num_images: got 552, allowed: 553, the prompts of seed 43"):
        sources.KINDS["geneval"].draw(DatasetSpec("geneval", 512, 3, num_images=552))


# --- Vendi --------------------------------------------------------------------------------------------

@needs_reference
def test_vendi_scores_are_those_of_the_reference():
    for case in read("vendi")["cases"]:
        assert vendi(np.array(case["features"])) == pytest.approx(case["vendi"], rel=1e-9)


def test_vendi_is_the_number_of_different_images():
    apart = 3 * np.eye(4, 6)
    assert vendi(apart) == pytest.approx(4, rel=1e-9)
    assert vendi(np.repeat(apart[:2], 5, axis=0)) == pytest.approx(2, rel=1e-9)
    assert vendi(np.repeat(apart[:1], 9, axis=0)) == pytest.approx(1, rel=1e-9)
    angled = np.array([[1.0, 0.0], [math.cos(1), math.sin(1)]])  # eigenvalues (1 +- cos 1) / 2
    halves = np.array([1 + math.cos(1), 1 - math.cos(1)]) / 2
    assert vendi(angled) == pytest.approx(np.exp(-(halves * np.log(halves)).sum()), rel=1e-9)
    random = np.random.default_rng(0).normal(size=(20, 5))
    wide = np.linalg.eigvalsh((unit := random / np.linalg.norm(random, axis=1, keepdims=True)) @ unit.T / 20)
    wide = wide[wide > 1e-12]
    assert vendi(random) == pytest.approx(np.exp(-(wide * np.log(wide)).sum()), rel=1e-9)


@pytest.mark.parametrize(("features", "said"), [
    (np.zeros(3), r"features of the shape \(3,\)"), (np.zeros((0, 3)), r"shape \(0, 3\)"),
    (np.array([[1.0, np.nan]]), "finite numbers"), (np.array([[1.0, 2.0], [0.0, 0.0]]), "image 1 are all 0")])
def test_features_without_a_score_are_refused(features, said):
    with pytest.raises(ValueError, match=said):
        vendi(features)
