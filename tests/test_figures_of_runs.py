"""Figures follow the runs and the annotations that they name, also where these differ from their study."""

import pytest

from ambient.settings import Experiments
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
