"""What the ambient loss costs near sigma_min: closed form, measurement, figure."""

import contextlib
import dataclasses
from types import SimpleNamespace

import finished
import numpy as np
import pandas as pd
import pytest
import torch
from tiny import RECORD, TRAINING, kept

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset
from ambient.diffusion.eligible import Admission
from ambient.diffusion.floor import noise_floor
from ambient.diffusion.objective import ambient_loss, edm_loss
from ambient.report.drawing import plt
from ambient.report.figures import noise_floor as figure_kind
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs import NoiseFloorSpec
from ambient.specs.strict import SpecError, plain
from ambient.stages import noise_floor as stage
from ambient.training.weights import save_weights

OVERLAY = """extends: tiny
studies:
  controlled:
    clean_fraction: 0.4
    training:
      network: {kind: mp_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [],
                channels_per_head: 8, dropout: 0.0, conditional: true}
      augment: {transforms: []}
      optimiser: {nimg: 128, decay: inverse_sqrt, decay_nimg: 256, clip: inf, ema_stds: [0.1]}
      loss: {uncertainty: true}
      snapshots: [128]
datasets:
  digits: {max_images: 100, resolution: 8}
  others: {like: digits, sigma_min: 0.3}
corruptions: {plus-others: {op: add, dataset: others}}
annotations: {half: {method: fixed, sigma_min: 0.5, label: half}}
runs:
  with-buffer: {study: controlled, corruption: blur-0.6, annotation: half}
  without: {study: controlled, corruption: blur-0.6, annotation: half, training: {loss: {buffer: null}}}
  certain: {study: controlled, corruption: blur-0.6, annotation: half, training: {loss: {uncertainty: false}}}
  other: {study: controlled, corruption: blur-0.8, annotation: half}
  by-source: {study: controlled, corruption: plus-others, annotation: by-source}
  clean-alone: {study: controlled, corruption: none, annotation: clean}
figures:
  floor: {kind: noise_floor, title: Floor, study: controlled, runs: [with-buffer, without], sigma_low: 0.1,
          sigma_high: 2.0, num_sigmas: 4, num_images: 40}
"""


def level(value):
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize(("sigma", "floor"), [(0.205, 23), (0.2309, 3.6), (0.25, 2.2), (0.5, 0.38)])
def test_the_floor_of_an_image_at_level_0_2(sigma, floor):
    assert float(noise_floor(level(sigma), level(0.2), 0.5)) == pytest.approx(floor, rel=0.02)
    assert float(noise_floor(level(sigma), level(0.0), 0.5)) == 0


def test_the_ambient_loss_of_any_denoiser_is_edms_and_the_floor():
    """By Monte Carlo with a denoiser that is wrong on purpose, at a level near sigma_tn and far from it."""
    generator, count = torch.Generator().manual_seed(0), 200_000
    x0, own, further = torch.randn(3, count, 1, 1, 1, generator=generator, dtype=torch.float64)
    for sigma, sigma_tn in ((0.23, 0.2), (1.0, 0.2)):
        x_tn = x0 + sigma_tn * own
        x_t = x_tn + (sigma**2 - sigma_tn**2) ** 0.5 * further
        denoised, levels = torch.tanh(x_t) + 0.1, level(sigma).expand(count)
        ambient = ambient_loss(denoised, x_t, x_tn, levels, level(sigma_tn).expand(count), 0.5)
        difference = ambient - edm_loss(denoised, x0, levels, 0.5)
        wanted, error = float(noise_floor(level(sigma), level(sigma_tn), 0.5)), float(difference.std())
        assert float(difference.mean()) == pytest.approx(wanted, abs=4 * error / count**0.5)


def test_levels_lie_closer_the_nearer_sigma_min_is():
    spec = NoiseFloorSpec(("a",), 0.2, 0.05, 2.0, 3, 10, 0)
    assert stage.levels(spec) == pytest.approx([0.05, 0.0793701, 0.1259921, 0.202, 0.26, 2.0])


