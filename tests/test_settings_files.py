"""Files of settings as people and editors leave them, and settings that do not fit together."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ambient.cluster import plan
from ambient.cluster.cost import Costs
from ambient.cluster.site import Site
from ambient.settings import Experiments, load
from ambient.settings.layers import LARGEST_TREE
from ambient.specs.strict import SpecError
from tests.clones import clone, configuration

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path):
    return configuration(tmp_path / "config")


def refused(load_it, *words):
    """One line with all the words."""
    with pytest.raises(SpecError) as caught:
        load_it()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


# --- files --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("content", "words"), [
    (b"a: 1\nb: f\xfcr\n", ("line 2", "0xfc is not UTF-8", "save the file as UTF-8")),
    ("a: 1\n".encode("utf-16"), ("UTF-16", "save the file as UTF-8")),
    (b"a: 1\x00", ("control characters",)),
    (b"a:\n\tb: 1", ("line 2", "has a tab: indent with spaces")),
    (b"[1, 2]", ("got list", "keys and values")),
    (b"text", ("got str",)),
    (b"0", ("got int",)),
    (b"1: a", ("line 1", "the key 1 is no text")),
    (b"a: 1\nno: 2", ("line 2", "the key False is no text")),
    (b"? [a]\n: 1", ("line 1", "no text")),
    (b"a: 2024-12-13", ("line 1", "timestamp", "quote it")),
    (b"a: 1:30", ("1:30", "another number")),
    (b"a: 010", ("010", "another number")),
    (b"a: " + b"9" * 5000, ("digits",)),
    (b"a: !!python/object:os.system x", ("line 1", "the tag")),
    (b"a: 1\n---\nb: 2", ("another document",)),
    (b"a: *b", ("undefined alias",)),
])
def test_one_line_says_what_is_wrong_with_a_file(content, words, tmp_path):
    path = tmp_path / "local.yaml"
    path.write_bytes(content)
    refused(lambda: load(path), str(path), *words)


def test_a_byte_order_mark_and_the_line_ends_of_windows_are_read(tmp_path):
    (tmp_path / "a.yaml").write_bytes("\ufeffa: {b: ü}\r\nc: [1, 2.5]\r\n".encode())
    assert load(tmp_path / "a.yaml") == {"a": {"b": "ü"}, "c": [1, 2.5]}


def test_what_is_no_file_or_too_large(tmp_path):
    refused(lambda: load(tmp_path / "x.yaml"), "x.yaml: no such file")
    (tmp_path / "d.yaml").mkdir()
    refused(lambda: load(tmp_path / "d.yaml"), "d.yaml: not a text file")
    (tmp_path / "big.yaml").write_text("# " + "x" * 2**20)
    refused(lambda: load(tmp_path / "big.yaml"), "big.yaml: not a text file", "1,048,576 bytes")


@pytest.mark.parametrize("repeat", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_do_not_multiply(repeat, tmp_path):
    """Nine levels of ten aliases stand for 10^9 values in 600 bytes."""
    text = "x0: &x0 {a: 1}\n" + "".join(
        f"x{i}: &x{i} {repeat.format(', '.join([f'*x{i - 1}'] * 10))}\n" for i in range(1, 10))
    (tmp_path / "bomb.yaml").write_text(text)
    began = time.monotonic()
    refused(lambda: load(tmp_path / "bomb.yaml"), "bomb.yaml, line ", f"more than {LARGEST_TREE:,} values")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(("text", "words"), [
    ("a: &x [*x]", "*x contains itself"), ("a: &x {b: {c: *x}}", "*x contains itself"),
    ("a: " + "[" * 100_000, "more than 50 deep"), ("{a: " * 60 + "1" + "}" * 60, "more than 50 deep")])
def test_no_circles_and_no_depths(text, words, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    refused(lambda: load(tmp_path / "a.yaml"), "a.yaml, line 1", words)


def test_aliases_stay_useful(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: [2]}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert load(tmp_path / "a.yaml") == {"a": {"x": 1, "y": [2]}, "b": {"x": 3, "y": [2]},
                                         "c": {"x": 1, "y": [2]}}


@pytest.mark.parametrize("content", [b"scale: f\xfcr\n", b"scale: &x [*x]\n"])
def test_the_workflow_names_its_own_file_too(content, tmp_path):
    folder = clone(tmp_path, "demo")
    (folder / "config/config.yaml").write_bytes(content)
    done = subprocess.run([Path(sys.executable).with_name("snakemake"), "--cores", "1", "-n"], cwd=folder,
                          text=True, capture_output=True, env=os.environ | {
                              "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said
    assert "configuration: config/config.yaml, line 1: " in said


# --- settings that do not fit together ----------------------------------------------------------------

STUDY = "studies: {controlled: {%s}}"


@pytest.mark.parametrize(("text", "words"), [
    ("tables: {summary: {title: a, rows: [only-clean]}}", ("tables: the name: got 'summary'", "another one")),
    ("figures: {report: {title: a, kind: donut}}", ("figures: the name: got 'report'", "another one")),
    (STUDY % "training_seeds: [0, 0]", ("training_seeds", "each value once", "0 is in it twice")),
    (STUDY % "training_seeds: []", ("training_seeds", "one or more")),
    (STUDY % "training_seeds: [-1]", ("training_seeds", "(-1,)", "from 0")),
    (STUDY % "training_seeds: 3", ("training_seeds", "got 3", "a list")),
    (STUDY % "training_seeds: ['0']", ("training_seeds[0]", "a whole number")),
    (STUDY % "sampling: {seeds: [1, 2, 1]}", ("sampling.seeds", "1 is in it twice")),
    (STUDY % "sampling: {num_samples: 1}", ("num_samples", "covariance")),
    (STUDY % "training: 3", ("studies.controlled.training", "got 3", "keys and values")),
    (STUDY % "training: {augment: {transforms: [scale, scale]}}", ("transforms", "'scale' is in it twice")),
    (STUDY % "training: {network: {channel_mult: [1, 1, 1, 1, 1]}}",
     ("training.network.channel_mult", "16 pixels", "halved 4 times")),
    (STUDY % "classifier: {network: {channel_mult: [1, 1, 1, 1, 1]}}",
     ("classifier.network.channel_mult", "halved 4 times")),
    (STUDY % "dataset: cifar10", ("studies.controlled.detector", "digitnet", "made on digits", "channels 1")),
    (STUDY % "detector: cifarnet", ("studies.controlled.detector", "channels")),
    (STUDY % "detector: inception", ("num_samples", "2048 features")),
    ("datasets: {digits: {resolution: 10}}", ("channel_mult", "fewer factors", "10 pixels")),
    ("datasets: {digits: {channels: 3}}", ("datasets.digits.channels", "got 3", "mnist")),
    ("datasets: {digits: {classes: [1, 1]}}", ("datasets.digits.classes", "1 is in it twice")),
    ("datasets: {digits: {classes: []}}", ("datasets.digits.classes", "null: all")),
    ("datasets: {digits: {classes: [11]}}", ("datasets.digits.classes", "below 10")),
    ("datasets: {digits: {classes: [1]}}", ("detector", "two or more classes")),
    ("datasets: {digits: {labels: folder}}", ("digits.labels", "null: source mnist does not read it")),
    ("datasets: {procedural: {max_images: 10}}", ("procedural.max_images", "procedural does not read it")),
    ("datasets: {scenes: {path: /scenes}}", (".path: got '/scenes'", "source scenes does not read it")),
    ("datasets: {scenes: {classes: [0]}}", (".classes", "source scenes does not read it")),
    ("detectors: {digitnet: {resize: legacy}}", ("digitnet.resize", "kind classifier does not read it")),
    ("detectors: {digitnet: {weights: /net.pt}}", ("digitnet.weights", "kind classifier does not read it")),
    ("detectors: {inception: {members: 3}}", ("inception.members", "kind inception does not read it")),
    ("detectors: {inception: {features: 64}}", ("inception.features", "2048, those of Inception-v3")),
    ("annotations: {by-source: {sigma_max: 0.3}}", ("by-source.sigma_max", "gives no sigma_max")),
    ("datasets: {procedural: {resolution: 32}}", ("datasets.procedural.resolution", "16, as dogs has")),
    ("detectors: {digitnet: {nimg: 1000}}", ("detectors.digitnet.nimg", "multiple of batch = 128")),
    (STUDY % "training: {optimiser: {nimg: -2560}, snapshots: [-2560]}",
     ("training.optimiser.nimg: got -2560", "allowed: a positive multiple of batch =")),
    (STUDY % "training: {snapshots: [-128, 25600]}", ("training.snapshots", "rising positive multiples")),
    ("figures: {inks: {kind: gallery, title: Inks}}",
     ("mine.yaml: figures.inks.study: no such name in studies: None",)),
    ("figures: {inks: {kind: gallery, title: Inks, study: controled}}",
     ("mine.yaml: figures.inks.study: no such name in studies: 'controled' (did you mean 'controlled'?)",)),
    ("figures: {lion: {kind: donut, title: Lion, run: only-clean, images: 4}}",
     ("figures.lion.images: got 4", "figures of the kind donut do not read it")),
    ("figures: {inks: {kind: gallery, title: Inks, study: controlled, shown: target}}",
     ("figures.inks.shown: got 'target'", "the kind gallery do not read it")),
    ("figures: {lion: {kind: donut, title: Lion, run: only-clean, study: dogs}}",
     ("figures.lion.study: got 'dogs'", "none beside run, whose study it is")),
    ("detectors: {digitnet: {channels: 12}}", ("detectors.digitnet.channels", "multiple of 8")),
    ("classifiers: {crops-4: {crop: 20}}", ("classifiers.crops-4.crop", "16 pixels")),
    ("annotations: {crops: {classifiers: [crops-4, crops-4]}}", ("crops-4' is in it twice",)),
    ("studies: {dogs: {locality: {nimg: 7}}}", ("studies.dogs.locality.nimg", "a snapshot of dogs-")),
    ("studies: {dogs: {locality: {contexts: [5, 8]}}}", ("locality.contexts", "[5]", "multiples of 4")),
    ("tables: {table2a: {rows: [only-cleen]}}",
     ("mine.yaml: tables.table2a.rows", "'only-cleen'", "'only-clean'")),
    ("tables: {table2a: {rows: [only-clean, only-clean]}}", ("tables.table2a.rows", "is in it twice")),
    ("main: {tables: [table2a, table2a]}", ("main.tables", "is in it twice")),
    ("figures: {figure3: {corruptions: [blur-0.6, blur-0.6]}}", ("figures.figure3", "is in it twice")),
    ("corruptions: {blur-0.6: {sigma_px: -1}}", ("corruptions.blur-0.6", "sigma_px")),
    ("corruptions: {blur-0.6: {op: gausian_blur}}", ("corruptions.blur-0.6", "gaussian_blur")),
    ("datasets: [1]", ("datasets", "got [1]")),
    ("runs: {only-clean: 3}", ("runs.only-clean", "got 3")),
])
def test_refused_before_anything_runs(text, words, config):
    (config / "scales/mine.yaml").write_text(f"extends: demo\n{text}\n")
    refused(lambda: Experiments(config, "mine"), str(config), *words)


@pytest.mark.parametrize(("settings", "words"), [
    ({"gpus": 3}, "gpus: got 3"), ({"gpus": 0, "cpu_ranks": 5}, "cpu_ranks: got 5")])
def test_a_batch_that_the_ranks_can_not_share_is_refused_when_jobs_are_planned(settings, words):
    costs = Costs(Experiments(ROOT / "config", "demo"))
    for work in (costs.train("only-clean"), costs.classifier("controlled", "blur-0.6", "balanced")):
        refused(lambda work=work: work.processes(Site(**settings)), words, "a divisor of the batch of")
        assert work.processes(Site(gpus=4)) == 4
    assert costs.prepare("digits").processes(Site(**settings)) == 1


def test_rows_of_one_table_have_the_same_training_seeds(config):
    (config / "scales/mine.yaml").write_text(
        "extends: demo\nstudies: {dogs: {training_seeds: [0, 1]}}\n")
    refused(lambda: Experiments(config, "mine"), "tables.table2b", "training_seeds", "cats", "dogs")


@pytest.mark.parametrize("scale", ["demo", "demo3", "small"])
def test_the_scales_for_laptops_need_nothing_licensed(scale):
    """Datasets come with a package, from a public download or our generator; no weights are fetched."""
    found = Experiments(ROOT / "config", scale)
    jobs = plan.wanted(found)
    datasets = {job.names["dataset"] for job in jobs if job.kind == "prepare"}
    assert {found.dataset(name).source for name in datasets} <= {
        "mnist", "cifar10", "procedural", "scenes"}
    assert datasets and not any(found.dataset(name).about for name in datasets)
    detectors = {job.names["detector"] for job in jobs if job.kind == "detector"}
    assert {found.detector(name).kind for name in detectors} <= {"classifier", "contrastive", "selfnet"}
    presets = {name for name in found.tree["studies"] if name.startswith(("microdit", "text"))}
    assert not presets & {found.run(run).study for run in found.needed()} or scale != "small"
    studies = found.tree["studies"].keys() - {"pixel", "animals"} - (presets if scale == "small" else set())
    assert {found.dataset(found.study(name).dataset).source for name in studies} <= {
        "mnist", "cifar10", "scenes"}
