"""The time that `ambient new` tells: operations as torch counts them, at the rate of each stage's network."""

import os
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch
from clones import configuration
from test_new import folder
from tiny import kept
from torch.utils.flop_counter import FlopCounterMode

from ambient import __main__ as front_door
from ambient.cluster.cost import Costs
from ambient.commands import new, new_speed
from ambient.jobs import stage
from ambient.settings import Experiments
from ambient.settings.graph import Graph
from ambient.specs.stages import JOBS

GOOD, OTHER = 40, 160
SHORT = {r"(?<!_)nimg: \d+": "nimg: 64", r"ramp_nimg: \d+": "ramp_nimg: 0",
         r"evaluations: \d+": "evaluations: 1", r"num_sigmas: \d+": "num_sigmas: 3",
         r"num_blocks: 3": "num_blocks: 1", r"model_channels: \d+": "model_channels: 8",
         r"snapshots: \[[^]]*\]": "snapshots: [64]", r"batch: \d+": "batch: 64",
         r"num_steps: \d+": "num_steps: 3", r"num_samples: \d+": "num_samples: 16",
         r"precision: bfloat16}\n      snapshots": "precision: float32}\n      snapshots"}
PAGE = "results/birds/report.html"
DRAWS = ("tables", "figures", "galleries", "crops_figures", "report")  # kinds of jobs without a network


@pytest.fixture(scope="module")
def scale(tmp_path_factory):
    """The scale that `new` writes for a folder, shortened, and what it said."""
    place = tmp_path_factory.mktemp("times")
    config, patched = configuration(place / "config"), pytest.MonkeyPatch()
    images = folder(place / "photos", GOOD, OTHER)
    with patched.context() as changed:
        changed.setattr(new_speed, "SECONDS", 0.0)
        assert front_door.main(["new", "birds", "--config", str(config), "--images", str(images), "--good",
                                str(images / "best"), "--resolution", "16"]) == 0
    path = config / "scales/birds.yaml"
    text = path.read_text()
    for pattern, short in SHORT.items():
        assert re.search(pattern, text), pattern
        text = re.sub(pattern, short, text)
    path.write_text(text + "detectors: {selfnet: {nimg: 64, batch: 32, members: 2, features: 8}}\n")
    return Experiments(config, "birds")


@pytest.fixture(scope="module")
def counted(scale, tmp_path_factory):
    """Job -> its operations, as torch counts them while the job runs: of each job that has any."""
    place, graph, found = tmp_path_factory.mktemp("run"), Graph(scale), {}
    for number, job in enumerate(graph.behind([PAGE])):
        if job.kind in DRAWS or job.names.get("run", "ambient") != "ambient":
            continue  # all runs cost the same
        row, files = JOBS[job.kind], graph.reads(job)
        given = {role: [place / path for path in files.get(role, ())] for role in row.reads}
        given = {role: paths if role in row.many else next(iter(paths), None)
                 for role, paths in given.items()}
        given |= {option: graph.outside(job).get(option) for option in row.options if option != "state"}
        given |= {role: place / path for role, path in graph.writes(job).items()}
        given |= {"state": kept(place / f"state-{number}")} if row.resumable else {}
        given |= {"raw": Path(given["raw"])} if "raw" in given else {}
        for role in row.outputs:
            given[role].parent.mkdir(parents=True, exist_ok=True)
        with FlopCounterMode(display=False) as counter:
            import_module(stage.module(row)).main(graph.asks(job), stage.Record(), **given)
        if counter.get_total_flops():
            found[job] = counter.get_total_flops()
    return found


def test_each_job_costs_what_torch_counts_in_it(scale, counted):
    """Not the seconds, which depend on the machine: the operations, of each stage's own network."""
    costs = Costs(scale)
    assert {job.kind for job in counted} == {"classifier", "annotate", "train", "sample", "detector",
                                             "reference", "evaluate", "landmarks"}
    for job, operations in counted.items():
        assert costs.of(job.kind, job.names).flops == pytest.approx(operations, rel=0.1), job
    learnt = [job for job in counted if job.kind == "annotate"]
    assert [job.names["annotation"] for job in learnt] == ["per-sample"]  # the others ask no classifier


def test_each_stage_is_timed_by_its_own_network_and_precision(scale):
    probes = new_speed.Probes(scale).all(PAGE)
    assert set(probes) == {"classifier", "annotate", "train", "sample", "detector", "reference"}
    for name, probe in probes.items():
        with FlopCounterMode(display=False) as counter:
            probe.run()
        assert probe.flops == pytest.approx(counter.get_total_flops(), rel=0.1), name
    assert {name for name, probe in probes.items() if probe.learns} == {"classifier", "train", "detector"}
    assert {name for name, probe in probes.items() if probe.precision == "float32"} == {"train", "reference"}


def test_a_rate_is_operations_over_seconds(monkeypatch):
    """Passes that take 0.25 s each by the clock, 10^11 operations each: 0.4 Tflop/s."""
    now = [0.0]

    def passed(_):
        now[0] += 0.25
        return torch.zeros(1)

    monkeypatch.setattr(new_speed.time, "process_time", lambda: now[0])
    probe = new_speed.Probe(passed, (torch.zeros(1),), 1e11, "float32", learns=False)
    assert probe.tflops() == pytest.approx(0.4)


def test_the_minutes_are_operations_over_the_rate_of_the_stage(scale, monkeypatch):
    rates = {"train": 1e-6, "sample": 2e-6, "classifier": 3e-6, "annotate": 4e-6, "detector": 5e-6,
             "reference": 6e-6, "evaluate": 6e-6, "landmarks": 6e-6}
    monkeypatch.setattr(new_speed, "tflops", lambda *_: rates)
    first, second = new.told_time(scale, reading=0.01)
    told = {stage: float(minutes) for stage, minutes in re.findall(r"(\w+) ([0-9.]+)(?:,|$)", second)}
    costs, jobs = Costs(scale), Graph(scale).behind([PAGE])
    minutes = Counter({"prepare": 0.01 * (GOOD + OTHER)})
    for job in jobs:
        if job.kind != "prepare":
            work = costs.of(job.kind, job.names)
            minutes[job.kind] += work.cpu_minutes + work.flops / (rates.get(job.kind, 1) * 1e12) / 60
    for name in rates:
        assert told[name] == pytest.approx(minutes[name], abs=0.06), name
    assert sum(told.values()) == pytest.approx(minutes.total(), abs=0.5)  # rounded to a tenth each
    cores = min(len(os.sched_getaffinity(0)), 3)
    assert int(re.search(r"about (\d+) minutes", first)[1]) == pytest.approx(max(
        minutes.total() / cores, minutes["train"] / 3), abs=0.6)
