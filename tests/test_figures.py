"""Figures and the summary: what is computed for them, and that each kind can be drawn."""

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results_tree

from ambient.annotation.statistics import crossing_of
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, joined, write
from ambient.data.patch_maps import PatchMaps
from ambient.provenance import manifest
from ambient.report import (
    annotation_panels,
    captions,
    distance_panels,
    drawing,
    learning_curves,
    noising,
    published,
    sample_grid,
)
from ambient.report.figures import donut, extremes, gallery, locality, patches
from ambient.report.figures import levels as levels_figure
from ambient.settings import Experiments
from ambient.specs import RowSpec, SummarySpec, TableSpec, TextSpec
from ambient.specs.strict import plain
from ambient.storage.files import read_json, write_arrays

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def paper():
    return Experiments(ROOT / "config", "paper")


def test_sheets_place_images_row_by_row():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1).repeat(2, 2).repeat(2, 3)
    found = drawing.sheet(images, 3)
    assert found.shape == (4, 6, 1)
    assert found[::2, ::2, 0].tolist() == [[0, 1, 2], [3, 4, 255]]


def test_crossing_is_linear_in_the_logarithm():
    levels = pd.DataFrame({"sigma": [0.1, 1.0, 10.0], "p_clean_of_corrupted": [0.1, 0.3, 0.5]})
    assert crossing_of(levels, 0.4) == pytest.approx(math.sqrt(10))
    assert crossing_of(levels, 0.05) == pytest.approx(0.1)
    assert crossing_of(levels, 0.6) is None


def test_levels_are_told_from_other_rows(paper):
    found = {name: distance_panels.level_key(table) for name, table in paper.tables.items()}
    assert found == {"table2a": "sigma_px", "table2b": None, "table3": "quality", "table4": "sigma_px",
                     "table6": None, "table7": "sigma_px", "text_results": None}


def table_of(spec, value=7.0):
    """A table's CSV as the `tables` stage names its columns, with one value everywhere."""
    rows = [{"method": r.method, "corruption": r.corruption or "none", **r.parameters, **r.settings,
             "metric": "fd-x", "value": value, "value_std": 0.5, "value_best": value, "num_samples": 10,
             "training_std": math.nan,
             "num_seeds": 2, "num_training_seeds": 1, "nimg": 100, "sigma_min_mean": r.paper.get("sigma_min"),
             "paper_value": r.paper.get("fid"), "paper_sigma_min_mean": r.paper.get("sigma_min"),
             "run_id": r.run_id} for r in spec.rows]
    return pd.DataFrame(rows)


def by_the_strict_classifier(spec):
    """A table of the paper's scale without the rows by the paper's protocol."""
    return dataclasses.replace(spec, rows=[row for row in spec.rows if not row.run.startswith("leaky-")])


def test_summary_has_every_published_number_and_the_notes(paper):
    spec = paper.tables["table6"]
    found = pd.DataFrame(published.rows_of("table6", spec.rows, table_of(spec)))
    fids = found[found["quantity"] == "fd-x"]
    printed = [5.49, 5.36, 5.35, 5.69, 5.40, 5.34]
    assert list(fids["paper"].fillna(0)) == [*printed, 0, *printed]
    assert list(fids["protocol"]) == 7 * ["strict balanced"] + 6 * ["leaky uniform (clean fraction 0.5)"]
    assert (fids["paper_quantity"] == "fid").all() and (fids["ours"] == 7.0).all()
    assert "5.56" in fids["note"].iloc[0] and "released code" in fids["note"].iloc[6]
    assert "weight=none" in fids["parameters"].iloc[0]
    assert list(found[found["quantity"] == "sigma_min_mean"]["paper"]) == [1.38, 1.38]
    with pytest.raises(ValueError, match="table table6: its rows are not those of the configuration"):
        published.rows_of("table6", spec.rows, table_of(spec).iloc[:-1])


