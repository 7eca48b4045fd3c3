"""Strict configuration: every slip is one line naming file, key, value and what is allowed."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from ambient import specs
from ambient.cluster.plan import jobs
from ambient.settings import Experiments, load
from ambient.specs import strict
from ambient.specs.strict import SpecError
from tests.clones import SHIPPED, configuration

ROOT = Path(__file__).parents[1]
TABLE_2A = "experiments/pixel/table2a.yaml"


@pytest.fixture
def config(tmp_path):
    return configuration(tmp_path / "config")


def edit(path, change):
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def slip(*keys, value):
    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value
    return change


@pytest.mark.parametrize("scale", SHIPPED)
def test_every_scale_resolves(scale):
    found = Experiments(ROOT / "config", scale)
    assert found.needed()


def test_paper_scale_has_the_papers_hyper_parameters():
    found = Experiments(ROOT / "config", "paper")
    training = found.training("ambient-blur-0.6", 0)
    optimiser = training.optimiser
    assert (optimiser.batch, optimiser.lr, optimiser.ramp_nimg, optimiser.clip) == (
        512, 1e-3, 10_000_000, 1.0)
    assert (training.noise.P_mean, training.noise.P_std, training.sigma_data) == (-1.2, 1.2, 0.5)
    assert training.network.model_channels == 128 and training.network.channel_mult == (2, 2, 2)
    assert training.loss == specs.LossSpec("ambient", None, 4.0, "sigma_min")
    assert found.sampling("only-clean").num_samples == 50_000
    assert found.evaluation("only-clean").metric == "fid"
    rows = found.tables["table2a"].rows
    assert [row.paper["fid"] for row in rows] == [
        8.79, 45.32, 28.26, 11.42, 2.47, *2 * [6.16, 6.00, 5.34, 2.44]]


def test_papers_scale_in_bfloat16_differs_in_that_alone():
    paper, low = (Experiments(ROOT / "config", scale) for scale in ("paper", "paper-bfloat16"))
    assert low.lineage == ["paper", "paper-bfloat16"] and low.needed() == paper.needed()
    for name in paper.needed():
        run = paper.run(name)
        for find in (lambda found, name=name: found.training(name, 0),
                     lambda found, name=name: found.sampling(name),
                     *(lambda found, a=annotation, s=run.study: found.annotation(s, a)
                       for _, annotation in run.parts)):
            one, other = strict.to_json(find(paper)), strict.to_json(find(low))
            lower = run.study.startswith(("edm2", "text"))  # their networks are in bfloat16 at both scales
            assert one.count('"float32"') == (not lower) and one.replace('"float32"', '"bfloat16"') == other
    for study, classifier in (("controlled", "balanced"), ("dogs", "crops-8"), ("faces", "balanced")):
        one, other = (strict.to_json(found.classifier(study, classifier)) for found in (paper, low))
        assert one.replace('"float32"', '"bfloat16"') == other != one


def test_table_2a_in_a_day_is_the_papers_with_less_work():
    """At 350 Tflop/s its jobs take less than 26 hours; its trainings are the paper's but for their length."""
    paper, day = (Experiments(ROOT / "config", scale) for scale in ("paper-bfloat16", "paper-day"))
    hours = sum(work.flops for _, work in jobs(day, "table2a")) / 350e12 / 3600
    assert 20 < hours < 26
    runs, every = ([row.run for row in found.tables["table2a"].rows] for found in (day, paper))
    assert runs == every[:9]
    for name in runs:
        one, other = (strict.plain(found.training(name, 0)) for found in (paper, day))
        assert [key for key in one if one[key] != other[key]] == ["optimiser", "snapshots"]
        nimg = 39200 * 512  # 20.07 M, whole batches
        assert other["optimiser"] == one["optimiser"] | {"nimg": nimg} != one["optimiser"]
        assert day.classifier("controlled", "balanced") == paper.classifier("controlled", "balanced")
    spec = day.annotation("controlled", "per-sample")
    assert spec.protocol == "shared_noise" and spec.num_sigmas * spec.num_trials == 80


def test_methods_differ_in_data_and_annotation_only():
    """Same network, optimiser, images and evaluation for every row of a table, at every scale.

    Rows of another study or loss (`settings`) differ in that; numbers of the running text
    belong to several experiments. A row that goes on from another row's training is shorter.
    """
    for scale in SHIPPED:
        found = Experiments(ROOT / "config", scale)
        for name in set(found.tables) - {"text_results"}:
            rows = found.tables[name].rows
            for study in {found.run(row.run).study for row in rows}:
                runs = [row.run for row in rows if found.run(row.run).study == study]
                trained = {run: found.run(run).trained for run in runs}
                runs = [run for run in runs if found.phase_before(trained[run]) not in trained.values()]
                trainings = [found.training(run, 0) for run in runs]
                same = [strict.to_json(dataclasses.replace(t, loss=trainings[0].loss)) for t in trainings]
                assert len(set(same)) == 1, (scale, name)
                assert len({strict.to_json(found.evaluation(run)) for run in runs}) == 1
                if name != "table6":
                    assert len({t.loss for t in trainings}) == 1


