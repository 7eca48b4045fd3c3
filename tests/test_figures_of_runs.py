"""Figures follow the runs and the annotations that they name, also where these differ from their study."""

import numpy as np
import pytest

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, write
from ambient.report import annotation_panels, sample_grid, table_figures
from ambient.settings import Experiments
from ambient.settings.places import Files
from ambient.stages.combine import combine
from ambient.storage.files import write_arrays, write_json
from tests.clones import configuration

DONUT = """figures:
  of-run: {title: Donut, kind: donut, run: donut}
  of-study: {title: A batch, kind: batch, study: dogs}
  crossing: {title: Levels, kind: crossing, study: dogs, corruptions: [blur-0.6], annotation: per-sample}
  patches: {title: Patches, kind: patches, study: dogs, corruptions: [plus-cats], annotation: crops}
runs: {donut: {training: {loss: {buffer: 1.5, margin: 0.1}, noise: {P_mean: -0.4}}}}
annotations:
  per-sample: {epsilon: 0.2}
  crops: {crop_sigma: 0.01}
"""
LATENT = """tables:
  mine:
    title: Parts
    rows:
      one: {study: edm2-xs, corruption: blur-0.6, annotation: per-sample,
            also: [{corruption: blur-0.6, annotation: all}, {corruption: none, annotation: clean}]}
      two: {study: edm2-xs, corruption: blur-1.0, annotation: per-sample,
            also: [{corruption: none, annotation: clean}, {corruption: blur-1.0, annotation: all}]}
"""
SEVERAL = """tables:
  mine:
    title: Parts
    defaults: {study: dogs}
    rows:
      crops-first: {corruption: plus-cats, annotation: crops,
                    also: [{corruption: blur-0.6, annotation: per-sample}]}
      alone: {corruption: blur-0.6, annotation: per-sample}
      noise-first: {corruption: blur-0.6, annotation: per-sample,
                    also: [{corruption: plus-cats, annotation: below-1.0}]}
      clean: {corruption: none, annotation: clean}
"""


@pytest.fixture
def laid(tmp_path):
    """A function: what is laid over the scale `demo` -> its experiments."""
    def of(text):
        folder = configuration(tmp_path / "config")
        (folder / "scales/mine.yaml").write_text(f"extends: demo\n{text}")
        return Experiments(folder, "mine")

    return of


def test_figures_have_the_settings_of_the_run_and_of_the_annotation_that_they_name(laid):
    made = laid(DONUT)
    figure, training = made.figures["of-run"], made.training("donut", 0)
    assert (figure.buffer, figure.margin, figure.noise.P_mean) == (1.5, 0.1, -0.4)
    assert (figure.buffer, figure.noise) == (training.loss.buffer, training.noise)
    of_study = made.figures["of-study"]
    assert (of_study.buffer, of_study.margin, of_study.noise.P_mean, of_study.epsilon) == (4, 0, -1.2, 0.05)
    assert made.figures["crossing"].epsilon == made.annotation("dogs", "per-sample").epsilon == 0.2
    assert made.patch_maps("patches").crop_sigma == made.annotation("dogs", "crops").crop_sigma == 0.01


