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

from ambient import annotation_panels, crops_figures, drawing, figures, galleries, manifest, numbers
from ambient.annotations import Annotations
from ambient.config import Experiments
from ambient.datasets import Dataset
from ambient.files import read_json
from ambient.spec import RowSpec, SummarySpec, TableSpec, TextSpec
from ambient.strict import plain

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
    assert galleries.crossing_of(levels, 0.4) == pytest.approx(math.sqrt(10))
    assert galleries.crossing_of(levels, 0.05) == pytest.approx(0.1)
    assert galleries.crossing_of(levels, 0.6) is None


def test_levels_are_told_from_other_rows(paper):
    found = {name: figures.level_key(table) for name, table in paper.tables.items()}
    assert found == {"table2a": "sigma_px", "table2b": None, "table3": "quality", "table4": "sigma_px",
                     "table6": None, "table7": "sigma_px", "text_results": None}


def table_of(spec, value=7.0):
    """A table's CSV as the `tables` stage names its columns, with one value everywhere."""
    rows = [{"method": r.method, "corruption": r.corruption or "none", **r.parameters, **r.settings,
             "metric": "fd-x", "value": value, "value_std": 0.5, "value_best": value, "num_samples": 10,
             "num_seeds": 2, "num_training_seeds": 1, "nimg": 100, "sigma_min_mean": r.paper.get("sigma_min"),
             "paper_value": r.paper.get("fid"), "paper_sigma_min_mean": r.paper.get("sigma_min"),
             "run_id": r.run_id} for r in spec.rows]
    return pd.DataFrame(rows)


def by_the_strict_classifier(spec):
    """A table of the paper's scale without the rows by the paper's protocol."""
    return dataclasses.replace(spec, rows=[row for row in spec.rows if not row.run.startswith("leaky-")])


def test_summary_has_every_published_number_and_the_notes(paper):
    spec = paper.tables["table6"]
    found = pd.DataFrame(numbers.rows_of("table6", spec.rows, table_of(spec)))
    fids = found[found["quantity"] == "fd-x"]
    printed = [5.49, 5.36, 5.35, 5.69, 5.40, 5.34]
    assert list(fids["paper"].fillna(0)) == [*printed, 0, *printed]
    assert list(fids["protocol"]) == 7 * ["strict balanced"] + 6 * ["leaky uniform (clean fraction 0.5)"]
    assert (fids["paper_quantity"] == "fid").all() and (fids["ours"] == 7.0).all()
    assert "5.56" in fids["note"].iloc[0] and "released code" in fids["note"].iloc[6]
    assert "weight=none" in fids["parameters"].iloc[0]
    assert list(found[found["quantity"] == "sigma_min_mean"]["paper"]) == [1.38, 1.38]
    with pytest.raises(ValueError, match="table table6: its rows are not those of the configuration"):
        numbers.rows_of("table6", spec.rows, table_of(spec).iloc[:-1])


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
    made = numbers.rebuild(plain(spec), [tmp_path / "t.csv"], [3], [*logs, *logs], [tmp_path / "report.json"],
                           [1, 2, 3, 1, 2])
    found = pd.read_csv(io.StringIO(made)).set_index("id").loc[[one.id for one in texts]]
    assert list(found["ours"]) == pytest.approx([1.0, 5.5, 0.3, 3.0, (6.0 + 28.8) / 2 / 3600], rel=1e-5)
    assert list(found["paper"]) == [1.64, 5.56, 0.13, 0.8, 4.4]
    assert list(found["provenance_level"]) == [1, 2, 3, 1, 2] and found["table"].eq("running text").all()
    assert found["quantity"].tolist() == ["crossing", "fd-x", "fd-x", "seconds_per_1000", "hours"]
    assert "8 V100; ours: mean of 2 trainings" in found.loc["seconds_per_1000", "note"]
    assert found.loc["crossing", "protocol"] == "strict balanced"
    assert numbers.time_of(texts[3], [logs[0], done])[0] == 2.0
    for wrong in (([*logs], [tmp_path / "report.json"]), ([*logs, *logs], [])):
        with pytest.raises(ValueError, match="files for"):
            numbers.rebuild(plain(spec), [tmp_path / "t.csv"], [3], *wrong, [1, 2, 3, 1, 2])