# What only the paper's scale has, by the first scale that another is laid over. Table 1 of the demo and that
# of `small` have judges of their own.
SWEEPS = {"sweep-xs", "sweep-xxl"}
OF_SOURCES = {"figure27", "figure28", "figure29"}  # the demo shows all of its sources in figure26
OF_CAPTIONS = {"table9a", "table9b", "vendi", "figure1-text", "figure7", "figure8", "figure26"} | OF_SOURCES
ABSENT = {"small": {"table5"} | SWEEPS | OF_CAPTIONS,
          "demo": {"table5"} | SWEEPS | OF_SOURCES}
OWN = {"trade-off"}  # what only the demo has


def test_main_tables_and_everything():
    """A bare run makes Table 2a; every scale has all tables, and the figures of the paper scale."""
    paper = Experiments(ROOT / "config", "paper")
    for scale in SHIPPED:
        found = Experiments(ROOT / "config", scale)
        assert found.main == ["table2a"] and not found.main_figures
        absent = ABSENT.get(found.lineage[0], set())
        assert [name for name in found.tables if name not in OWN] == [
            name for name in paper.tables if name not in absent]
        assert {*found.tables, *found.figures} >= OWN or found.lineage[0] != "demo"
        assert [name for name in found.figures if name not in OWN] == [
            name for name in paper.figures if name not in absent]


@pytest.mark.parametrize(("file", "change", "words"), [
    ("experiments/pixel/table2b.yaml", slip("rows", "dogs-cats-crops", "annotation", value="cropps"),
     ["'cropps'", "'crops'"]),
    ("studies.yaml", lambda tree: tree["studies"]["dogs"]["locality"].update(run="dogs-cats-crops"),
     ["studies.dogs.locality.run", "'dogs-cats-crops'", "does not use crops"]),
    ("studies.yaml", lambda tree: tree["studies"]["dogs"]["locality"].update(contexts=[8, 4]),
     ["contexts", "rising"]),
    ("studies.yaml", lambda tree: tree["studies"]["dogs"]["locality"].update(nimg=1000),
     ["studies.dogs.locality.nimg", "1000", "dogs-cats-1.0", "5017600"]),
    ("experiments/pixel/figures.yaml", slip("runs", "donut", "also", value=[{"corruption": "plus-cats"}]),
     ["runs.donut", "annotation"]),
    ("experiments/pixel/figures.yaml", lambda tree: tree["figures"]["figure2"].update(annotation="crops"),
     ["figures.figure2.annotation", "'crops'", "classifier"]),
    ("experiments/main.yaml", lambda tree: tree["main"].update(tables=["table2"]), ["'table2'", "'table2b'"]),
    ("experiments/main.yaml", lambda tree: tree["main"].update(figures=["figure33"]),
     ["main.figures: no such figure: 'figure33'", "'figure3'"]),
    ("experiments/main.yaml", lambda tree: tree["main"].update(figure=["figure3"]),
     ["main: unknown key 'figure'", "'figures'"]),
    ("models.yaml", lambda tree: tree["annotations"]["crops"].update(classifiers=["balanced"]),
     ["annotations.crops.classifiers", "crop"]),
    ("models.yaml", lambda tree: tree["annotations"]["crops"].pop("classifiers"),
     ["annotations.crops.classifiers", "None", "crops classifiers"]),
    ("data.yaml", lambda tree: tree["corruptions"]["plus-cats"].update(dataset="cat"),
     ["corruptions.plus-cats.dataset", "'cat'", "'cats'"]),
])
def test_slips_of_the_crops_side(config, file, change, words):
    edit(config / file, change)
    with pytest.raises(SpecError) as error:
        Experiments(config, "paper")
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(config / file)), message
    for word in words:
        assert word in message


def test_datasets_of_one_raw_source_share_its_path(config):
    (config / "local.yaml").write_text("datasets: {cifar10: {path: /data/c.zip}}\n")
    found = Experiments(config, "small")
    assert found.dataset("dogs").path == found.dataset("cats").path == "/data/c.zip"
    assert found.dataset("dogs").classes == (5,) and found.portable_dataset("dogs").path is None


OPTIMISER = ("pixel", "training", "optimiser")