def timed_log(folder, name, images, begun, seconds):
    """The log of a training whose last attempt began after `begun` images and took so many seconds."""
    log = folder / name / "loss.jsonl"
    log.parent.mkdir()
    log.write_text("{}\n")
    facts = {"images_seen": images, "attempts": [{"from_nimg": begun}]}
    results_tree.record("train", {"log": log}, facts=facts)
    results_tree.refit(log, execution=read_json(manifest.path_for(log))["execution"] | {"wall_sec": seconds})
    return log


def text(of, runs, paper, **more):
    return TextSpec(of, of, runs, paper, more.get("protocol"), None, 0.45, more.get("note"))


def test_numbers_of_the_running_text_stand_in_the_summary(tmp_path):
    rows = tuple(RowSpec(run, f"runs/{run}", run, None, {}, {}, None) for run in ("plain", "weight"))
    table = TableSpec("t", "demo", rows, (0,))
    frame = table_of(table)
    frame["value"] = [5.5, 5.2]
    frame.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "report.json").write_text(json.dumps({"levels": [
        {"sigma": 0.1, "p_clean_of_corrupted": 0.05}, {"sigma": 10.0, "p_clean_of_corrupted": 0.85}]}))
    # 3,000 images in 6 s; 1,000 in 4 s after a resumption; an attempt that found the work done says nothing.
    logs = [timed_log(tmp_path, "a", 3000, 0, 6.0), timed_log(tmp_path, "b", 7200, 6200, 4.0)]
    done = timed_log(tmp_path, "c", 3000, 3000, 1.0)
    both = ("plain", "weight")
    texts = (text("crossing", ("plain",), 1.64, protocol="strict balanced"), text("value", ("plain",), 5.56),
             text("gain", both, 0.13), text("seconds_per_1000", both, 0.8, note="8 V100"),
             text("hours", both, 4.4))
    spec = SummarySpec((table,), texts)
    report = tmp_path / "report.json"
    made = published.rebuild(plain(spec), [tmp_path / "t.csv"], [3], [*logs, *logs], [report],
                           [1, 2, 3, 1, 2])
    found = pd.read_csv(io.StringIO(made)).set_index("id").loc[[one.id for one in texts]]
    assert list(found["ours"]) == pytest.approx([1.0, 5.5, 0.3, 3.0, (6.0 + 28.8) / 2 / 3600], rel=1e-5)
    assert list(found["paper"]) == [1.64, 5.56, 0.13, 0.8, 4.4]
    assert list(found["provenance_level"]) == [1, 2, 3, 1, 2] and found["table"].eq("running text").all()
    assert found["quantity"].tolist() == ["crossing", "fd-x", "fd-x", "seconds_per_1000", "hours"]
    assert "8 V100; ours: mean of 2 trainings" in found.loc["seconds_per_1000", "note"]
    assert found.loc["crossing", "protocol"] == "strict balanced"
    assert published.time_of(texts[3], [logs[0], done])[0] == 2.0
    for wrong in (([*logs], [tmp_path / "report.json"]), ([*logs, *logs], [])):
        with pytest.raises(ValueError, match="files for"):
            published.rebuild(plain(spec), [tmp_path / "t.csv"], [3], *wrong, [1, 2, 3, 1, 2])


