"""The figure by which an owner sets the threshold of a measure of quality."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from ambient.data.datasets import Dataset, write
from ambient.report import quality_panels
from ambient.report.drawing import plt
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.strict import SpecError
from ambient.stages import crops_figures
from tests.clones import configuration

THRESHOLD = 0.5
RULE = {"by": "quality", "measure": "sharpness", "at_least": THRESHOLD}
GOOD = {"source": "photos", "path": "photos", "resolution": 32, "channels": 3, "crop": "centre",
        "select": RULE}
FIGURE = {"kind": "quality", "study": "mine", "corruptions": ["plus-poor"], "title": "Birds"}
SCALE = {"extends": "small",
         "datasets": {"good": GOOD, "poor": {"like": "good", "select": RULE | {"good": False}}},
         "corruptions": {"plus-poor": {"op": "add", "dataset": "poor"}},
         "studies": {"mine": {"like": "pixel", "dataset": "good", "clean_fraction": 1.0}},
         "figures": {"scores": FIGURE},
         "main": {"figures": ["scores"]}}


def part(scores, first=0):
    """Images whose brightness is their score."""
    scores = np.asarray(scores, float)
    images = np.broadcast_to((scores * 255).astype(np.uint8)[:, None, None, None], (len(scores), 3, 8, 8))
    ids = np.arange(first, first + len(scores))
    return Dataset(np.ascontiguousarray(images), np.full(len(ids), -1), ids, scores=scores)


@pytest.fixture
def figure():
    good, poor = part(np.linspace(0.5, 0.9, 41), 100), part(np.linspace(0.1, 0.49, 40)[::-1])
    yield quality_panels.quality(good, poor, "sharpness", THRESHOLD, 6, "Birds")
    plt.close("all")


def test_examples_are_those_at_the_ends_and_at_the_threshold():
    scores = np.array([0.7, 0.1, 0.9, 0.4, 0.5, 0.3, 0.6, 0.2, 0.8])
    shown = quality_panels.examples(scores, THRESHOLD, 2)
    assert {name: scores[rows].tolist() for name, rows in shown.items()} == {
        "the worst": [0.1, 0.2], "just below the threshold": [0.3, 0.4],
        "just above the threshold": [0.5, 0.6], "the best": [0.8, 0.9]}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_no_image_is_an_example_twice_and_those_at_the_threshold_come_first(count):
    scores = np.random.default_rng(0).permutation(np.linspace(0.2, 0.9, 8))  # three below, five above
    shown = quality_panels.examples(scores, THRESHOLD, count)
    every = np.concatenate(list(shown.values()))
    assert len(set(every.tolist())) == len(every) == min(2 * count, 3) + min(2 * count, 5)
    assert len(shown["just below the threshold"]) == min(count, 3)
    assert scores[shown["just above the threshold"]].min() == scores[scores >= THRESHOLD].min()


def test_the_histogram_counts_every_image_and_mixes_no_parts_in_a_bar(figure):
    axis = figure.axes[0]
    bars = [bar for bar in axis.patches if bar.get_height()]
    assert sum(bar.get_height() for bar in bars) == 81
    colours = {}
    for bar in bars:  # a bar lies on one side of the threshold
        left, right = bar.get_x(), bar.get_x() + bar.get_width()
        colours.setdefault(bar.get_facecolor(), []).append(right <= THRESHOLD + 1e-9)
        assert right <= THRESHOLD + 1e-9 or left >= THRESHOLD - 1e-9
    assert sorted(map(set, colours.values()), key=str) == [{False}, {True}]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [
        "40 poor images (49%)", "41 good images (51%)", "threshold, 0.5"]
    assert axis.get_xlabel() == "sharpness (higher is better)"


def test_the_rows_show_the_images_that_their_titles_name(figure):
    rows = {axis.get_title(loc="left"): axis.images[0].get_array() for axis in figure.axes[1:]}
    assert list(rows) == ["the worst: 0.1 to 0.15", "just below the threshold: 0.44 to 0.49",
                          "just above the threshold: 0.5 to 0.55", "the best: 0.85 to 0.9"]
    below = rows["just below the threshold: 0.44 to 0.49"]
    assert below.shape == (8, 48, 3) and below[0, ::8, 0].tolist() == [112, 114, 117, 119, 122, 124]


def test_one_image_in_each_part_can_be_drawn():
    figure = quality_panels.quality(part([0.5], 1), part([0.2]), "quality", THRESHOLD, 4, None)
    assert len(figure.axes) == 3
    same = quality_panels.quality(part([0.5], 1), part([np.nextafter(0.5, 0)]), "quality", THRESHOLD, 4, None)
    assert sum(bar.get_height() for bar in same.axes[0].patches) == 2
    plt.close("all")


def test_parts_that_no_rule_or_another_rule_chose_are_refused():
    plain = Dataset(part([0.1]).images, np.array([-1]), np.array([0]))
    with pytest.raises(ValueError, match="the poor images have no scores, allowed: datasets that are"):
        quality_panels.quality(part([0.9]), plain, "quality", THRESHOLD, 4, None)
    with pytest.raises(ValueError, match="a good image scores 0.4, on the wrong side of 0.5"):
        quality_panels.quality(part([0.9, 0.4]), part([0.1]), "quality", THRESHOLD, 4, None)
    with pytest.raises(ValueError, match="a poor image scores 0.5, on the wrong side of 0.5"):
        quality_panels.quality(part([0.9]), part([0.5]), "quality", THRESHOLD, 4, None)


# --- the kind of figure ---------------------------------------------------------------------------


def scale(tmp_path, **changes):
    """The settings of a scale of one's own photographs."""
    configuration(tmp_path / "config")
    (tmp_path / "config/scales/mine.yaml").write_text(yaml.safe_dump(SCALE | changes))
    return Experiments(tmp_path / "config", "mine")