@pytest.mark.parametrize(("file", "change", "words"), [
    ("studies.yaml", slip("studies", *OPTIMISER, "lrr", value=1.0),
     ["optimiser", "'lrr'", "'lr'"]),
    ("studies.yaml", slip("studies", *OPTIMISER, "lr", value="1e-3"),
     ["optimiser.lr", "'1e-3'", "1.0e-4"]),
    ("studies.yaml", slip("studies", *OPTIMISER, "batch", value=True), ["batch", "True"]),
    ("studies.yaml", slip("studies", *OPTIMISER, "precision", value="fp8"),
     ["precision", "'fp8'", "bfloat16"]),
    ("studies.yaml", slip("studies", "pixel", "training", "snapshots", value=[100]),
     ["snapshots", "multiples of batch"]),
    ("studies.yaml", slip("studies", "pixel", "training", "loss", "buffer", value=0.5),
     ["loss.buffer", "0.5", "> 1"]),
    # What a classifier, or a training on pixels, would not read.
    ("studies.yaml", slip("studies", "pixel", "classifier", "network", "conditional", value=True),
     ["classifier.network.conditional", "True", "false: a classifier is told no classes"]),
    ("studies.yaml", slip("studies", "pixel", "classifier", "optimiser", "snapshot_precision",
                          value="float16"),
     ["classifier.optimiser.snapshot_precision", "'float16'", "float32"]),
    ("studies.yaml", slip("studies", "pixel", "training", "posterior", value="fixed"),
     ["training.posterior", "'fixed'", "visit in a study without an encoder"]),
    (TABLE_2A, slip("rows", "only-clean", "corruption", value="blurr-0.6"),
     ["'blurr-0.6'", "'blur-0.6'"]),
    (TABLE_2A, slip("rows", "only-clean", "anotation", value="clean"),
     ["runs.only-clean", "'anotation'", "'annotation'"]),
    (TABLE_2A, slip("rows", "only-clean", "annotation", value="per-sample"),
     ["only-clean", "none"]),
    ("models.yaml", slip("annotations", "all", "method", value="fixd"), ["method", "'fixd'", "fixed"]),
    ("data.yaml", slip("datasets", "cifar10", "resolution", value="32"), ["resolution", "'32'"]),
    ("models.yaml", slip("classifiers", "leaky", "clean_fraction", value=1.5),
     ["clean_fraction", "1.5"]),
])
def test_slips(config, file, change, words):
    edit(config / file, change)
    if "clean_fraction" in words:  # nothing in the table asks for the leaky classifier
        edit(config / TABLE_2A, slip("rows", "ambient-blur-0.6", "annotation", value="per-sample-leaky"))
    with pytest.raises(SpecError) as error:
        Experiments(config, "paper")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{config / file}: ")
    for word in words:
        assert word in message


def test_duplicate_key_names_file_and_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one: 1\ntwo: {three: 3, three: 4}\n")
    with pytest.raises(SpecError, match=r"a\.yaml, line 2: key 'three' is given twice"):
        load(path)


def test_bad_yaml_names_file_and_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("one: 1\ntwo: ]\n")
    with pytest.raises(SpecError, match=r"a\.yaml, line 2"):
        load(path)


def test_scale_file_with_unknown_names(config):
    edit(config / "scales" / "demo.yaml", lambda tree: tree["studies"].update(controled={}))
    with pytest.raises(SpecError, match=r"demo\.yaml: studies: unknown name 'controled'.*'controlled'"):
        Experiments(config, "demo")


def test_unknown_scale_says_which_file(config):
    with pytest.raises(SpecError, match=r"huge\.yaml: no such file"):
        Experiments(config, "huge")


def test_a_scale_extends_another_but_not_itself(config):
    path = config / "scales" / "more.yaml"
    path.write_text("extends: demo\nstudies: {controlled: {training_seeds: [5, 6]}}\n")
    more, demo = Experiments(config, "more"), Experiments(config, "demo")
    assert more.tables["table2a"].training_seeds == (5, 6)
    assert more.training("only-clean", 5).network == demo.training("only-clean", 5).network
    for given in ("nowhere", "[demo, small]", "../../etc/passwd"):
        path.write_text(f"extends: {given}\n")
        with pytest.raises(SpecError, match=r"more.yaml: extends: got .*, allowed: a scale: .*\bdemo\b"):
            Experiments(config, "more")
    path.write_text("extends: more\n")
    with pytest.raises(SpecError, match="extends itself"):
        Experiments(config, "more")


def test_a_new_level_is_one_line(config):
    edit(config / "data.yaml", slip("corruptions", "blur-1.2",
                                    value={"op": "gaussian_blur", "sigma_px": 1.2}))
    edit(config / TABLE_2A, slip("rows", "only-clean", "corruption", value="blur-1.2"))
    found = Experiments(config, "paper")
    assert found.mixture("controlled", "blur-1.2", 0.1).params == {"sigma_px": 1.2}


def test_json_round_trip_keeps_infinity():
    sampler = specs.SamplerSpec(18, 0.002, 80.0, 7.0)
    assert strict.from_json(specs.SamplerSpec, strict.to_json(sampler)) == sampler


def test_order_of_keys_does_not_change_a_specification(config):
    before = strict.to_json(Experiments(config, "demo").training("only-clean", 0))
    edit(config / "studies.yaml", lambda tree: tree["studies"]["pixel"].update(
        training=dict(reversed(tree["studies"]["pixel"]["training"].items()))))
    assert strict.to_json(Experiments(config, "demo").training("only-clean", 0)) == before


def test_local_paths_are_in_no_specification(config):
    (config / "local.yaml").write_text(
        "datasets: {cifar10: {path: /data/c.zip}}\ndetectors: {inception: {weights: /data/i.pt}}\n")
    found = Experiments(config, "paper")
    assert found.dataset("cifar10").path == "/data/c.zip"
    for made in (found.portable_dataset("cifar10"), found.portable_detector("inception"),
                 found.evaluation("only-clean")):
        assert "/data" not in strict.to_json(made)
