"""A run checks the scales that it asks for; what another scale's file says wrong stops it no more."""

from types import SimpleNamespace

import pytest
from snakemake.exceptions import WorkflowError

from ambient.cluster.rules import Rules
from ambient.cluster.scales import Graphs, asked_for
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.strict import SpecError
from tests.clones import ROOT, clone, configuration
from tests.test_workflow import snakemake

SCALES = ["demo", "demo3", "paper", "paper-day", "small"]


@pytest.mark.parametrize(("targets", "expected"), [
    ([], ["demo3"]),
    (["all"], ["demo3"]),
    (["results/demo/table2a.csv"], ["demo"]),
    (["./results/demo/runs/only-clean/seed-0/metrics.json"], ["demo"]),
    (["results/table2a.csv"], ["paper"]),
    (["results/paper/runs/only-clean/seed-0/metrics.json"], ["paper"]),
    (["results/paper-day/table2a.csv"], ["paper-day"]),
    (["paper_all", "results/small/theory.png"], ["paper", "small"]),
    (["text_demo"], ["demo"]),
    (["nonsense"], ["demo3"]),
    (["results/demo/data/small.safetensors", "results/demo/runs/paper/seed-0/metrics.json"], ["demo"]),
])
def test_targets_name_scales(targets, expected):
    assert asked_for(targets, [], SCALES, "demo3") == expected


def test_a_rule_is_no_scale_that_has_its_name():
    assert asked_for(["all"], [], [*SCALES, "all"], "demo") == ["demo"]
    assert asked_for(["demo_all"], [], [*SCALES, "all"], "small") == ["demo"]


def test_single_jobs_name_scales():
    jobs = [SimpleNamespace(wildcards_dict={"run": "only-clean", "scale": "small"}),
            SimpleNamespace(wildcards_dict={"table": "table2a"})]
    assert asked_for([], jobs[:1], SCALES, "demo") == ["small"]
    assert asked_for(["results/demo3/x.csv"], jobs, SCALES, "demo") == ["demo3", "paper", "small"]


def test_a_graph_is_made_once_and_when_it_is_asked_for(tmp_path):
    folder = configuration(tmp_path / "config")
    (folder / "scales/demo3.yaml").write_text("extends: demo\nstudies: {controlled: {training_seeds: 3}}\n")
    graphs = Graphs(folder)
    assert graphs["demo"] is graphs["demo"] and list(graphs) == ["demo"]
    with pytest.raises(SpecError, match=r"demo3.yaml: studies.controlled.training_seeds: got 3"):
        graphs["demo3"]


def test_a_sweep_that_no_table_names_can_be_made(tmp_path):
    folder = configuration(tmp_path / "config")
    sweep = ("sweeps: {alone: {of: [only-clean], guidances: [1.5, 2.0], "
             "sampling: {guide: {run: all-data-blur-0.6}}}}")
    (folder / "scales/demo3.yaml").write_text(f"extends: demo\n{sweep}")
    graph = Graph(Experiments(folder, "demo3"))
    job = graph.maker("results/demo3/sweeps/alone.csv")
    assert [row.run for row in graph.asks(job).rows] == ["only-clean-g-1.5", "only-clean-g-2"]
    assert graph.reads(job)["metrics"] == [
        f"results/demo3/runs/only-clean-g-{guidance}/seed-0/metrics.json" for guidance in ("1.5", "2")]


@pytest.mark.parametrize(("target", "said"), [
    ("results/tabel2a.csv", "which the scale paper does not have (did you mean 'table2a'?)"),
    ("results/demo/tabel2a.csv", "which the scale demo does not have (did you mean 'table2a'?)"),
    ("results/dmeo/table2a.csv", "there is no scale 'dmeo' (did you mean 'demo'?)"),
    ("demo_al", "which the scale demo does not have (did you mean 'demo_all'?)"),
    ("figures/a.png", "allowed for the scale demo: a file in results/demo"),
    ("table2a", "allowed: the whole name of a file: results/demo/table2a.csv, results/demo/table2a.p")])
def test_a_target_that_nothing_makes_is_refused_with_the_nearest(target, said):
    rules = SimpleNamespace(default="demo", scales=SCALES, graphs=Graphs(ROOT / "config"))
    with pytest.raises(WorkflowError) as refused:
        Rules.explain(rules, target)
    assert str(refused.value).startswith(f"target: got {target!r}, ") and said in str(refused.value)


@pytest.mark.minutes
def test_an_error_of_another_scale_stops_nobody_else(tmp_path):
    folder = clone(tmp_path, "tiny")
    path = folder / "config/scales/small.yaml"
    text, entry = path.read_text(), "figure4: {scorer: detail"
    assert text.count(entry) == 1
    path.write_text(text.replace(entry, f"{entry}, images: none"))
    assert "theory" in snakemake(folder, "-n", "results/tiny/theory.png").stdout
    refused = snakemake(folder, "-n", "results/small/theory.png", check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 1 and "Traceback" not in said
    assert (slip := "configuration: config/scales/small.yaml: figures.figure4.images: got 'none'") in said
    job = snakemake(folder, "-n", "--target-jobs", "theory:scale=small", check=False)
    assert slip in job.stdout + job.stderr
    path.write_text(text)
    misspelt = snakemake(folder, "-n", "results/small/thoery.png", check=False)
    assert "target: got 'results/small/thoery.png', which the scale small does not have (did you mean " \
           "'theory'?)" in misspelt.stdout + misspelt.stderr
