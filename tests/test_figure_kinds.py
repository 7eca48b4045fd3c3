"""Figures that belong to no table, kind by kind."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from tables import texts

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, joined, write
from ambient.data.patch_maps import PatchMaps
from ambient.diffusion.eligible import Admission
from ambient.report import (
    drawing,
    noising,
)
from ambient.report.figures import donut, extremes, gallery, locality, patches, uncurated
from ambient.report.figures import levels as levels_figure
from ambient.storage.files import write_arrays


def test_locality_and_donut_can_be_drawn(paper, tmp_path):
    sigma, context = np.repeat(np.geomspace(0.01, 3, 6), 4), np.tile([4, 8, 16, 32], 6)
    loss = 0.05 * sigma * (1 + sigma * 4 / context)
    crop = np.repeat([4, 4, 8, 16, 32, 32], 4)
    table = pd.DataFrame({"sigma": sigma, "context_px": context, "loss": loss, "loss_stderr": 0.01 * loss,
                          "crop_px": crop, "tolerance": 1e-3, "relative_tolerance": 0.05})
    table.to_csv(tmp_path / "l.csv")
    figure = locality.draw(paper.figures["figure18"], tmp_path / "l.csv")
    assert "within 0.001 and 5% of" in figure.axes[1].get_title()
    assert figure.axes[0].get_xlabel() == "context [pixels]"
    drawing.save(figure, tmp_path / "l.png")
    for name, axis in (("figure16", "get_xlabel"), ("figure17", "get_ylabel")):
        spec = paper.figures[name]
        only, = locality.draw(spec, tmp_path / "l.csv").axes
        assert getattr(only, axis)().endswith("[numbers of a latent]") and spec.factor == 8
    ids = np.r_[np.arange(100), (1 << 32) + np.arange(100)]
    data = Dataset(np.zeros((200, 1, 4, 4), np.uint8), np.full(200, -1), ids,
                   (np.arange(200) >= 10).astype(np.uint8))
    draws = np.random.default_rng(0).lognormal(0, 0.4, 200)
    cats = ids >= 1 << 32
    Annotations(ids, np.where(cats, np.inf, np.where(data.corrupted == 1, draws, 0)),
                np.where(cats, 0.1 * draws, 0)).write(tmp_path / "a.safetensors")
    spec = paper.figures["figure15"]
    write(tmp_path / "m.safetensors", data)
    figure = donut.draw(spec, tmp_path / "m.safetensors", tmp_path / "a.safetensors")
    stacks = [area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[0].collections]
    assert stacks[0] == 10 and max(stacks) <= 200  # clean ones are usable everywhere
    drawing.save(figure, tmp_path / "d.png", tmp_path / "d.pdf")
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")


def test_extremes_show_the_least_and_the_largest_sigma_min_with_their_files(paper, tmp_path):
    names = [f"photos/{i:03d}.png" for i in range(60)]
    levels = np.r_[np.zeros(20), np.linspace(0.1, 3.0, 30), np.full(10, np.inf)]
    write(tmp_path / "m.safetensors", Dataset(
        np.zeros((60, 3, 8, 8), np.uint8), np.full(60, -1), np.arange(60),
        (levels > 0).astype(np.uint8), joined(names)))
    Annotations(np.arange(60), levels, np.zeros(60)).write(tmp_path / "a.safetensors")
    spec = dataclasses.replace(paper.figures["figure15"], images=4)
    said = [tmp_path / "one.json", tmp_path / "other.json"]
    said[0].write_text(json.dumps({"unsure": [{"id": 30 + k, "from": 1, "to": 9 - k} for k in range(3)]}))
    said[1].write_text(json.dumps({"unsure": [{"id": 40 + k, "from": 1, "to": 7.5 - k} for k in range(3)]}))
    figure = extremes.draw(spec, tmp_path / "m.safetensors", tmp_path / "a.safetensors", summaries=said)
    titles = [axis.get_title("left") for axis in figure.axes]
    assert titles[:4] == ["020.png", "021.png", "022.png", "023.png"]  # below them their levels
    assert titles[4] == r"$\sigma_{\min}$ = 0.1" and titles[20:24] == [r"$\sigma_{\min}$ = 2.7",
        r"$\sigma_{\min}$ = 2.8", r"$\sigma_{\min}$ = 2.9", r"$\sigma_{\min}$ = 3"]
    assert titles[16:20] == ["046.png", "047.png", "048.png", "049.png"]
    assert titles[28:32] == ["never"] * 4 and {int(name[:3]) for name in titles[24:28]} <= set(range(50, 60))
    assert titles[32:36] == ["030.png", "031.png", "040.png", "032.png"]  # 9, 8, 7.5 and 7 times


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


def test_uncurated_samples_are_the_first_of_each_run_at_its_last_snapshot(paper, tmp_path):
    rng, drawn, paths = np.random.default_rng(0), [], []
    for k in range(2):
        drawn.append(rng.integers(0, 256, (1, 20, 3, 8, 8), np.uint8))
        paths.append(tmp_path / f"{k}.safetensors")
        write_arrays(paths[-1], {"1024": drawn[-1], "512": np.zeros_like(drawn[-1])})
    figure = uncurated.draw(paper.figures["figure1-imagenet"], paths)
    assert [axis.get_title("left") for axis in figure.axes] == ["EDM2-XXL", "Ambient-o-XXL+crops"]
    for axis, images in zip(figure.axes, drawn, strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), drawing.sheet(images[0, :8], 8))
    more = dataclasses.replace(paper.figures["figure13"], rows=2)
    only, = uncurated.draw(more, paths[:1]).axes
    np.testing.assert_array_equal(only.images[0].get_array(), drawing.sheet(drawn[0][0, :16], 8))


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


def test_a_donut_tells_images_by_the_level_that_admits_them(paper, tmp_path):
    """Added images with a sigma_min, images of the same dataset with a sigma_max, and one with both."""
    ids = np.array([0, 1, 2, (1 << 32) + 1, (1 << 32) + 2])
    write(tmp_path / "m", Dataset(np.zeros((5, 1, 4, 4), np.uint8), np.full(5, -1), ids,
                                  np.array([0, 1, 1, 1, 1], np.uint8)))
    rows = Annotations(ids, np.array([0, np.inf, 3.0, 1.0, 1.0]), np.array([0, 0.1, 0.1, 0, 0]))
    rows.write(tmp_path / "a")
    sigma, corrupted = np.array([0.05, 0.5, 2.0, 5.0]), np.array([0, 1, 1, 1, 1]) == 1
    counts = donut.usable(rows, corrupted, sigma, Admission(None))
    assert [count.tolist() for count in counts] == [[1, 1, 1, 1], [0, 0, 2, 3], [2, 0, 0, 0]]
    figure = donut.draw(paper.figures["figure15"], tmp_path / "m", tmp_path / "a")
    assert said_of(figure) == ["clean", r"others, above $\sigma_{\min}$", r"others, below $\sigma_{\max}$"]
    Annotations(ids, np.array([0, 1.0, 1.0, 1.0, 1.0]), np.zeros(5)).write(tmp_path / "a")
    figure = donut.draw(paper.figures["figure15"], tmp_path / "m", tmp_path / "a")
    assert said_of(figure) == ["clean", r"others, above $\sigma_{\min}$"]
    assert [area.get_paths()[0].vertices[:, 1].max() for area in figure.axes[0].collections] == [1, 5]


def said_of(figure):
    """The areas of a donut, in the words of its legend."""
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()][:-1]
