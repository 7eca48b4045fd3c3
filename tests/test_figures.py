"""Figures of a table: what they show, what they say, and that each can be drawn."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from tables import by_the_strict_classifier, table_of, texts

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, write
from ambient.report import (
    annotation_panels,
    captions,
    distance_panels,
    drawing,
    learning_curves,
    sample_grid,
)
from ambient.settings import Experiments
from ambient.specs import TableSpec
from ambient.specs.strict import build, plain
from ambient.storage.files import write_arrays

ROOT = Path(__file__).parents[1]


def test_sheets_place_images_row_by_row():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(2, 2).repeat(2, 3)
    found = drawing.sheet(images, 3)
    assert found.shape == (4, 6, 1)
    assert found[::2, ::2, 0].tolist() == [[0, 1, 2], [3, 4, 255]]


def test_levels_are_told_from_other_rows(paper):
    found = {name: distance_panels.level_key(table) for name, table in paper.tables.items()}
    assert found == {"table1": None, "table2a": "sigma_px", "table2b": None, "table3": "quality",
                     "table4": "sigma_px", "table5": None, "table6": None, "table7": "sigma_px",
                     "table9a": None, "table9b": None, "vendi": None, "text_results": None}


@pytest.mark.parametrize("name", ["table2b", "table3", "table6"])
def test_distances_can_be_drawn(paper, name, tmp_path):
    spec = paper.tables[name]
    drawing.save(distance_panels.distances(spec, table_of(spec)), tmp_path / "a.png")
    drawing.save(distance_panels.distances(spec, table_of(spec)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_scores_have_panels_of_their_own(paper):
    """Beside the distance stand the shares of right images with their standard errors."""
    spec = dataclasses.replace(paper.tables["table6"], scorers=("g",))
    table = table_of(spec)
    table["g_overall"], table["g_overall_se"], table["g_mean"] = np.arange(len(table)) / 10, 0.05, 9.0
    axis = distance_panels.distances(spec, table).axes[-1]
    assert (axis.get_title(), axis.get_xlabel()) == ("ours: g", "g, overall (higher is better)")
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() not in ("|", "None")]
    assert marks == pytest.approx(table["g_overall"].tolist())
    first = axis.containers[0].lines[2][0].get_segments()[0]
    assert first[:, 0] == pytest.approx([-0.05, 0.05])


def test_a_panel_of_the_papers_numbers_has_some(paper):
    """Of diversity the paper has no distance, and two scores: the panel of its distances was empty."""
    spec = paper.tables["vendi"]
    printed = [row.paper.get("vendi_mean") for row in spec.rows]
    assert sum(one is not None for one in printed) == 2
    table = table_of(spec).assign(vendi_mean=3.0, paper_vendi_mean=printed)
    found = distance_panels.distances(spec, table)
    assert [axis.get_title() for axis in found.axes][1:] == ["ours: vendi", "paper: vendi, one value each"]
    marks = [line.get_xdata()[0] for line in found.axes[-1].lines]
    assert marks == pytest.approx([math.nan if one is None else one for one in printed], nan_ok=True)
    assert len(distance_panels.distances(spec, table.drop(columns="paper_vendi_mean")).axes) == 2


def test_one_level_is_drawn_row_by_row(paper):
    spec = by_the_strict_classifier(paper.tables["table2a"])
    rows = [row for row in spec.rows if row.parameters.get("sigma_px", 0.6) == 0.6]
    one = dataclasses.replace(spec, rows=rows)
    figure = distance_panels.distances(one, table_of(one))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "Only Clean", "All data", "Ambient-o"]  # the one corruption is in the title
    assert figure.get_suptitle() == "Table 2a: training with blurred images (blur, 0.6 px)"
    every = distance_panels.distances(spec, table_of(spec))
    assert every.axes[0].get_xlabel() == "blur, standard deviation [pixels]"


def test_learning_curves_keep_targets_apart_and_show_the_loss(paper, tmp_path):
    spec, metrics, losses = by_the_strict_classifier(paper.tables["table2b"]), [], []
    for k, _ in enumerate(spec.rows):
        metrics.append(tmp_path / f"{k}.json")
        metrics[-1].write_text(json.dumps({"metric": "fd-x", "scores": [
            {"nimg": n, "seed": seed, "value": 10 + k + seed} for n in (100, 200) for seed in (0, 1)]}))
        losses.append(tmp_path / f"{k}.jsonl")
        losses[-1].write_text("".join(f'{{"nimg": {n}, "loss": {k + 1}}}\n' for n in range(1, 201)))
    axes = learning_curves.curves(spec, metrics, losses).axes
    assert [axis.get_title() for axis in axes[:5]] == [
        "dogs, 64x64, plus cats", "dogs, 64x64, plus procedural images", "cats, 64x64, plus dogs",
        "cats, 64x64, plus wildlife", ""]
    drawn = {axis.get_title(): [float(bars.lines[0].get_ydata()[0]) for bars in axis.containers]
             for axis in axes[:4]}
    assert drawn["dogs, 64x64, plus cats"] == [10.5 + k for k in range(6)]
    assert drawn["cats, 64x64, plus wildlife"] == [17.5, 19.5]  # the cats' own clean run, not the dogs'
    assert [line.get_ydata()[-1] for line in axes[7].lines] == [8, 10]
    seen, loss = learning_curves.smoothed(losses[0])
    assert len(seen) == 40 and seen[0] == 3.0 and (loss == 1).all()


def test_a_corruption_whose_parameter_is_a_list_has_a_panel_and_rows(paper, tmp_path):
    first, second, clean, *_ = paper.tables["table2a"].rows
    tint, other = ({"shift": [0.3, 0.0, blue]} for blue in (-0.3, -0.2))
    rows = (dataclasses.replace(first, run="a", parameters=tint, corruption_label="tint"),
            dataclasses.replace(second, run="b", parameters=tint, corruption_label="tint"),
            dataclasses.replace(second, run="c", parameters=other, corruption_label="other tint"),
            dataclasses.replace(clean, run="d", parameters={}, corruption_label=None))
    spec = dataclasses.replace(paper.tables["table2a"], rows=rows)
    spec = build(TableSpec, plain(spec), "table")  # as a job reads it
    (tmp_path / "m").write_text(json.dumps({"metric": "fd-x", "scores": [
        {"nimg": 100, "seed": 0, "value": 10}]}))
    (tmp_path / "l").write_text('{"nimg": 1, "loss": 1}\n{"nimg": 2, "loss": 1}\n')
    axes = learning_curves.curves(spec, [tmp_path / "m"] * 4, [tmp_path / "l"] * 4).axes
    assert [axis.get_title() for axis in axes] == ["tint", "other tint", "", ""]
    assert [len(axis.containers) for axis in axes[:2]] == [3, 2]  # the clean run is in both
    bars = distance_panels.distances(spec, table_of(spec))
    assert len(bars.axes[0].get_yticklabels()) == 4


def test_panels_of_crops_show_sigma_max_of_the_others(paper, tmp_path):
    row = next(row for row in paper.tables["table2b"].rows if row.annotated == "crops")
    report, table = tmp_path / "s.json", tmp_path / "a.safetensors"
    report.write_text(json.dumps({"p_target_mean": {"16": 0.1, "4": 0.4, "8": 0.3}}))
    Annotations(np.arange(6), np.array([0, 0, np.inf, np.inf, np.inf, np.inf]),
                np.array([0, 0, 0.1, 0.1, 0.2, 0])).write(table)
    spec = dataclasses.replace(paper.tables["table2b"], rows=(row,))
    figure = annotation_panels.classifiers(spec, [(row, table, report)], [report])
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.4, 0.3, 0.1]
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 3
    assert figure.axes[1].get_title() == "never usable: 1 of 4 (25 %)"
    none = annotation_panels.classifiers(spec, [], [])
    assert not none.axes and "no row" in none.texts[0].get_text()


@pytest.mark.parametrize("levels", [[0.02], [0.5, 1.0, 4.0], list(np.linspace(0.1, 3, 50))])
def test_every_value_falls_into_a_bin_that_can_be_seen(levels):
    edges = annotation_panels.edges_of(np.array(levels))
    counts, _ = np.histogram(levels, edges)
    assert counts.sum() == len(levels) and (edges[1:] / edges[:-1]).min() > 1.1


@pytest.mark.parametrize(("scale", "name", "said", "unsaid"), [
    ("paper", "table4", ["ours: FFHQ faces, 64x64", "paper: FFHQ, 64x64", "FID of 50,000 samples"], "CIFAR"),
    ("paper", "table2b", ["paper: AFHQ dogs, 64x64 and AFHQ cats", "FID of 5,239 and 5,653"], "CIFAR"),
    ("demo", "table2a", ["ours: MNIST digits, 16x16", "paper: CIFAR-10", "blur, 0.6 px"], "sigma_px"),
    ("demo", "table3", ["ours: MNIST digits, 16x16", "JPEG quality"], "jpeg-90"),
    ("demo", "table6", ["clip weight at 2", "blur, 0.6 px"], "sigma_px")])
def test_labels_come_from_the_rows_own_data(scale, name, said, unsaid):
    spec = Experiments(ROOT / "config", scale).tables[name]
    found = texts(distance_panels.distances(spec, table_of(spec)))
    for text in [*said, "lower is better", "fd-x of 10 samples", spec.title]:
        assert text in found
    assert unsaid not in found


def test_bars_are_of_both_kinds_of_seeds_and_say_so(paper):
    spec = paper.tables["table6"]
    one = table_of(spec)
    found = distance_panels.distances(spec, one)
    assert "one training seed, so how training seeds scatter is not known" in texts(found)
    assert "standard deviation over 2 sampling seeds" in texts(found)
    assert len(found.axes[0].containers) == len(spec.rows)
    both = distance_panels.distances(spec, one.assign(training_std=2.0, num_training_seeds=3))
    assert "mean over 3 training seeds (thick bar: standard deviation over them; thin bar" in texts(both)
    spans = [c.lines[2][0].get_segments()[0] for c in both.axes[0].containers]
    assert sorted({round(float(segment[1, 0] - segment[0, 0]), 6) for segment in spans}) == [1.0, 4.0]
    widths = [c.lines[2][0].get_linewidths()[0] for c in both.axes[0].containers[:2]]
    assert widths[0] > widths[1]  # of training seeds, of sampling seeds


def test_wilson_is_the_interval_that_the_score_test_does_not_reject():
    low, high = drawing.wilson(np.array([0.0, 0.3, 1.0]), 9)
    for p, ends in zip((0.0, 0.3, 1.0), zip(low, high, strict=True), strict=True):
        for end in ends:  # |p - end| = z sqrt(end (1 - end) / n)
            assert abs(p - end) == pytest.approx(1.96 * math.sqrt(max(end * (1 - end), 0) / 9), abs=1e-9)
    assert high[0] == pytest.approx(0.299, abs=5e-4)  # tables of the interval: 0 of 9


def test_classifier_panels_mark_tau_the_number_of_images_and_those_that_never_cross(paper, tmp_path):
    row = next(row for row in paper.tables["table2a"].rows if row.annotated)
    spec = dataclasses.replace(paper.tables["table2a"], rows=(row,))
    report, table, summary = (tmp_path / name for name in ("r.json", "a.safetensors", "s.json"))
    levels = [{"sigma": s, "p_clean_of_clean": 0.9 - s / 10, "p_clean_of_corrupted": 0.1 + s / 10}
              for s in (0.1, 1.0, 4.0)]
    report.write_text(json.dumps({"levels": levels, "held_out": {"clean": 9, "corrupted": 991}}))
    summary.write_text(json.dumps({"never_crossed": 2, "last_level": 4.0}))
    Annotations(np.arange(6), np.array([0, 1, 1, 2, 4.0, 4.0]), np.zeros(6)).write(table)
    figure = annotation_panels.classifiers(spec, [(row, table, summary)], [report])
    top, bottom = figure.axes
    assert [line.get_ydata()[0] for line in top.lines if len(set(line.get_ydata())) == 1] == [0.45]
    for said in ("9 clean images", "991 corrupted images", "decision, tau = 0.45"):
        assert said in texts(figure)
    assert len(top.collections) == 2 and top.get_xlim() == bottom.get_xlim()
    assert len({line.get_linestyle() for line in top.lines}) == 3
    assert "2 never cross: given the last level, 4" in texts(figure)


def test_colours_are_okabe_and_itos_and_methods_differ_in_dashes():
    okabe_ito = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    looks = [drawing.line_of(method, []) for method in ("Only Clean", "All data", "Ambient-o")]
    others = [drawing.line_of(name, list("abcdef")) for name in "abcdef"]
    for some in (looks, others):
        assert {look["color"] for look in some} <= okabe_ito
        assert len({tuple(look.values()) for look in some}) == len(some)
        assert len({look["marker"] for look in some}) == len(some)


def test_no_two_methods_of_a_figure_look_alike():
    names = [*drawing.METHODS, *map(str, range(40))]
    looks = [drawing.line_of(name, names) for name in names]
    assert len({(look["color"], look["marker"]) for look in looks}) == len(names) - 1  # Only Clean, Only Good


def test_nearest_training_images_are_those_of_least_pixel_distance(monkeypatch):
    random = np.random.default_rng(0)
    training = random.integers(0, 256, (50, 1, 4, 4), np.uint8)
    samples = random.integers(0, 256, (7, 1, 4, 4), np.uint8)
    samples[3] = training[31]
    monkeypatch.setattr(sample_grid, "CHUNK", 16)
    apart = ((samples[:, None].astype(float) - training[None].astype(float)) ** 2).sum((2, 3, 4))
    found = sample_grid.nearest(samples, training)
    assert found.tolist() == apart.argmin(axis=1).tolist() and found[3] == 31


def test_the_grid_shows_real_corrupted_and_nearest_images(paper, tmp_path):
    spec = by_the_strict_classifier(paper.tables["table2a"])
    rows = [row for row in spec.rows if row.parameters.get("sigma_px", 0.6) == 0.6]
    spec = dataclasses.replace(paper.tables["table2a"], rows=rows)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 1, 4, 4), np.uint8)
    corrupted = (np.arange(30) >= 10).astype(np.uint8)
    write(tmp_path / "m", Dataset(images, np.zeros(30, int), np.arange(30), corrupted))
    write_arrays(tmp_path / "s", {"64": images[None, :12], "128": images[None, 12:24]})
    Annotations(np.arange(30), np.where(corrupted, np.inf, 0), np.zeros(30)).write(tmp_path / "clean")
    Annotations(np.arange(30), np.where(corrupted, 1.0, 0), np.zeros(30)).write(tmp_path / "all")
    figure = sample_grid.grid(spec, [tmp_path / "s"] * 3, [tmp_path / "m"] * 3,
                              [tmp_path / "clean", tmp_path / "all", tmp_path / "all"])
    titles = [axis.get_title(loc="left").strip() for axis in figure.axes]
    assert titles == ["real images, clean: 10 of 10", "real images, corrupted (blur, 0.6 px): 12 of 20",
                      "samples: Only Clean", "nearest of its 10 training images, by pixel distance",
                      "samples: All data", "nearest of its 30 training images, by pixel distance",
                      "samples: Ambient-o", "nearest of its 30 training images, by pixel distance"]
    pictures = [axis.images[0].get_array() for axis in figure.axes]
    assert np.array_equal(pictures[4], drawing.sheet(images[12:24], 12).squeeze())  # the last snapshot's
    assert np.array_equal(pictures[4], pictures[5]) and not np.array_equal(pictures[2], pictures[3])


def test_of_very_many_training_images_some_are_searched_and_the_grid_says_so(paper, tmp_path, monkeypatch):
    """All of ImageNet's would be read, 1 TB, for each row of a picture."""
    images = np.arange(30 * 16).reshape(30, 1, 4, 4).astype(np.uint8)
    write(tmp_path / "m", Dataset(images, np.zeros(30, int), np.arange(30), np.zeros(30, np.uint8)))
    write_arrays(tmp_path / "s", {"64": images[None, :12]})
    Annotations(np.arange(30), np.zeros(30), np.zeros(30)).write(tmp_path / "clean")
    spec = dataclasses.replace(paper.tables["table2a"], rows=paper.tables["table2a"].rows[:1])
    monkeypatch.setattr(sample_grid, "SEARCHED", 10 * 16 + 15)
    titles = [axis.get_title(loc="left").strip() for axis in sample_grid.grid(
        spec, [tmp_path / "s"], [tmp_path / "m"], [tmp_path / "clean"]).figure.axes]
    assert titles[-1] == "nearest of 10 of its 30 training images, by pixel distance"