def test_the_figure_has_the_datasets_threshold_and_is_drawn_from_both(tmp_path):
    made = scale(tmp_path)
    assert [figure.name for figure in made.report(False).figures] == ["scores"]
    spec = made.figure("scores")
    assert (spec.score, spec.at_least, spec.images) == ("sharpness", THRESHOLD, 8)
    graph = Graph(made)
    assert graph.reads(graph.maker("results/mine/scores.png")) == {
        "data": ["results/mine/data/good.safetensors"], "added": ["results/mine/data/poor.safetensors"]}
    files = {"data": tmp_path / "good.safetensors", "added": tmp_path / "poor.safetensors"}
    write(files["data"], part(np.linspace(0.5, 0.9, 20), 100))
    write(files["added"], part(np.linspace(0.1, 0.4, 20)))
    places = {"out": tmp_path / "out.png", "out_pdf": tmp_path / "out.pdf"}
    nothing = dict.fromkeys(("annotations", "patches", "locality_table"))
    crops_figures.main(spec, None, **files, **nothing, **places)
    assert places["out"].read_bytes().startswith(b"\x89PNG") and places["out_pdf"].stat().st_size > 5000


@pytest.mark.parametrize(("section", "changes", "message"), [
    ("datasets", {"poor": {"like": "good", "select": RULE | {"good": False, "at_least": 0.4}}},
     "figures.scores.corruptions: got 'plus-poor', allowed: one that adds the images that are not good by"),
    ("datasets", {"good": GOOD | {"select": None}},
     "figures.scores.study: got 'mine', allowed: one whose dataset has images that are good by quality or"),
    ("corruptions", {"plus-poor": {"op": "gaussian_blur", "sigma_px": 1.0}},
     "figures.scores.corruptions: got 'plus-poor', allowed: one that adds the images"),
    ("figures", {"scores": FIGURE | {"at_least": 0.4}}, "figures.scores: unknown key 'at_least'"),
    ("figures", {"scores": FIGURE | {"corruptions": []}}, r"scores.corruptions: got \[\], allowed: 1"),
])
def test_an_entry_whose_datasets_have_no_common_rule_is_refused(tmp_path, section, changes, message):
    with pytest.raises(SpecError, match=message):
        scale(tmp_path, **{section: SCALE[section] | changes})