@pytest.mark.parametrize("name", ["table2b", "table3", "table6"])
def test_distances_can_be_drawn(paper, name, tmp_path):
    spec = paper.tables[name]
    drawing.save(distance_panels.distances(spec, table_of(spec)), tmp_path / "a.png")
    drawing.save(distance_panels.distances(spec, table_of(spec)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


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


def test_locality_and_donut_can_be_drawn(tmp_path):
    sigma, context = np.repeat(np.geomspace(0.01, 3, 6), 4), np.tile([4, 8, 16, 32], 6)
    loss = 0.05 * sigma * (1 + sigma * 4 / context)
    crop = np.repeat([4, 4, 8, 16, 32, 32], 4)
    table = pd.DataFrame({"sigma": sigma, "context_px": context, "loss": loss, "loss_stderr": 0.01 * loss,
                          "crop_px": crop, "tolerance": 1e-3, "relative_tolerance": 0.05})
    table.to_csv(tmp_path / "l.csv")
    figure = locality.draw(
        Experiments(ROOT / "config", "paper").figures["figure18"], tmp_path / "l.csv")
    assert "within 0.001 and 5% of" in figure.axes[1].get_title()
    drawing.save(figure, tmp_path / "l.png")
    ids = np.r_[np.arange(100), (1 << 32) + np.arange(100)]
    data = Dataset(np.zeros((200, 1, 4, 4), np.uint8), np.full(200, -1), ids,
                   (np.arange(200) >= 10).astype(np.uint8))
    draws = np.random.default_rng(0).lognormal(0, 0.4, 200)
    cats = ids >= 1 << 32
    Annotations(ids, np.where(cats, np.inf, np.where(data.corrupted == 1, draws, 0)),
                np.where(cats, 0.1 * draws, 0)).write(tmp_path / "a.safetensors")
    spec = Experiments(ROOT / "config", "paper").figures["figure15"]
    write(tmp_path / "m.safetensors", data)
    figure = donut.draw(spec, tmp_path / "m.safetensors", tmp_path / "a.safetensors")
    stacks = [area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[0].collections]
    assert stacks[0] == 10 and max(stacks) <= 200  # clean ones are usable everywhere
    drawing.save(figure, tmp_path / "d.png", tmp_path / "d.pdf")
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


def test_extremes_show_the_least_and_the_largest_sigma_min_with_their_files(tmp_path):
    names = [f"photos/{i:03d}.png" for i in range(60)]
    levels = np.r_[np.zeros(20), np.linspace(0.1, 3.0, 30), np.full(10, np.inf)]
    write(tmp_path / "m.safetensors", Dataset(
        np.zeros((60, 3, 8, 8), np.uint8), np.full(60, -1), np.arange(60),
        (levels > 0).astype(np.uint8), joined(names)))
    Annotations(np.arange(60), levels, np.zeros(60)).write(tmp_path / "a.safetensors")
    spec = dataclasses.replace(Experiments(ROOT / "config", "paper").figures["figure15"], images=4)
    figure = extremes.draw(spec, tmp_path / "m.safetensors", tmp_path / "a.safetensors")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles[:4] == ["020.png", "021.png", "022.png", "023.png"]  # below them their levels
    assert titles[4] == r"$\sigma_{\min}$ = 0.1" and titles[20:24] == [r"$\sigma_{\min}$ = 2.7",
        r"$\sigma_{\min}$ = 2.8", r"$\sigma_{\min}$ = 2.9", r"$\sigma_{\min}$ = 3"]
    assert titles[16:20] == ["046.png", "047.png", "048.png", "049.png"]
    assert titles[28:] == ["never"] * 4 and {int(name[:3]) for name in titles[24:28]} <= set(range(50, 60))


def test_figure_3_noises_each_image_to_its_own_level(paper, tmp_path, monkeypatch):
    spec = paper.figures["figure3"]
    reports, tables = [], []
    for k, _ in enumerate(spec.names):
        mean = 2.0 + k % 3 + k / 10
        reports.append(tmp_path / f"{k}.json")
        reports[-1].write_text(json.dumps({"sigma_min_mean": mean, "sigma_min_quartiles":
                                           [mean / 2, mean * 0.8, mean, mean * 1.3, mean * 2]}))
        tables.append(tmp_path / f"{k}.safetensors")
        levels = np.where(np.arange(20) < 5, 0.0, mean + np.arange(20) / 100)  # five stayed clean
        Annotations(np.arange(20), levels, np.zeros(20)).write(tables[-1])
    asked, noised = [], noising.noised
    monkeypatch.setattr(noising, "noised", lambda images, sigma, seed: asked.append(sigma) or noised(
        images, sigma, seed))
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)
    write(tmp_path / "d", Dataset(images, np.zeros(20, int), np.arange(20)))
    figure = levels_figure.draw(spec, tmp_path / "d", reports, tables)
    chart = figure.axes[-1]
    means = [line.get_xdata()[0] for line in chart.lines if line.get_marker() == "o"]
    assert means == sorted(means) and len(means) == len(spec.names)
    assert len(asked) == 2 * len(means) and (asked[0] == asked[1]).all()  # corrupted ones, clean ones
    ids = (asked[0] - means[0]) * 100  # an image's own level is that far above the mean
    assert ids.round() == pytest.approx(ids) and ids.round().min() >= 5
    assert len(set(ids.round())) == spec.images
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:2] == ["clean", "blur, 0.4 px"] and "noised to its" in titles[2]
    drawing.save(figure, tmp_path / "f.png")