def test_corrupted_images_of_several_mixtures_are_not_called_by_the_first_ones_name(paper):
    row = next(row for row in paper.tables["table2a"].rows if row.parameters.get("sigma_px") == 0.6)
    images = np.zeros((5, 1, 4, 4), np.uint8)
    data = Dataset(images, np.zeros(5, int), np.arange(5), np.array([0, 1, 1, 1, 1], np.uint8))
    images[1:] += np.arange(4, dtype=np.uint8)[:, None, None, None]
    found = sample_grid.real(dataclasses.replace(row, parts=3), data, 3)
    names = [name for name, _ in found]
    assert names == ["real images, clean: 1 of 1",
                     "real images, corrupted (blur, 0.6 px) and of 2 more parts: 3 of 4"]
    assert found[1][1][:, 0, 0, 0].tolist() == [0, 1, 2]
    two = sample_grid.real(row, data, 2)[1][1]  # evenly spaced: they often lie in the order of their classes
    assert two[:, 0, 0, 0].tolist() == [0, 2]


def test_labels_of_close_values_do_not_run_into_each_other(tmp_path):
    """The published 3.57 and 3.59, one of three panels, as a job draws them: steps had four decimals."""
    spec = Experiments(ROOT / "config", "windows").tables["table1"]
    with drawing.plt.rc_context(drawing.STYLE):
        figure = distance_panels.distances(spec, table_of(spec).assign(detail_mean=20.0))
        drawing.save(figure, tmp_path / "a.png")
        places = [label.get_window_extent() for label in figure.axes[1].get_xticklabels()]
    assert len(figure.axes) == 3 and len(places) > 2
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(places))


def test_captions_name_what_the_rows_hold(paper):
    spec = paper.tables["table4"]
    found = captions.of_table(spec, table_of(spec))
    assert "FFHQ faces, 64x64" in found[""] and "fd-x of 10 samples (lower is better)" in found[""]
    assert "one training seed" in found[""] and not any("CIFAR" in text for text in found.values())
