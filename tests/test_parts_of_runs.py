"""What the parts of one run must agree on, and which latents of an image in several files it reads."""

import pytest

from ambient.settings import Experiments
from ambient.settings.places import Files
from ambient.specs.strict import SpecError
from tests.clones import configuration

PARTS = """tables:
  mine:
    title: Parts
    defaults: {study: controlled, annotation: all}
    rows:
      mixed: {corruption: %s, also: [{corruption: %s, annotation: all}]}
"""
WEB = """datasets:
  web: {source: latents, path: /data/web, resolution: 512, channels: 3, latents: latents_512, encoder: %s,
        multiplied: 0.13025, sigma_min: 2.0, caption: caption}
corruptions:
  plus-web: {op: add, dataset: web}
studies:
  text: {clean_fraction: 0.5}
tables:
  mine:
    title: Web
    defaults: {study: text, annotation: all, training: {network: {conditional: false}, caption_dropout: 0.0},
               sampling: {captions: null, guidance: 1.0}}
    rows:
      first: {corruption: plus-web, also: [{corruption: blur-0.6, annotation: all}]}
      last: {corruption: blur-0.6, also: [{corruption: plus-web, annotation: all}]}
"""


@pytest.fixture
def config(tmp_path):
    return configuration(tmp_path / "config")


def scale(config, text, base="demo"):
    """The experiments of a scale that is written for the occasion."""
    (config / "scales/mine.yaml").write_text(f"extends: {base}\n{text}")
    return Experiments(config, "mine")


def refused(config, text, *words):
    with pytest.raises(SpecError) as caught:
        scale(config, text).validate_training("mixed")
    assert all(word in str(caught.value) for word in words), caught.value


def test_an_image_is_corrupted_in_one_way(config):
    refused(config, PARTS % ("blur-0.6", "blur-1.0"), "runs.mixed.also: got ['blur-0.6', 'blur-1.0'], "
            "allowed: one corruption of the study's own images")
    ranked = ("scorers:\n  words: {kind: measure, measure: detail}\n"
              "corruptions:\n  worst: {op: rank, scorer: words}\n")
    for order in (("blur-0.6", "worst"), ("worst", "blur-0.6")):
        refused(config, ranked + PARTS % order, f"runs.mixed.also: got {list(order)}")
    scale(config, PARTS % ("blur-0.6", "blur-0.6")).validate_training("mixed")


def test_a_level_by_source_is_for_added_images_alone(config):
    text = PARTS.replace("annotation: all}\n", "annotation: by-source}\n") % ("blur-0.6", "blur-0.6")
    refused(config, text, "annotations.by-source: the corruption: got 'blur-0.6', allowed: one of op add")


def test_classifiers_of_crops_have_sizes_of_their_own(config):
    again = ("classifiers:\n  again: {crop: 4, sampling: unbalanced}\n"
             "annotations:\n  crops: {classifiers: [crops-4, again]}\n")
    run = PARTS.replace("also: [{corruption: %s, annotation: all}]", "annotation: crops, study: dogs")
    refused(config, again + run % "plus-cats", "annotations.crops.classifiers: got ['crops-4: crop 4', "
            "'again: crop 4'], allowed: one of each crop size")


def test_clean_latents_of_all_images_come_behind_those_of_a_part_that_corrupts_them(config):
    """A training reads the first latent of an image that it finds."""
    encoder = Experiments(config, "paper").study("text").encoder
    files = Files(scale(config, WEB % encoder, "paper"))
    whole, blurred, added = (f"results/mine/latents/text/{name}.safetensors" for name in (
        "none/clean-1.0", "blur-0.6/clean-0.5", "plus-web/clean-0.5"))
    for run in ("first", "last"):
        assert files.latents_of_run(run) == [blurred, whole, added]
        assert files.images_beside(run) == [
            "results/mine/mixtures/text/blur-0.6/clean-0.5.safetensors", files.images("text")]


def test_a_row_with_a_margin_stands_beside_one_that_says_nothing_of_it(config):
    """The specification of a training leaves out what has its default, and the table's column does not."""
    found = scale(config, """tables:
  mine:
    title: Margins
    defaults: {study: controlled, corruption: blur-0.6, annotation: all}
    rows:
      with: {training: {loss: {margin: 0.05}}}
      without: {}
""")
    assert [row.settings for row in found.table("mine").rows] == [{"margin": 0.05}, {"margin": 0.0}]
