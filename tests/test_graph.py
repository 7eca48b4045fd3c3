"""The graph of jobs: which job makes a file, what it reads, what lies behind a target; and a stage more."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ambient.provenance import manifest
from ambient.settings import Experiments
from ambient.settings.graph import Graph, Node, constraints, pattern
from ambient.specs.stages import JOBS
from ambient.specs.strict import SpecError
from benchmarks.finished import finish
from tests import additions, commands
from tests.clones import clone
from tests.test_workflow import ROOT, snakemake

RUN = "results/demo/runs/ambient-blur-0.6/seed-0"


@pytest.fixture(scope="module")
def demo():
    return Graph(Experiments(ROOT / "config", "demo"))


def test_a_training_reads_what_its_run_is_made_of(demo):
    job = demo.maker(f"{RUN}/loss.jsonl")
    assert job == Node("train", (("run", "ambient-blur-0.6"), ("seed", "0")))
    study = demo.experiments.run("ambient-blur-0.6").study
    fraction = demo.experiments.fraction(study)
    assert demo.reads(job) == {
        "data": [f"results/demo/mixtures/{study}/blur-0.6/clean-{fraction}.safetensors"],
        "annotations": [f"results/demo/annotations/{study}/blur-0.6/per-sample.safetensors"]}
    assert demo.writes(job) == {"out": f"{RUN}/denoiser.safetensors", "log": f"{RUN}/loss.jsonl"}
    assert demo.asks(job) == demo.experiments.training("ambient-blur-0.6", 0)
    assert demo.maker(f"{RUN}/metrics.json").names.keys() == {"run", "seed"}
    assert demo.maker(f"{RUN}/metrics-other.json").names["detector"] == "other"


def test_the_shortest_name_is_meant_where_two_could_be(demo):
    assert demo.maker("results/demo/combined/donut-annotations.safetensors").names == {"run": "donut"}


@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_every_job_comes_after_what_it_reads_and_makes_its_files_alone(scale):
    graph = Graph(Experiments(ROOT / "config", scale))
    made = set()
    for job in graph.behind(graph.everything()):
        assert made.issuperset(path for paths in graph.reads(job).values() for path in paths), job
        outputs = set(graph.writes(job).values())
        assert not outputs & made and all(graph.maker(path) == job for path in outputs)
        made |= outputs
        needed = set(JOBS[job.kind].reads) - JOBS[job.kind].optional - JOBS[job.kind].many
        assert needed <= graph.reads(job).keys()
    assert made.issuperset(graph.everything())


def test_targets_are_files_or_names(demo):
    parts = ("", "-grid", "-curves", "-classifiers")
    of_table = {"results/demo/table2a.csv", "results/demo/table2a-audit.html", *(
        f"results/demo/table2a{part}.{kind}" for part in parts for kind in ("png", "pdf"))}
    assert set(demo.target("table2a")) == of_table
    assert demo.target(path := "results/demo/table2a.csv") == demo.target("table2a.csv") == [path]
    assert demo.target("figure3") == ["results/demo/figure3.png", "results/demo/figure3.pdf"]
    assert demo.target("theory") == [f"results/demo/theory.{kind}" for kind in ("csv", "png", "pdf")]
    assert demo.target("all") == demo.main() and demo.target("demo_all") == demo.everything()
    assert demo.target(f"{RUN}/samples.safetensors") == [f"{RUN}/samples.safetensors"]
    with pytest.raises(SpecError, match="no job of the scale demo makes it"):
        demo.behind(["results/demo/table99.csv"])


def test_a_place_becomes_a_pattern_of_its_wildcards(demo):
    place = pattern("results/demo/{table}-{seed}.csv", constraints([demo.experiments.entries]))
    assert place.fullmatch("results/demo/table2a-3.csv").groupdict() == {"table": "table2a", "seed": "3"}
    assert place.fullmatch("results/demo/table2a-x.csv") is None
    assert place.fullmatch("results/demo/other-3.csv") is None
    assert place.fullmatch("results/demo/table2a-3xcsv") is None


# --- a stage more: a row, a file, a rule ------------------------------------------------------------------

ROW = """    Stage("count", DatasetSpec, {"out": "counts/{dataset}.json"},
          lambda settings, w: settings.portable_dataset(w["dataset"]),
          inputs={"data": same("prepare")}),
"""
FILE = '''"""Stage: how many images a prepared dataset has of each class."""

from collections import Counter
from pathlib import Path

from ambient.data.datasets import read
from ambient.specs import DatasetSpec
from ambient.storage.files import write_json


def main(spec: DatasetSpec, record, *, data: Path, out: Path) -> None:
    """`out` gets class -> number of images."""
    write_json(out, {str(label): count for label, count in Counter(read(data).labels.tolist()).items()})
'''
RULE = '''

rule count:
    """Images of each class of a dataset."""
    input:
        unpack(reads("count")),
    output:
        **writes("count"),
    log:
        "results/{scale}/logs/count/{dataset}.log",
    conda:
        "../../environment.yml"
    resources:
        **resources("count"),
    params:
        **told("count"),
    message:
        "count {wildcards.dataset} ({wildcards.scale})"
    shell:
        "{resources.run} count --spec {params.spec:q} {params.files:q} 2>&1 | to_log {log:q}"
'''


def test_a_stage_more_is_three_files(tmp_path):
    folder = clone(tmp_path / "clone", "tiny")
    shutil.copy(ROOT / "pyproject.toml", folder)  # the doctor compares what is installed with it
    before = additions.contents(folder)
    additions.add_stage(folder, "count", ROW, FILE)
    rules = folder / "workflow/rules/data.smk"
    rules.write_text(rules.read_text() + RULE)
    assert additions.touched(folder, before) == {
        "ambient/specs/stages.py", "ambient/stages/count.py", "workflow/rules/data.smk"}
    target = "results/tiny/counts/digits.json"
    wanted = ("--config", "scale=tiny", "--", target)
    snakemake(folder, *wanted)
    counts = json.loads((folder / target).read_text())
    assert sum(counts.values()) > 100 and set(counts) == set(map(str, range(10)))
    assert manifest.read(manifest.path_for(folder / target))["stage"] == "ambient.count"
    assert "Nothing to be done" in snakemake(folder, *wanted).stderr
    for arguments, said in ((["doctor", "tiny", target], r"count +1 jobs"),
                            (["audit", target], "level 2"),
                            (["run", "--help"], "count +how many images a prepared dataset has")):
        done = subprocess.run([sys.executable, "-m", "ambient", *arguments], cwd=folder, text=True,
                              capture_output=True, env=commands.environment(folder))
        assert re.search(said, done.stdout), done.stdout + done.stderr
    assert Path(folder, "results/tiny/logs/count/digits.log").exists()


def test_the_workflow_finds_nothing_to_do_where_every_file_is_as_the_graph_says(tmp_path, monkeypatch):
    """Of all that a scale makes: what the rules tell their jobs is what the graph tells, to the file."""
    folder = clone(tmp_path, "demo")
    monkeypatch.chdir(folder)
    graph = Graph(Experiments("config", "demo"))
    finish(graph, graph.everything())
    assert "Nothing to be done" in snakemake(folder, "-n", "demo_all").stdout
    (folder / RUN / "samples.safetensors").write_bytes(b"others")
    done = snakemake(folder, "-n", "demo_all")
    again = set(re.findall(r"^Job \d+: (\w+)", done.stdout + done.stderr, re.M))
    assert {"sample", "evaluate"} <= again and not {"train", "annotate", "corrupt"} & again
