"""Entries that no table and no figure asks for are checked, too, when a workflow starts and by the doctor."""

from pathlib import Path

import pytest
from clones import configuration

from ambient.cluster import doctor
from ambient.cluster.scales import Graphs
from ambient.settings import Experiments, scales
from ambient.settings.unreached import check_entries
from ambient.specs.strict import SpecError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
    return configuration(tmp_path / "config")


def checked(config, text):
    """The scale `mine`, written for the occasion. Its tables and figures reach nothing of what is written."""
    (config / "scales/mine.yaml").write_text(f"extends: demo\n{text}\n")
    found = Experiments(config, "mine")
    check_entries(found)
    return found


@pytest.mark.parametrize(("text", "said"), [
    ("datasets: {mine: {source: mnist, resolution: 16, channels: 1, chanels: 1}}",
     "datasets.mine: unknown key 'chanels' (did you mean 'channels'?)"),
    ("datasets: {mine: {source: mnst, resolution: 16, channels: 1}}", "datasets.mine.source: got 'mnst'"),
    ("scorers: {mine: {kind: measure, measur: detail}}", "scorers.mine: unknown key 'measur'"),
    ("encoders: {mine: {kind: block_pca, blok: 4}}", "encoders.mine: unknown key 'blok'"),
    ("text_encoders: {mine: {kind: openclip, wieghts: x}}", "text_encoders.mine: unknown key 'wieghts'"),
    ("detectors: {mine: {kind: inception, feature: 2048}}", "detectors.mine: unknown key 'feature'"),
    ("judges: {mine: {kind: alignment, modle: x}}", "judges.mine: unknown key 'modle'"),
    ("corruptions: {mine: {op: gaussian_blur, sigma: 1.0}}",
     "corruptions.mine: gaussian_blur: unknown parameter 'sigma'"),
    ("corruptions: {mine: {op: gaussian_blur, sigma_px: -1.0}}", "corruptions.mine: sigma_px: got -1.0"),
    ("corruptions: {mine: {op: add, dataset: nowhere}}", "corruptions.mine.dataset: no such name in"),
    ("classifiers: {mine: {crop: null, hold: 0.2}}",
     "classifiers.mine: unknown key 'hold' (did you mean 'holdout'?)"),
    ("annotations: {mine: {method: fixed, sigma_mn: 1.0}}", "annotations.mine: unknown key 'sigma_mn'"),
    ("annotations: {mine: {method: per_sample}}", "annotations.mine.classifier: got None"),
    ("studies: {mine: {like: controlled, trainings: {}}}", "studies.mine: unknown key 'trainings'"),
    ("studies: {mine: {like: controlled, training: {optimizer: {}}}}",
     "studies.mine.training: unknown key 'optimizer' (did you mean 'optimiser'?)"),
    ("studies: {mine: {like: controlled, annotation: {epsillon: 0.1}}}",
     "studies.mine.annotation: unknown key 'epsillon' (did you mean 'epsilon'?)"),
    ("studies: {mine: {like: controlled, locality: {rum: only-clean}}}",
     "studies.mine.locality: unknown key 'rum' (did you mean 'run'?)"),
    ("annotations: {mine: {method: fixed, sigma_min: 1.0, epsilon: 0.1}}",
     "annotations.mine.epsilon: got 0.1, allowed: nothing: method fixed does not read it"),
    ("annotations: {mine: {method: clean, precision: bfloat16}}",
     "annotations.mine.precision: got 'bfloat16', allowed: nothing: method clean does not read it"),
    ("annotations: {mine: {method: per_sample, classifier: balanced, crop_threshold: 0.3}}",
     "annotations.mine.crop_threshold: got 0.3, allowed: nothing: method per_sample does not read it"),
    ("annotations: {mine: {method: crops, classifiers: [crops-4], crop_map: released, num_sigmas: 9}}",
     "annotations.mine.num_sigmas: got 9, allowed: nothing: method crops does not read it"),
    ("annotations: {mine: {method: by_source, sigma_min: 2.0}}",
     "annotations.mine.sigma_min: got 2.0, allowed: nothing: method by_source does not read it"),
    ("annotations: {mine: {like: quality-crops, crop_sigma: 0.1}}",
     "annotations.mine.crop_sigma: got 0.1, allowed: nothing: method by_quality does not read it"),
    ("runs: {mine: {study: controlled, corruption: none, annotation: clean, training: {mak: 0.5}}}",
     "runs.mine.training: unknown key 'mak' (did you mean 'mask'?)"),
    ("runs: {mine: {study: controlled, corruption: none, annotation: clean, training: {optimiser: {lr: 0}}}}",
     "runs.mine.training.optimiser.lr: got 0"),
    ("runs: {mine: {study: controled, corruption: none, annotation: clean}}",
     "runs.mine.study: no such name in studies: 'controled' (did you mean 'controlled'?)"),
    ("sweeps: {mine: {of: [nothing], guidances: [1, 2]}}", "no such name in runs: 'nothing'")])
def test_a_slip_in_an_entry_that_nothing_asks_for_is_refused_by_file_and_key(config, text, said):
    with pytest.raises(SpecError) as caught:
        checked(config, text)
    message = str(caught.value)
    assert message.startswith(f"{config / 'scales/mine.yaml'}: ") and said in message and "\n" not in message


@pytest.mark.parametrize("text", [
    # What lies elsewhere: files of another machine.
    "datasets: {mine: {source: images, path: /not/here, resolution: 16, channels: 1}}",
    "encoders: {mine: {like: sd-vae, weights: /not/here}}",
    # What a study says of classifiers is for those of its methods that ask some.
    "studies: {mine: {like: controlled, annotation: {method: fixed, sigma_min: 0.1, epsilon: 0.1}}}",
    "studies: {mine: {like: controlled, annotation: {patch_px: [4], scorer: x}}}",
    "annotations: {mine: {like: population, epsilon: 0.1, bandwidth: 0.5}}",
    "annotations: {mine: {like: crops, crop_threshold: 0.5, precision: float32, seed: 1}}",
    # An entry to be completed by those that are like it, and one that does so.
    "corruptions: {base: {op: gaussian_blur}, mine: {like: base, sigma_px: 1.0}}"])
def test_what_is_no_slip_is_accepted(config, text):
    checked(config, text)


def test_what_rests_on_an_entry_that_is_left_out_is_accepted(config):
    (config / "local.yaml").write_text("studies: {spare: null}")
    found = checked(config, "studies: {spare: {like: controlled}, mine: {like: spare, clean_fraction: 0.5}}\n"
                            "runs: {mine: {study: spare, corruption: none, annotation: clean}}")
    assert found.tree["studies"]["spare"] is None


def test_all_scales_of_the_repository_pass():
    for name in scales(ROOT / "config"):
        check_entries(Experiments(ROOT / "config", name))


def test_the_workflow_and_the_doctor_refuse_them_at_their_start(config, capsys):
    slip = "annotations: {x: {method: fixed, sigma_mn: 1}}"
    (config / "scales/mine.yaml").write_text(f"extends: demo\n{slip}\n")
    with pytest.raises(SpecError, match="annotations.x: unknown key 'sigma_mn'"):
        Graphs(config)["mine"]
    with pytest.raises(SpecError, match="annotations.x: unknown key 'sigma_mn'"):
        doctor.main(["mine", "--config", str(config)])
    assert capsys.readouterr().out == ""