@pytest.mark.parametrize("name", ["table2b", "table3", "table6"])
def test_distances_can_be_drawn(paper, name, tmp_path):
    spec = paper.tables[name]
    drawing.save(figures.distances(spec, table_of(spec)), tmp_path / "a.png")
    drawing.save(figures.distances(spec, table_of(spec)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_one_level_is_drawn_row_by_row(paper):
    spec = by_the_strict_classifier(paper.tables["table2a"])
    rows = [row for row in spec.rows if row.parameters.get("sigma_px", 0.6) == 0.6]
    one = dataclasses.replace(spec, rows=rows)
    figure = figures.distances(one, table_of(one))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "Only Clean", "All data, sigma_px = 0.6", "Ambient-o, sigma_px = 0.6"]
    assert figures.distances(spec, table_of(spec)).axes[0].get_xlabel() == "blur, standard deviation [pixels]"


def test_learning_curves_keep_targets_apart_and_show_the_loss(paper, tmp_path):
    spec, metrics, losses = by_the_strict_classifier(paper.tables["table2b"]), [], []
    for k, _ in enumerate(spec.rows):
        metrics.append(tmp_path / f"{k}.json")
        metrics[-1].write_text(json.dumps({"metric": "fd-x", "scores": [
            {"nimg": n, "seed": seed, "value": 10 + k + seed} for n in (100, 200) for seed in (0, 1)]}))
        losses.append(tmp_path / f"{k}.jsonl")
        losses[-1].write_text("".join(f'{{"nimg": {n}, "loss": {k + 1}}}\n' for n in range(1, 201)))
    axes = figures.curves(spec, metrics, losses).axes
    assert [axis.get_title() for axis in axes[:5]] == [
        "dogs, added = cats", "dogs, added = procedural", "cats, added = dogs", "cats, added = wildlife", ""]
    drawn = {axis.get_title(): [float(bars.lines[0].get_ydata()[0]) for bars in axis.containers]
             for axis in axes[:4]}
    assert drawn["dogs, added = cats"] == [10.5 + k for k in range(6)]
    assert drawn["cats, added = wildlife"] == [17.5, 19.5]  # the cats' own clean run, not the dogs'
    assert [line.get_ydata()[-1] for line in axes[7].lines] == [8, 10]
    seen, loss = figures.smoothed(losses[0])
    assert len(seen) == 40 and seen[0] == 3.0 and (loss == 1).all()


def test_panels_of_crops_show_sigma_max_of_the_others(paper, tmp_path):
    row = next(row for row in paper.tables["table2b"].rows if row.annotated == "crops")
    report, table = tmp_path / "s.json", tmp_path / "a.safetensors"
    report.write_text(json.dumps({"p_target_mean": {"16": 0.1, "4": 0.4, "8": 0.3}}))
    Annotations(np.arange(6), np.array([0, 0, np.inf, np.inf, np.inf, np.inf]),
                np.array([0, 0, 0.1, 0.1, 0.2, 0])).write(table)
    figure = annotation_panels.classifiers([row], [report], [table])
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.4, 0.3, 0.1]
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == 3
    assert figure.axes[1].get_title() == "never usable: 25 %"
    none = annotation_panels.classifiers([], [], [])
    assert not none.axes and "no row" in none.texts[0].get_text()


def test_locality_and_donut_can_be_drawn(tmp_path):
    sigma, context = np.repeat(np.geomspace(0.01, 3, 6), 4), np.tile([4, 8, 16, 32], 6)
    loss = 0.05 * sigma * (1 + sigma * 4 / context)
    crop = np.repeat([4, 4, 8, 16, 32, 32], 4)
    table = pd.DataFrame({"sigma": sigma, "context_px": context, "loss": loss, "loss_stderr": 0.01 * loss,
                          "crop_px": crop, "tolerance": 1e-3, "relative_tolerance": 0.05})
    table.to_csv(tmp_path / "l.csv")
    figure = crops_figures.locality(tmp_path / "l.csv")
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
    figure = crops_figures.donut(spec, data, tmp_path / "a.safetensors")
    stacks = [area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[0].collections]
    assert stacks[0] == 10 and max(stacks) <= 200  # clean ones are usable everywhere
    drawing.save(figure, tmp_path / "d.png", tmp_path / "d.pdf")
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


def test_levels_are_in_rising_order(paper, tmp_path):
    spec = paper.figures["figure3"]
    reports = []
    for k, _ in enumerate(spec.names):
        path = tmp_path / f"{k}.json"
        mean = 2.0 + k % 3 + k / 10
        path.write_text(json.dumps({"sigma_min_mean": mean, "sigma_min_quartiles":
                                    [mean / 2, mean * 0.8, mean, mean * 1.3, mean * 2]}))
        reports.append(path)
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8), np.uint8)
    figure = galleries.levels(spec, Dataset(images, np.zeros(20, int), np.arange(20)), reports)
    chart = figure.axes[1]
    means = [line.get_xdata()[0] for line in chart.lines if line.get_marker() == "o"]
    assert means == sorted(means) and len(means) == len(spec.names)
    drawing.save(figure, tmp_path / "f.png")


@pytest.mark.parametrize("levels", [[0.02], [0.5, 1.0, 4.0], list(np.linspace(0.1, 3, 50))])
def test_every_value_falls_into_a_bin_that_can_be_seen(levels):
    edges = annotation_panels.edges_of(np.array(levels))
    counts, _ = np.histogram(levels, edges)
    assert counts.sum() == len(levels) and (edges[1:] / edges[:-1]).min() > 1.1
