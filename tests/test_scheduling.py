"""What jobs ask for: costs against torch's own counts, site settings, the number of jobs."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from snakemake.common import get_function_params, get_input_function_aux_params
from snakemake.resources import Resource, Resources
from torch.distributed.launcher.api import LaunchConfig
from torch.utils.flop_counter import FlopCounterMode

from ambient import settings, specs
from ambient.cluster import cost, limits, plan, requests, site
from ambient.cluster.scales import Graphs
from ambient.diffusion.networks.unet import Conv, Linear
from ambient.jobs import journal, launch, records
from ambient.specs.stages import JOBS
from ambient.specs.strict import SpecError
from ambient.training.build import build_network
from tests.clones import clone, configuration

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def counted(made, resolution, channels, encoder_only):
    """(multiply-adds, parameters without norms', numbers in feature maps), counted by torch as it runs.

    On tensors without memory. Halving and doubling a side are matrix products on CPUs alone: no work of the
    network's.
    """
    with torch.device("meta"):
        network = build_network(made, resolution, channels, 0, False, None, encoder_only).eval()
        image, noise = torch.zeros(1, channels, resolution, resolution), torch.zeros(1)
    features = []
    for layer in network.modules():
        if isinstance(layer, (Conv, Linear)):
            layer.register_forward_hook(lambda layer, given, made: features.append(made.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image, noise)
    resizing = counter.get_flop_counts()["Global"].get(torch.ops.aten.mm, 0)
    parameters = sum(p.numel() for name, p in network.named_parameters() if "norm" not in name)
    return (counter.get_total_flops() - resizing) // 2, parameters, sum(features)


@pytest.mark.parametrize("encoder_only", [False, True])
@pytest.mark.parametrize("attention", [(), (8,), (16, 8)])
@pytest.mark.parametrize("factors", [(1, 2), (2,), (1, 1, 3)])
def test_a_networks_costs_are_those_that_torch_counts(factors, attention, encoder_only):
    made = specs.NetworkSpec(16, factors, 2, attention, 0.0)
    assert made.cost(16, 3, encoder_only) == counted(made, 16, 3, encoder_only)


def test_costs_are_those_that_torch_counts_for_every_network_of_every_scale(monkeypatch):
    kind = specs.NetworkSpec.KINDS["unet"].Spec
    asked, by_formula = set(), kind.cost

    def noted(made, resolution, channels, encoder_only=False):
        asked.add((made, resolution, channels, encoder_only))
        return by_formula(made, resolution, channels, encoder_only)

    monkeypatch.setattr(kind, "cost", noted)
    for scale in ("demo", "small", "paper"):
        list(plan.jobs(settings.Experiments(ROOT / "config", scale)))
    assert {made.model_channels for made, *_ in asked} >= {16, 32, 128}
    for each in asked:
        assert by_formula(*each) == counted(*each), each


def test_work_is_asked_for_by_attempt_up_to_the_sites_limit():
    found = cost.Costs(settings.Experiments(ROOT / "config", "paper"))
    train = found.train("only-clean")
    assert train.flops == pytest.approx(6 * 21.19e9 * 25_088_000, rel=1e-3)
    one, eight = site.Site(), site.Site(gpus=8)
    assert train.minutes(one) == pytest.approx(8 * train.minutes(eight))
    assert train.limit(one, 1) == train.limit(one, 2) == one.max_minutes == 1440
    assert train.limit(site.Site(max_minutes=100_000), 2) == pytest.approx(
        2 * train.limit(site.Site(max_minutes=100_000), 1), abs=1)
    mixture = "controlled", "blur-0.6"
    fixed, asked = found.annotate(*mixture, "all"), found.annotate(*mixture, "per-sample")
    assert not fixed.gpu and asked.gpu and asked.flops > train.flops / 2
    assert train.memory(site.Site(gpus=0)) > 10 * train.memory(one)  # activations, then, are in main memory


class Names(dict):
    """Wildcards as Snakemake has them."""

    __getattr__ = dict.__getitem__


def test_an_attempt_that_saved_its_state_costs_the_next_no_further_memory(tmp_path, monkeypatch):
    """A training of many time limits would ask for what no node has."""
    monkeypatch.chdir(tmp_path)
    found = requests.Requests(Graphs(ROOT / "config"), site.Site(), None)
    names = Names(scale="demo", run="only-clean", seed="0")
    state = Path(requests.state_of("train", names))
    first = found.memory("train", names, 1)

    def asked(*left):
        """The memory of the attempt after some that saved (True) or were ended otherwise."""
        records.write_lines(journal.path_for(state), [
            {"job": "a", "saved": True} if one else {"job": "a"} for one in left])
        return found.memory("train", names, len(left) + 1) / first

    state.parent.mkdir(parents=True)
    assert found.memory("train", names, 3) == pytest.approx(2 * first, abs=1)  # they noted nothing
    assert asked(*[True] * 9) == 1 and asked(False) == pytest.approx(1.5, abs=1e-3)
    assert asked(True, False, True, False) == pytest.approx(2, abs=1e-3)
    journal.path_for(state).write_bytes(b"[]\n" + b"[" * 100_000 + b"\n\xff{\n")
    assert found.memory("train", names, 4) == pytest.approx(2.5 * first, abs=1)
    assert sorted(path.name for path in state.parent.iterdir()) == ["train.attempts.jsonl"]
    tabulates = Names(scale="demo", table="table2a")
    assert found.memory("tables", tabulates, 3) == 2 * found.memory("tables", tabulates, 1)


def asked_by(workflow, **here):
    """What the rule `train` asks for at a site."""
    return requests.Requests(Graphs(ROOT / "config"), site.Site(**here), workflow).resources("train")


def test_what_all_jobs_of_a_rule_ask_for_is_a_value_and_no_function():
    """Snakemake calls each function for each of thousands of jobs."""
    training = Names(scale="paper", run="only-clean", seed="0")
    settled = SimpleNamespace(default_resources=None)
    found = asked_by(SimpleNamespace(resource_settings=settled))
    assert found["run"] == "python -m ambient run" and found["slurm_extra"] == "--signal=TERM@180"
    found = asked_by(SimpleNamespace(resource_settings=settled), gpus=8, slurm_extra="--exclusive")
    assert found["run"](training) == "python -m ambient run --ranks 8 --nodes 1"
    assert found["slurm_extra"] == "--signal=TERM@180 --exclusive"
    settled.default_resources = Resources.from_mapping({"slurm_extra": "--reservation=week"})
    found = asked_by(SimpleNamespace(resource_settings=settled))
    assert found["slurm_extra"](training) == "--signal=TERM@180 --reservation=week"
    assert "gpu_model" not in found


def test_snakemake_knows_the_parameters_of_a_rules_functions_without_inspection(monkeypatch):
    """It asks each function three times for each of thousands of jobs."""
    settled = SimpleNamespace(default_resources=None)
    found = asked_by(SimpleNamespace(resource_settings=settled))
    expected = {"runtime": ["wildcards", "attempt"], "mem_mb": ["wildcards", "attempt"], "gpu": ["wildcards"],
                "cpus_per_task": ["wildcards", "threads"]}
    assert {name for name, value in found.items() if callable(value)} == expected.keys()
    monkeypatch.setattr("inspect.signature", None)
    assert {name: list(get_function_params(found[name])) for name in expected} == expected
    one = Resource("runtime", lambda wildcards: 3).evaluate
    candidates = {"input": [], "attempt": 1, "threads": 2}
    assert get_input_function_aux_params(one, candidates) == candidates


@pytest.mark.parametrize("target", ["table1", "memorisation", "table9a", "table9b", "vendi", "noise-floor"])
def test_a_job_that_ranks_can_share_gets_all_gpus_of_the_site(target):
    """Features, scores of samples and maps of context are shared out as trainings are."""
    found = plan.jobs(settings.Experiments(ROOT / "config", "paper"), target)
    kinds = {kind: work.ranks for kind, work in found if work.gpu}
    assert kinds == {kind: JOBS[kind].shared for kind in kinds} and kinds["train"]


def test_ranks_share_the_images_that_a_detector_resizes():
    """Inception resizes 100 images a second and process: 750,000 in 125 minutes by one, in 8 by sixteen."""
    work = cost.Costs(settings.Experiments(ROOT / "config", "paper")).evaluate("only-clean")
    arithmetic = 750_000 * 11.5e9 / 20e12 / 60
    assert work.own_minutes(site.Site()) == pytest.approx(0.2 + 125 + arithmetic, rel=1e-6)
    many = site.Site(gpus=16, nodes=2)
    assert work.own_minutes(many) == pytest.approx(work.own_minutes(site.Site()) / 16, rel=1e-6)


def test_pictures_of_samples_get_the_time_that_their_nearest_images_take():
    """Of ImageNet 23 ms an image on one core, of as many as are searched; of CIFAR-10 little."""
    found = cost.Costs(settings.Experiments(ROOT / "config", "paper"))
    rows = len(found.experiments.table("table1").rows)
    assert found.figures("table1").cpu_minutes == pytest.approx(rows * 21_845 * 0.0262 / 60, rel=0.01)
    assert found.figures("table1").limit(site.Site(), 1) > 60 and found.figures("table2a").cpu_minutes < 2


def test_data_of_a_run_that_are_put_together_get_time_by_their_number():
    """38 million captions take more than the few seconds of a small job."""
    paper, demo = (cost.Costs(settings.Experiments(ROOT / "config", scale)) for scale in ("paper", "demo"))
    assert 12 < paper.combine("text-all-1").cpu_minutes < 14 and demo.combine("donut").cpu_minutes < 0.3


def test_memory_of_ranks_is_of_what_each_holds():
    """Five copies of the weights, twice over: on CPUs in each of eight ranks, of GPUs in the first alone."""
    found = cost.Costs(settings.Experiments(ROOT / "config", "paper"))
    train = found.train("ambient-blur-0.8")
    classifier = found.classifier("controlled", "blur-0.8", "balanced")
    assert train.copies == 5 and train.shardable and not classifier.shardable

    def copies(work, **settings):
        """How many copies of the weights a node's memory has beside what each of eight ranks needs."""
        where = site.Site(**settings)
        alone = work.memory_mb + (0 if where.gpus else work.activations_mb)
        return (work.memory(where) - 8 * alone) / work.weights_mb

    gpus, cpus, shared = {"gpus": 8}, {"gpus": 0, "cpu_ranks": 8}, {"shard_weights": True}
    for work in (train, classifier):
        assert copies(work, **gpus) == pytest.approx(10 + 7 * 2)
        assert copies(work, **cpus) == pytest.approx(80)
    for where in (gpus, cpus):
        assert copies(train, **where, **shared) == pytest.approx(8 * (10 / 8 + 2))
        assert copies(classifier, **where, **shared) == copies(classifier, **where)


def test_site_settings_are_strict_and_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("AMBIENT_SITE", raising=False)
    assert site.read(tmp_path) == site.Site()
    (tmp_path / "site.yaml").write_text("gpu_partition: gpu\ngpus: 4\n")
    assert site.read(tmp_path).partition_of(gpu=True) == "gpu"
    assert site.read(tmp_path).partition_of(gpu=False) is None
    monkeypatch.setenv("AMBIENT_SITE", "")
    assert site.read(tmp_path).gpus == 4 and site.read(tmp_path / "none") == site.Site()
    monkeypatch.setenv("AMBIENT_SITE", str(tmp_path / "other.yaml"))
    with pytest.raises(SpecError, match="other.yaml: no such file"):
        site.read(tmp_path)
    (tmp_path / "other.yaml").write_text("partiton: gpu\n")
    with pytest.raises(SpecError, match="unknown key 'partiton' .did you mean 'partition'"):
        site.read(tmp_path)
    (tmp_path / "other.yaml").write_text("gpus: 3\nnodes: 2\n")
    with pytest.raises(SpecError, match="nodes: got 2, allowed: a divisor of 3 ranks"):
        site.read(tmp_path)
    site.build(site.Site, settings.load(ROOT / "config/site.example.yaml"), "example")


def test_ranks_are_started_by_torchrun_on_a_node_and_by_srun_on_several(monkeypatch):
    stage = ["ambient", "run", "train", "--spec", "{}"]
    line, extra = launch.command(4, 1, stage)
    assert line[2:6] == ["torch.distributed.run", "--standalone", "--nproc_per_node", "4"]
    # Told to stop, torchrun kills ranks that take longer than 30 s for a step and a checkpoint.
    monkeypatch.setenv(launch.WAIT, extra[launch.WAIT])
    assert LaunchConfig(1, 1, 4).shutdown_timeout == 600
    monkeypatch.setenv(launch.WAIT, "7")
    assert launch.command(4, 1, stage)[1][launch.WAIT] == "7"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    line, extra = launch.command(4, 2, stage)
    assert line[:3] == ["srun", "--ntasks=4", "--nodes=2"] and line[-5:] == stage
    assert extra["MASTER_PORT"] == "20007" and extra["AMBIENT_SRUN"] == "1"


def test_a_group_of_mixtures_asks_for_no_more_memory_than_one_job_does():
    """Its jobs may run at once, so SLURM is asked for the sum. What the doctor tried is then enough."""
    found, one = settings.Experiments(ROOT / "config", "paper"), site.Site()
    profile = settings.load(limits.PROFILE)
    each = {group: int(number) for group, number in (
        entry.split("=") for entry in profile["group-components"])}
    memory = sorted(work.memory(one) for kind, work in plan.jobs(found) if kind == "corrupt")
    largest = limits.largest(found, one, None)[False]
    assert sum(memory[-each["mixtures"]:]) < largest < sum(memory)


def test_the_number_of_files_is_that_of_the_jobs():
    found = settings.Experiments(ROOT / "config", "demo")
    assert plan.files(found, "results/demo/theory.csv") == 2 * 3 + 1
    assert plan.files(found, "theory") == 2 * 3 + 1 + 2 * 2 + 1
    with_page = plan.files(found, "table2a") - plan.files(found, "results/demo/table2a.csv")
    assert with_page == (2 * 8 + 1) + (1 + 1)  # its figures; its audit page, which has no manifest


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_three_training_seeds_of_everything_resolve_and_the_plan_counts_the_same(tmp_path, scale):
    clone(tmp_path, scale)
    studies = tmp_path / "config/studies.yaml"
    text = studies.read_text()
    studies.write_text(text.replace("training_seeds: [0]", "training_seeds: [0, 1, 2]"))
    found = settings.Experiments(tmp_path / "config", scale)
    done = subprocess.run(["snakemake", "--profile", "slurm", "-n", "-q", "host", "--", f"{scale}_all"],
                          cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr[-3000:]
    *rules, (_, total) = re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)
    counted = Counter(stage for stage, _ in plan.jobs(found))
    assert int(total) - 1 == counted.total() >= 9 * 3 * 3  # the target is no job of its own
    of_kind = Counter()
    for rule, count in dict(rules).items():  # the list is printed at both ends
        of_kind[rule.removesuffix("_of_paper").removesuffix("_beside")] += int(count)
    assert {kind: of_kind[kind] for kind in counted} == counted


def test_a_run_in_two_tables_takes_its_disk_once(tmp_path):
    configuration(tmp_path / "config")
    rows = {"once": "[only-clean]", "twice": "[only-clean, all-data-blur-0.8]", "more": "[single-blur-0.8]"}
    for name, listed in rows.items():  # table2a has the first two
        (tmp_path / f"config/scales/{name}.yaml").write_text(f"tables: {{table7: {{rows: {listed}}}}}\n")
    once, twice, more = (plan.disk_bytes(settings.Experiments(tmp_path / "config", name)) for name in rows)
    samples = 5 * 3 * 50_000 * 3 * 32**2  # snapshots, sampling seeds
    network = settings.Experiments(ROOT / "config", "paper").training("only-clean", 0).network
    weights = 4 * network.cost(32, 3).parameters
    features = 2 * 5 * 3 * 50_000 * 2048 * 4  # by two detectors, float32
    curves = 45_000 * 2048 * 4  # P(corrupted) of images at levels, float32
    assert once == twice and more - once == {
        "snapshots": 5 * weights, "samples": samples,
        plan.STATES: samples + (5 + 8) * weights + features + curves}


def test_features_of_known_images_count_as_states(tmp_path):
    configuration(tmp_path / "config")
    for name, asked in (("with", "true"), ("without", "false")):
        (tmp_path / f"config/scales/{name}.yaml").write_text(
            f"tables: {{table2a: {{landmarks: {asked}, rows: [all-data-blur-0.8]}}}}\n")
    found = [settings.Experiments(tmp_path / "config", name) for name in ("with", "without")]
    asked, other = (plan.disk_bytes(one, "report") for one in found)
    clean, bad = cost.Costs(found[0]).mixture("controlled", "blur-0.8")
    assert clean + bad == 50_000 and bad > 40_000
    assert asked - other == {plan.STATES: (50_000 + bad) * 2048 * 4}


def test_default_resources_hold_where_the_site_file_says_nothing(tmp_path, slurm_commands):
    folder = clone(tmp_path / "clone", "tiny")
    (folder / "config/site.yaml").write_text("gpu_partition: gpu\nqos: long\nconstraint: ib&big\n")
    slurm_commands(sacctmgr="echo acct", sbatch=f'echo "$*" > {tmp_path}/asked; exit 1')
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    subprocess.run(["snakemake", "--executor", "slurm", "--jobs", "1", "--config", "scale=tiny",
                    "--slurm-init-seconds-before-status-checks", "1",
                    "--default-resources", "slurm_account=acct", "slurm_partition='short'",
                    "--", "results/tiny/data/digits.safetensors"], cwd=folder, env=environment,
                   capture_output=True, text=True)
    asked = (tmp_path / "asked").read_text()
    assert " -A acct " in asked and " -p short " in asked
    assert " -C ib&big " in asked and " --qos=long " in asked