def test_images_of_other_levels_are_refused():
    spec = NoiseFloorSpec(("a",), 0.2, 0.05, 2.0, 3, 10, 0)
    data = Dataset(np.zeros((3, 1, 4, 4), np.uint8), np.zeros(3, int), np.arange(3))

    def rows(*levels):
        return stage.kinds(spec, data, Annotations(data.ids, np.array(levels), np.zeros(3)))

    assert [one.tolist() for one in rows(0.2, 0.0, 0.2)] == [[1], [0, 2]]
    for levels in ((0.2, 0.2, 0.2), (0.0, 0.2, 0.3), (0.0, 0.0, 0.0)):
        with pytest.raises(ValueError, match="sigma_min: got . images with 0 and . with 0.2, of 3, allowed"):
            rows(*levels)


def test_the_share_of_clean_draws_follows_the_buffer():
    annotated = Annotations(np.arange(10), np.r_[np.zeros(1), np.full(9, 0.2)], np.r_[0.0, 0.1, np.zeros(8)])
    sigma = np.array([0.05, 0.15, 0.21, 0.24])
    assert stage.clean_share(annotated, 1, Admission(4.0), sigma) == pytest.approx([0.5, 1, 1, 0.1])
    assert stage.clean_share(annotated, 1, Admission(None), sigma) == pytest.approx([0.5, 1, 0.1, 0.1])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("floor")
    with contextlib.chdir(folder):
        finished.configure(folder, OVERLAY)
        finished.make(folder, "results/away/noise-floors/floor.csv")
    return folder


@pytest.fixture(scope="module")
def settings(made):
    return Experiments(made / "config", finished.SCALE)


def test_a_denoiser_measured_has_the_floor_of_the_closed_form(made):
    table = pd.read_csv(made / "results/away/noise-floors/floor.csv")
    assert table["run"].tolist() == 8 * ["with-buffer"] + 8 * ["without"]
    assert table["threshold"].unique() == pytest.approx([0.5 * (4 / 3) ** 0.5, 0.5])
    above = table[table["sigma"] > 0.5]
    assert len(above) == 8 and table["ambient_loss"].notna().sum() == 8
    excess = above["ambient_loss"] - above["other_loss"]
    assert (abs(excess / above["noise_floor"] - 1) < 0.15).all()  # 2,560 numbers at each level
    assert above["noise_floor"].iloc[0] == pytest.approx(
        float(noise_floor(level(0.505), level(0.5), 0.5)), rel=1e-5)
    with_buffer, without = table[:8], table[8:]
    assert with_buffer["clean_share"].tolist() == [1] * 4 + [1, 1, 0.4, 0.4]
    assert without["clean_share"].tolist() == [1] * 4 + [0.4] * 4
    assert (with_buffer["u"].to_numpy() != without["u"].to_numpy()).any()


def test_no_level_is_measured_twice_and_no_denoiser_loaded_in_vain(made, settings, tmp_path, monkeypatch):
    """Interrupted at the third level of the second run. The first run's denoiser is not loaded again."""
    graph, measured, load = Graph(settings), stage.measured, stage.load_denoiser
    job = graph.maker("results/away/noise-floors/floor.csv")
    files = {role: [made / path for path in paths] for role, paths in graph.reads(job).items()}
    files |= {role: files[role][0] for role in ("data", "annotations")}
    levels, loaded = [], []

    def counted(*given):
        if len(levels) == 10:
            raise KeyboardInterrupt
        levels.append(given[-1])
        return measured(*given)

    def loading(path, *given):
        loaded.append(path.parts[-3])
        return load(path, *given)

    def run():
        stage.main(graph.asks(job), RECORD, **files, state=kept(tmp_path / "state"), out=tmp_path / "out")

    monkeypatch.setattr(stage, "measured", counted)
    monkeypatch.setattr(stage, "load_denoiser", loading)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert levels == [*range(8), 0, 1] and loaded == ["with-buffer", "without"]
    levels, loaded = [], []
    run()
    assert levels == [*range(2, 8)] and loaded == ["without"]
    assert (tmp_path / "out").read_bytes() == (made / "results/away/noise-floors/floor.csv").read_bytes()


