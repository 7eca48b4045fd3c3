"""A thing more is a file more and a line of YAML: each is added to a copy of the repository, and used."""

from typing import NamedTuple

import numpy as np
import pytest

from ambient.data.datasets import read
from ambient.provenance import manifest
from ambient.storage.files import read_arrays, read_json
from tests import additions
from tests.clones import clone
from tests.test_workflow import snakemake


class Addition(NamedTuple):
    """A kind: the folder and name of its file; and the file, the section and the text of the line of YAML."""

    place: str
    name: str
    file: str
    section: str
    line: str


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 16, 16), dtype=np.uint8)
ADDITIONS = {
    "source": Addition("ambient/data/sources", "array_file.py", "data.yaml", "datasets",
                       "noise: {source: array_file, path: noise.npy, resolution: 16, channels: 1, every: 4}"),
    "detector": Addition("ambient/evaluation/detectors", "means.py", "models.yaml", "detectors",
                         "mean-grey: {kind: means, features: 1, gain: 2.0}"),
    "scorer": Addition("ambient/evaluation/scorers", "white.py", "models.yaml", "scorers",
                       "white: {kind: white, above: 100}"),
    "annotation method": Addition("ambient/annotation/methods", "by_brightness.py", "models.yaml",
                                  "annotations", "brightness: {method: by_brightness, of_white: 3.0}"),
    "network": Addition("ambient/training/networks", "plain.py", "experiments/pixel/table2a.yaml", "rows",
                        "plain: {corruption: none, annotation: clean, training: {network: "
                        "{kind: plain, width: 4}}}"),
    "figure kind": Addition("ambient/report/figures", "histogram.py", "experiments/pixel/figures.yaml",
                            "figures", "greys: {kind: histogram, study: controlled, bins: 7}")}
TARGETS = {"source": "results/tiny/data/noise.safetensors",
           "detector": "results/tiny/detectors/noise/mean-grey-reference.safetensors",
           "scorer": "results/tiny/scores/noise/white.safetensors",
           "annotation method": "results/tiny/annotations/controlled/blur-0.6/brightness.safetensors",
           "network": "results/tiny/runs/plain/seed-0/samples.safetensors",
           "figure kind": "results/tiny/greys.png"}
INVERTED = "results/tiny/mixtures/controlled/inverted/clean-0.2.safetensors"
INVERT = '''def invert(image: np.ndarray, rng: np.random.Generator, *, amount: float) -> np.ndarray:
    """The negative of an image, times `amount` in [0, 1]."""
    need(finite(amount) and 0 <= amount <= 1, "amount", amount, "[0, 1]")
    return -amount * image
'''


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A copy in which everything was added and made, and which files each addition touched."""
    folder, touched = clone(tmp_path_factory.mktemp("additions") / "clone", "tiny"), {}
    for what, one in ADDITIONS.items():
        before = additions.contents(folder)
        additions.add_kind(folder, one.place, one.name)
        additions.add_entry(folder, one.file, one.section, one.line)
        touched[what] = additions.touched(folder, before)
    before = additions.contents(folder)
    additions.add_corruption(folder, "invert", INVERT, "inverted by {amount}")
    additions.add_entry(folder, "data.yaml", "corruptions", "inverted: {op: invert, amount: 1.0}")
    touched["corruption"] = additions.touched(folder, before)
    np.save(folder / "noise.npy", IMAGES)
    snakemake(folder, "--config", "scale=tiny", "--", *TARGETS.values(), INVERTED)
    return folder, touched


@pytest.mark.parametrize("what", ADDITIONS)
def test_a_thing_more_is_one_file_and_one_line(added, what):
    folder, touched = added
    one = ADDITIONS[what]
    assert touched[what] == {f"{one.place}/{one.name}", f"config/{one.file}"}
    code = manifest.read(manifest.path_for(folder / TARGETS[what]))["code"]["files"]
    assert f"{one.place}/{one.name}" in code


def test_the_added_source_is_read(added):
    folder, _ = added
    data = read(folder / TARGETS["source"])
    np.testing.assert_array_equal(data.images, IMAGES)
    np.testing.assert_array_equal(data.labels, np.arange(len(IMAGES)) % 4)


def test_the_added_detector_measures_the_dataset(added):
    folder, _ = added
    greys = 2 * IMAGES.mean(axis=(1, 2, 3))
    found = read_arrays(folder / TARGETS["detector"])
    np.testing.assert_allclose([found["mean"][0], found["covariance"][0, 0], found["count"][0]],
                               [greys.mean(), greys.var(ddof=1), len(IMAGES)], rtol=1e-5)


def test_the_added_scorer_scores_the_dataset(added):
    folder, _ = added
    found = read_arrays(folder / TARGETS["scorer"])
    np.testing.assert_array_equal(found["score"], (IMAGES > 100).mean(axis=(1, 2, 3)))


def test_the_added_method_annotates_the_mixture(added):
    folder, _ = added
    mixture = read(folder / "results/tiny/mixtures/controlled/blur-0.6/clean-0.2.safetensors")
    brightness = mixture.images.mean(axis=(1, 2, 3)) / 255
    table = read_arrays(folder / TARGETS["annotation method"])
    np.testing.assert_allclose(table["sigma_min"], 3 * brightness * mixture.corrupted, rtol=1e-6)
    summary = read_json((folder / TARGETS["annotation method"]).with_suffix(".json"))
    assert summary["of_white"] == 3.0 and summary["corrupted"] == mixture.corrupted.sum() > 100


def test_the_added_figure_is_drawn_in_both_formats(added):
    folder, _ = added
    picture = folder / TARGETS["figure kind"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    spec = manifest.read(manifest.path_for(picture))["spec"]
    assert (spec["kind"], spec["bins"]) == ("histogram", 7)


def test_a_corruption_more_is_one_file_and_one_line(added):
    folder, touched = added
    assert touched["corruption"] == {"ambient/data/corruptions.py", "config/data.yaml"}
    data = read(folder / "results/tiny/data/digits.safetensors")
    mixture = read(folder / INVERTED)
    dirty = mixture.corrupted == 1
    assert dirty.sum() > 100
    np.testing.assert_array_equal(mixture.images[dirty], 255 - data.images[dirty])
    np.testing.assert_array_equal(mixture.images[~dirty], data.images[~dirty])