def test_the_grid_shows_the_images_of_each_row_whatever_parts_its_data_have(laid, tmp_path):
    """Mixtures of one row are the same, or say nothing new of its images: the next row has its own still."""
    made = laid(LATENT)
    spec, beside = made.tables["mine"], Files(made).images_of_rows("mine")
    assert [row.parts for row in spec.rows] == [3, 3] and len(beside) == 6
    ids, corrupted = np.arange(4), np.array([0, 1, 1, 1], np.uint8)
    greys = {"blur-0.6": np.array([10, 60, 61, 62]), "blur-1.0": np.array([10, 100, 101, 102])}
    files, combined, levels = {}, [], []
    for path in beside:
        files[path] = tmp_path / path.replace("/", "-")
        grey = next((one for name, one in greys.items() if name in path), np.array([10]))
        images = np.broadcast_to(grey[:, None, None, None], (len(grey), 1, 4, 4)).astype(np.uint8)
        write(files[path], Dataset(images, np.zeros(len(grey), int), ids[:len(grey)], corrupted[:len(grey)]))
    write_arrays(tmp_path / "samples", {"64": np.full((1, 2, 1, 4, 4), 63, np.uint8)})
    for k, row in enumerate(spec.rows):
        parts = [read(files[path]) for path in beside[3 * k:3 * k + 3]]
        tables = [Annotations(one.ids, np.zeros(len(one.ids)), np.zeros(len(one.ids))) for one in parts]
        data, table = combine(list(zip(parts, tables, strict=True)), keep=False)
        combined.append(tmp_path / f"{row.run}-data")
        levels.append(tmp_path / f"{row.run}-levels")
        write(combined[-1], data)
        table.write(levels[-1])
    figure = sample_grid.grid(spec, [tmp_path / "samples"] * 2, combined, levels,
                              [files[path] for path in beside])
    shown = {axis.get_title(loc="left").strip(): axis.images[0].get_array() for axis in figure.axes}
    more = " and of 2 more parts: 3 of 3"
    assert set(shown["real images, corrupted (blur, 0.6 px)" + more].flat) - {255} == {60, 61, 62}
    assert set(shown["real images, corrupted (blur, 1.0 px)" + more].flat) - {255} == {100, 101, 102}
    nearest = [axis.images[0].get_array() for axis in figure.axes if "nearest" in axis.get_title(loc="left")]
    assert [set(one.flat) - {255} for one in nearest] == [{62}, {100}]


def test_panels_of_classifiers_are_of_the_part_that_these_were_asked_about(laid, tmp_path):
    made = laid(SEVERAL)
    spec, files = made.tables["mine"], Files(made)
    told = {"annotations": files.annotations_of_rows("mine"), "summaries": files.summaries_of_rows("mine"),
            "first_parts": files.first_parts_of_rows("mine")}
    for paths in told.values():
        paths[:] = [path.removeprefix("results/mine/").replace("/dogs", "") for path in paths]
    crops, noise = "annotations/plus-cats/crops", "annotations/blur-0.6/per-sample"
    assert told["annotations"][:3] == ["combined/crops-first-annotations.safetensors",
                                       f"{noise}.safetensors", "combined/noise-first-annotations.safetensors"]
    assert told["first_parts"] == [f"{crops}.safetensors", f"{noise}.safetensors"]
    assert [path.removesuffix(".json") for path in told["summaries"][:3]] == [crops, noise, noise]
    reports = files.reports_of_rows("mine")
    assert reports[0] == "results/mine/annotations/dogs/plus-cats/crops.json"
    assert reports[1] == reports[2] and reports[1].startswith("results/mine/classifiers/dogs/blur-0.6/")

    tables = {path: tmp_path / f"{k}" for k, path in enumerate(dict.fromkeys(sum(told.values(), [])))}
    of_crops = Annotations(np.arange(5), np.full(5, np.inf), np.array([0.1, 0.1, 0.2, 0.2, 0]))
    of_crops.write(tables[told["first_parts"][0]])
    of_noise = Annotations(np.arange(3), np.array([1.0, 4.0, 4.0]), np.zeros(3))
    of_noise.write(tables[told["first_parts"][1]])
    write_json(tables[told["summaries"][0]], {"p_target_mean": {"4": 0.4, "8": 0.3}})
    write_json(tables[told["summaries"][1]], {"never_crossed": 2, "last_level": 4.0})
    levels = [{"sigma": s, "p_clean_of_clean": 0.9, "p_clean_of_corrupted": 0.1} for s in (0.1, 1.0)]
    write_json(tmp_path / "report", {"levels": levels, "held_out": {"clean": 9, "corrupted": 8}})
    paths = {role: [tables[path] for path in found] for role, found in told.items()}
    rows = table_figures.annotated(spec, **paths)
    figure = annotation_panels.classifiers(spec, rows, [rows[0][2], *[tmp_path / "report"] * 2])
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.4, 0.3]
    assert figure.axes[3].get_title() == "never usable: 1 of 5 (20 %)"
    for bottom in figure.axes[4:]:  # both rows have the blurred images of one annotation
        said = [text.get_text() for text in bottom.get_legend().get_texts()]
        assert said[0] == "mean 3, of 3 images" and said[1] == "2 never cross: given the last level, 4"
    assert "several mixtures the first is shown" in figure.get_supxlabel().replace("\n", " ")