def test_a_denoiser_without_uncertainty_is_refused_before_any_is_measured(tmp_path):
    about = {"num_classes": 0, "spec": plain(TRAINING)}
    save_weights(tmp_path / "d", {"80/w": torch.zeros(1)}, about)
    spec = NoiseFloorSpec(("a",), 0.2, 0.05, 2.0, 3, 10, 0)
    with pytest.raises(ValueError, match=r"d: has no uncertainty u\(sigma\), allowed: loss.uncertainty true"):
        stage.trained(spec, tmp_path / "d")
    with pytest.raises(ValueError, match="its network is of kind unet, the specification's network is dit"):
        stage.trained(dataclasses.replace(spec, network="dit"), tmp_path / "d")


def test_images_without_labels_are_measured_too():
    data = Dataset(np.zeros((3, 1, 4, 4), np.uint8), np.full(3, -1), np.arange(3))
    points = SimpleNamespace(fixed=lambda rows, seed: torch.zeros(len(rows), 1, 4, 4))
    spec = NoiseFloorSpec(("a",), 0.2, 0.05, 2.0, 3, 10, 0)
    images = stage.Images("clean", spec, points, data, np.arange(3), torch.device("cpu"))

    def half(x, sigma, condition):
        return torch.full_like(x, 0.5)

    half.sigma_data = 0.5
    plain, ambient = images.losses(half, 0, 1.0, 0.2, conditional=False)
    assert plain == pytest.approx([5 * 0.5**2] * 3) and ambient.shape == (3,)  # lambda(1) = 5


def test_the_figure_shows_the_weight_that_clean_images_have(made, settings):
    spec = settings.figures["floor"]
    path = made / "results/away/noise-floors/floor.csv"
    figure, table = figure_kind.draw(spec, path), pd.read_csv(path)
    with_buffer, without, _ = (line.get_ydata() for line in figure.axes[2].lines[:3])
    assert np.r_[with_buffer, without] == pytest.approx(table["clean_loss"] / np.exp(table["u"]))
    names = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert names == ["buffer L = 4", "no buffer", "others from 0.5 on", "others from 0.577 on"]
    fitted = figure.axes[1].lines[3].get_ydata()  # without a buffer, nearest to sigma_min from above
    row = table.iloc[12]
    assert np.exp(fitted[4]) == pytest.approx(0.4 * row["clean_loss"] + 0.6 * row["ambient_loss"])
    plt.close(figure)


@pytest.mark.parametrize(("runs", "message"), [
    ([], "figures.floor.runs: got .., allowed: names in runs"),
    (["with-buffer", "certain"], "got 'certain', allowed: a run with loss.uncertainty: true"),
    (["with-buffer", "other"], "got 'other', allowed: .* the mixture and the annotation of with-buffer"),
    (["clean-alone"], "got 'clean-alone', allowed: a run with one annotation, which gives one sigma_min > 0"),
    (["with-bufer"], "no such name in runs: 'with-bufer'")])
def test_runs_that_can_not_be_compared_are_refused(settings, runs, message):
    with pytest.raises(SpecError, match=message):
        figure_kind.Spec.follows(settings, "figures.floor", None, {"runs": runs})


def test_added_images_have_the_level_of_their_dataset(settings):
    found = figure_kind.Spec.follows(settings, "figures.floor", None, {"runs": ["by-source"]})
    assert found == {"sigma_min": 0.3}


def test_a_figure_shows_three_runs_and_refuses_a_fourth(settings):
    spec = settings.figures["floor"]
    assert len(dataclasses.replace(spec, runs=("a", "b", "c")).runs) == 3
    with pytest.raises(SpecError, match=r"runs: got \('a', 'b', 'c', 'd'\), allowed: at most 3: show"):
        dataclasses.replace(spec, runs=("a", "b", "c", "d"))


def test_each_of_three_runs_has_its_lines(made, settings, tmp_path):
    table = pd.read_csv(made / "results/away/noise-floors/floor.csv")
    third = table[:8].assign(run="third", buffer=2.0, u=table["u"][:8] + 1)
    pd.concat([table, third]).to_csv(tmp_path / "floor.csv", index=False)
    spec = dataclasses.replace(settings.figures["floor"], runs=("with-buffer", "without", "third"))
    figure = figure_kind.draw(spec, tmp_path / "floor.csv")
    names = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert names[:3] == ["buffer L = 4", "no buffer", "buffer L = 2"]
    assert figure.axes[2].lines[2].get_ydata() == pytest.approx(third["clean_loss"] / np.exp(third["u"]))
    plt.close(figure)
