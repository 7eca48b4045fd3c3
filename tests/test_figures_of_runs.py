"""Figures follow the runs and the annotations that they name, also where these differ from their study."""

import numpy as np
import pytest

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, write
from ambient.report import sample_grid
from ambient.settings import Experiments
from ambient.settings.places import Files
from ambient.stages.combine import combine
from ambient.storage.files import write_arrays
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
    assert set(shown["real images, corrupted (blur, 0.6 px): 3 of 3"].flat) - {255} == {60, 61, 62}
    assert set(shown["real images, corrupted (blur, 1.0 px): 3 of 3"].flat) - {255} == {100, 101, 102}
    nearest = [axis.images[0].get_array() for axis in figure.axes if "nearest" in axis.get_title(loc="left")]
    assert [set(one.flat) - {255} for one in nearest] == [{62}, {100}]