@pytest.mark.parametrize("levels", [[0.02], [0.5, 1.0, 4.0], list(np.linspace(0.1, 3, 50))])
def test_every_value_falls_into_a_bin_that_can_be_seen(levels):
    edges = annotation_panels.edges_of(np.array(levels))
    counts, _ = np.histogram(levels, edges)
    assert counts.sum() == len(levels) and (edges[1:] / edges[:-1]).min() > 1.1


# --- what figures say ----------------------------------------------------------------------------------


def texts(figure):
    """All that can be read in a figure."""
    found = [figure.get_suptitle(), figure.get_supxlabel()]
    for axis in figure.axes:
        found += [axis.get_title(), axis.get_title(loc="left"), axis.get_xlabel(), axis.get_ylabel()]
        found += [label.get_text() for label in (*axis.get_yticklabels(), *axis.get_xticklabels())]
        found += [text.get_text() for text in (axis.get_legend().get_texts() if axis.get_legend() else ())]
    return "\n".join(found)


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


def test_row_titles_of_a_gallery_do_not_meet_the_row_above(paper, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)
    write(tmp_path / "d", Dataset(images, np.zeros(30, int), np.arange(30)))
    figure = gallery.draw(paper.figures["figure11b"], tmp_path / "d")
    figure.canvas.draw()
    for above, axis in zip(figure.axes, figure.axes[1:], strict=False):
        assert axis._left_title.get_window_extent().y1 <= above.images[0].get_window_extent().y0
    assert [axis.get_title(loc="left") for axis in figure.axes][1] == "JPEG, quality 90"


def test_figure_24_shows_the_target_with_the_probability_of_the_other(paper, tmp_path):
    spec = dataclasses.replace(paper.figures["figure24"], images=2)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    maps = {size: np.full((2, 8, 8), p, np.float32) for size, p in ((16, 0.6), (4, 0.2))}
    PatchMaps(images, np.array([7, 3]), maps).write(tmp_path / "p.safetensors")
    figure = patches.draw(spec, tmp_path / "p.safetensors")
    for column in (0, 1):  # under each image its maps, by rising crop size
        axes = figure.axes[column:6:2]
        assert axes[0].images[0].get_array().tolist() == images[column].transpose(1, 2, 0).tolist()
        assert [float(axis.images[0].get_array()[0, 0]) for axis in axes[1:]] == pytest.approx([0.8, 0.4])
        assert [axis.get_title() for axis in axes[1:]] == ["4 pixels: mean 0.80", "16 pixels: mean 0.40"]
    assert figure.axes[-1].get_ylabel() == "P(patch is of wildlife)"
    assert "Images: cats, 64x64" in texts(figure)
    other = patches.draw(dataclasses.replace(spec, shown="other"), tmp_path / "p.safetensors")
    assert float(other.axes[2].images[0].get_array()[0, 0]) == pytest.approx(0.2)
    assert other.axes[-1].get_ylabel() == "P(patch is of cats, 64x64)"


def test_captions_name_what_the_rows_hold(paper):
    spec = paper.tables["table4"]
    found = captions.of_table(spec, table_of(spec))
    assert "FFHQ faces, 64x64" in found[""] and "fd-x of 10 samples (lower is better)" in found[""]
    assert "one training seed" in found[""] and not any("CIFAR" in text for text in found.values())
