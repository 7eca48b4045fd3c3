"""Figures and the summary: what is computed for them, and that each kind can be drawn."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ambient import crops_figures, drawing, figures, galleries, numbers
from ambient.annotations import Annotations
from ambient.config import Experiments
from ambient.datasets import Dataset

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


def test_summary_has_every_published_number_and_the_notes(paper):
    spec = paper.tables["table6"]
    found = pd.DataFrame(numbers.rows_of("table6", spec.rows, table_of(spec)))
    fids = found[found["quantity"] == "fd-x"]
    assert list(fids["paper"].fillna(0)) == [5.49, 5.36, 5.35, 5.69, 5.40, 5.34, 0]
    assert (fids["paper_quantity"] == "fid").all() and (fids["ours"] == 7.0).all()
    assert "5.56" in fids["note"].iloc[0] and "released code" in fids["note"].iloc[-1]
    assert "weight=none" in fids["parameters"].iloc[0]
    assert list(found[found["quantity"] == "sigma_min_mean"]["paper"]) == [1.38]
    with pytest.raises(ValueError, match="table table6: its rows are not those of the configuration"):
        numbers.rows_of("table6", spec.rows, table_of(spec).iloc[:-1])


@pytest.mark.parametrize("name", ["table2b", "table3", "table6"])
def test_distances_can_be_drawn(paper, name, tmp_path):
    spec = paper.tables[name]
    drawing.save(figures.distances(spec, table_of(spec)), tmp_path / "a.png")
    drawing.save(figures.distances(spec, table_of(spec)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_locality_and_donut_can_be_drawn(tmp_path):
    sigma, context = np.repeat(np.geomspace(0.01, 3, 6), 4), np.tile([4, 8, 16, 32], 6)
    loss = 0.05 * sigma * (1 + sigma * 4 / context)
    crop = np.repeat([4, 4, 8, 16, 32, 32], 4)
    pd.DataFrame({"sigma": sigma, "context_px": context, "loss": loss, "loss_stderr": 0.01 * loss,
                  "crop_px": crop}).to_csv(tmp_path / "l.csv")
    drawing.save(crops_figures.locality(tmp_path / "l.csv"), tmp_path / "l.png")
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
    edges = figures.edges_of(np.array(levels))
    counts, _ = np.histogram(levels, edges)
    assert counts.sum() == len(levels) and (edges[1:] / edges[:-1]).min() > 1.1
