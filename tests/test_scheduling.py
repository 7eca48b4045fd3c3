"""What jobs ask for: costs against torch's own counts, site settings, the doctor, the number of jobs."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ambient import settings, specs
from ambient.cluster import cost, doctor, limits, plan, requests, site
from ambient.cluster.scales import Graphs
from ambient.diffusion.networks.unet import Conv, Linear
from ambient.jobs import journal, launch, records
from ambient.settings.graph import Node
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
    line, _ = launch.command(4, 1, stage)
    assert line[2:6] == ["torch.distributed.run", "--standalone", "--nproc_per_node", "4"]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    line, extra = launch.command(4, 2, stage)
    assert line[:3] == ["srun", "--ntasks=4", "--nodes=2"] and line[-5:] == stage
    assert extra["MASTER_PORT"] == "20007" and extra["AMBIENT_SRUN"] == "1"


FAKE = {"sinfo": 'echo "cpu*|1-00:00:00|(null)"; echo "gpu|2-00:00:00|gpu:a100:4"',
        "scontrol": 'echo "MinJobAge = 30 sec"',
        "sbatch": 'case "$*" in *--account=none*) echo "Invalid account" >&2; exit 1;; esac',
        "squeue": "true", "srun": "true", "scancel": "true", "sacctmgr": "exit 1", "sshare": "exit 1"}


@pytest.fixture
def slurm_commands(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands, for what the doctor makes of their answers; writes others."""
    def write(**commands):
        for name, text in commands.items():
            path = tmp_path / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)
    write(**FAKE)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return write


def lines(made, check):
    return [line for kind, line in check(made) if kind == doctor.MISSING]


def test_doctor_names_what_is_missing(slurm_commands):
    good = site.Site(partition="cpu", gpu_partition="gpu", gpu_model="a100")
    assert lines(good, doctor.partitions) == []
    assert lines(site.Site(gpu_partition="gpus"), doctor.partitions) == [
        "partition: 'gpus' for GPU jobs does not exist (known: cpu, gpu)"]
    assert "GPU: partition cpu has none" in lines(site.Site(), doctor.partitions)[0]
    assert "no 'h100' in partition gpu (found: gpu:a100:4)" in lines(
        site.Site(gpu_partition="gpu", gpu_model="h100"), doctor.partitions)[0]
    assert "cpu allows 1440 minutes, max_minutes is 5000" in lines(
        site.Site(partition="cpu", gpus=0, max_minutes=5000), doctor.partitions)[0]
    assert list(doctor.accepted(good, True))[0][0] == doctor.OK
    (kind, line), = doctor.accepted(site.Site(account="none"), False)
    assert kind == doctor.MISSING and line.endswith("Invalid account")
    (kind, line), = doctor.account(site.Site(account="lab"))
    assert kind == doctor.MISSING and "every job would fail: the accounting is off" in line
    slurm_commands(sacctmgr="echo '  Lab'; echo other")
    assert [kind for kind, _ in doctor.account(site.Site(account="lab"))] == [doctor.OK]
    (kind, line), = doctor.account(site.Site(account="gone"), "elsewhere")
    assert line.endswith("(set it in elsewhere/site.yaml)")
    assert kind == doctor.MISSING and line.startswith("account: 'gone' is none of yours: Lab, other")
    assert list(doctor.account(site.Site())) == []
    (kind, line), = doctor.memory_of_jobs()
    assert kind == doctor.MISSING and "MinJobAge is 30 s" in line


def test_doctor_asks_slurm_for_what_the_largest_jobs_will(slurm_commands):
    """A node may have no place for a training that is short enough."""
    found = settings.Experiments(ROOT / "config", "paper")
    eight = site.Site(gpus=8, cpus_per_gpu=4)
    asked = limits.largest(found, eight, "table1")
    costs = cost.Costs(found)
    assert asked == {True: round(costs.train("edm2-xxl").memory(eight)),
                     False: round(costs.reconstruct("edm2-xxl", "0.015").memory(eight))}
    slurm_commands(sbatch=f'case "$*" in *"--mem={asked[True]} --nodes=1 --gpus=8 --cpus-per-task=32 "*) '
                          'echo "Requested node configuration is not available" >&2; exit 1;; esac')
    kinds = [list(doctor.accepted(eight, gpu, asked[gpu]))[0] for gpu in (False, True)]
    assert [kind for kind, _ in kinds] == [doctor.OK, doctor.MISSING]
    assert f"a GPU job of 1440 minutes and {asked[True] / 1e3:.1f} GB, the most that one" in kinds[1][1]
    slurm_commands(sbatch='case "$*" in *--mem*) exit 1;; esac')
    assert list(doctor.accepted(eight, True))[0][0] == doctor.OK  # a target without such a job


def test_a_group_of_mixtures_asks_for_no_more_memory_than_one_job_does():
    """Its jobs may run at once, so SLURM is asked for the sum. What the doctor tried is then enough."""
    found, one = settings.Experiments(ROOT / "config", "paper"), site.Site()
    profile = settings.load(limits.PROFILE)
    each = {group: int(number) for group, number in (
        entry.split("=") for entry in profile["group-components"])}
    memory = sorted(work.memory(one) for kind, work in plan.jobs(found) if kind == "corrupt")
    largest = limits.largest(found, one, None)[False]
    assert sum(memory[-each["mixtures"]:]) < largest < sum(memory)


def test_doctor_names_jobs_that_are_too_long_for_the_time_limit_or_the_attempts(tmp_path):
    found = settings.Experiments(ROOT / "config", "paper")
    assert list(limits.too_long(found, site.Site(), "table2a", tmp_path)) == []  # three limits at most
    (kind, line), = limits.too_long(found, site.Site(), "table1", tmp_path)
    assert kind == doctor.NOTE and line.startswith("time: train: 10 jobs are longer than 1440 minutes")
    assert "-xxl, seed 0) takes about 1,784 of them, and Snakemake gives a job 10: add --retries 2677" in line
    short = [line for kind, line in limits.too_long(found, site.Site(max_minutes=240), "table9a", tmp_path)
             if kind == doctor.MISSING]
    assert [line.split(" (")[0] for line in short] == ["time: prepare", "time: corrupt"]
    assert all(f"; max_minutes is 240 (set it in {tmp_path}/site.yaml)" in line for line in short)


def test_doctor_without_slurm_or_files(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    (kind, line), = doctor.commands()
    assert kind == doctor.MISSING and "sbatch" in line
    configuration(tmp_path / "config")
    (tmp_path / "config/local.yaml").write_text(
        "datasets: {cifar10: {path: /nowhere.zip}}\ndetectors: {inception: {weights: /nowhere.pt}}\n")
    found = settings.Experiments(tmp_path / "config", "paper")
    missing = [line for kind, line in doctor.raw_data(found) if kind == doctor.MISSING]
    # These need a form or a licence, wildlife as a source beside a study's own dataset too.
    licensed = [line.split(":")[0] for line in missing if "has no download" in line]
    assert licensed == [f"dataset {name}" for name in (
        "cats", "cc12m", "cc12m-256", "cc12m-shown", "coco", "coco-captions", "diffusiondb",
        "diffusiondb-256", "diffusiondb-shown", "dogs", "drawbench", "ffhq", "imagenet-512",
        "imagenet-512-val", "journeydb", "journeydb-256", "journeydb-shown", "partiprompts", "sa-1b",
        "sa-1b-256", "sa-1b-shown", "textcaps", "textcaps-256", "vendi-prompts", "wildlife")]
    # Whether packages of an extra are there depends on where the tests run; test_dinov2.py looks at it.
    local = [line for line in missing if "has no download" not in line and "needs the package" not in line]
    assert [line.split(":")[0] for line in local if "needs" in line or "give" in line] == [
        "scorer clip-iqa", "scorer clip-iqa-whole", "detector dino", "detector dinov2",
        "detector mask2former", "encoder sd-vae", "encoder sdxl-vae", "text encoder clip-b-32",
        "text encoder clip-l-14", "text encoder dfn5b"]
    assert any("as detectors.mask2former.weights in config/local.yaml" in line for line in local)
    notes = [line for kind, line in doctor.raw_data(found) if kind == doctor.NOTE]
    assert any(line.startswith("judge vision-model: its jobs send samples to http://local") for line in notes)
    assert [line for line in local if "no such file" in line] == [
        "dataset cifar10: no such file /nowhere.zip (datasets.cifar10.path)",
        "detector inception: no such file /nowhere.pt (detectors.inception.weights)"]
    assert [doctor.minutes(text) for text in ("1-00:00:00", "2:30:00", "30:00", "infinite")] == [
        1440, 150, 30, float("inf")]


def test_doctor_does_not_compare_packages_that_nothing_pins(monkeypatch, tmp_path):
    assert [kind for kind, _ in doctor.environment()] != [doctor.NOTE]
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    assert list(doctor.environment()) == [(doctor.NOTE, f"environment: not compared, there is no "
                                           f"{tmp_path / 'pyproject.toml'}, which pins the packages")]


def test_doctor_tries_the_cache_that_snakemake_needs(monkeypatch, tmp_path):
    """In a full home a workflow ends before it has read a rule."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new/cache"))
    assert list(doctor.cache()) == [(doctor.OK, f"cache: {tmp_path}/new/cache")]
    assert list((tmp_path / "new/cache").iterdir()) == []
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.cache").symlink_to("/dev/full")
    (kind, line), = doctor.cache()
    assert kind == doctor.MISSING and line.startswith(f"cache: {tmp_path}/home/.cache: File exists; Snake")


def test_doctor_does_not_miss_slurm_where_nobody_has_set_it_up(monkeypatch, tmp_path):
    configuration(tmp_path / "config")
    monkeypatch.setattr(doctor, "output", lambda *command: None)
    monkeypatch.setattr(doctor, "commands", lambda: iter([(doctor.MISSING, "commands: none")]))

    def asked(submit):
        return [line for _, line in islice(doctor.findings("demo", tmp_path / "config", submit), 4)][3]

    assert asked(submit=False).startswith("SLURM: not looked at")
    assert asked(submit=True) == "commands: none"
    (tmp_path / "config/site.yaml").write_text("gpus: 0\n")
    assert asked(submit=False) == "commands: none"


def test_doctor_names_the_licences_of_what_a_target_reads():
    found = settings.Experiments(ROOT / "config", "paper")
    imagenet = "research and education, non-commercial"
    assert [line for _, line in doctor.licences(found, "results/table1.csv")] == [
        f"licence of {what}" for what in (
            f"dataset imagenet-512: {imagenet}", f"dataset imagenet-512-val: {imagenet}",
            "detector dinov2: Apache-2.0 (DINOv2)", "detector inception: NVIDIA's terms (Inception-v3)",
            "encoder sd-vae: MIT (sd-vae-ft-mse); of another one see its model card",
            "scorer clip-iqa: MIT (CLIP)")]
    (_, faces), *_ = doctor.licences(found, "results/table4.csv")
    assert faces.startswith("licence of dataset ffhq: ") and "CC BY-NC-SA 4.0" in faces
    everything = settings.Experiments(ROOT / "config", "demo")
    assert not any("non-commercial" in line or "-NC" in line for _, line in doctor.licences(everything))


def doctor_of(*arguments):
    return subprocess.run([sys.executable, "-m", "ambient", "doctor", *arguments], cwd=ROOT, text=True,
                          capture_output=True)


def test_doctor_speaks_of_the_target_that_is_wanted():
    found = settings.Experiments(ROOT / "config", "paper")
    one, every = (Counter(stage for stage, _ in plan.jobs(found, target)) for target in ("table2a", None))
    assert one["train"] == 13 and every["train"] > 40 and one["figures"] == 1 and "galleries" not in one
    assert plan.wanted(found, "results/table2a.csv")[-1] == Node("tables", (("table", "table2a"),))
    assert Counter(job.kind for job in plan.wanted(found, "results/table2a.csv"))["figures"] == 0
    text = doctor_of("paper", "results/table2a.csv").stdout
    count = len(plan.wanted(found, "results/table2a.csv"))
    assert f"estimate for results/table2a.csv: {count} jobs, " in text and "dataset ffhq" not in text
    assert re.search(r"train +13 jobs +\d+\.\d GPU-hours", text) and "dataset cifar10" in text
    parts = plan.disk_bytes(found, "table2a")
    assert parts < plan.disk_bytes(found)  # of each kind no more, of one less
    for kind, size in parts.items():
        assert re.search(rf"\nnote +{re.escape(f'{size / 1e9:,.1f}')} GB of {kind}\n", text), kind
    assert sum(work.flops for _, work in plan.jobs(found, "table2a")) < sum(
        work.flops for _, work in plan.jobs(found))


def test_doctor_speaks_of_a_bare_run_where_no_target_is_given(capsys):
    found = settings.Experiments(ROOT / "config", "demo")
    for arguments, target in (["demo"], "all"), (["demo", "demo_all"], None):
        doctor.main(arguments)
        said = capsys.readouterr().out
        assert f"estimate for {arguments[-1] if target is None else target}: " in said
        assert f": {len(plan.wanted(found, target))} jobs, " in said


def test_doctor_says_how_long_a_machine_without_a_gpu_would_take(tmp_path, monkeypatch):
    found, here = settings.Experiments(ROOT / "config", "demo"), site.Site(cpu_tflops=0.2, cpu_ranks=3)
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    (said,) = [one for _, one in doctor.costs(found, here, tmp_path, "table2a") if "without a GPU" in one]
    work = [one for _, one in plan.jobs(found, "table2a")]
    minutes = sum(one.cpu_minutes for one in work) + sum(one.flops for one in work) / 0.2e12 / 60
    assert f"estimate without a GPU: {round(minutes / 4)} min of this machine's 4 cores" in said
    monkeypatch.setattr(doctor, "DRIVER", tmp_path)
    assert not [one for _, one in doctor.costs(found, here, tmp_path, "table2a") if "without a GPU" in one]


@pytest.mark.parametrize(("arguments", "said"), [
    (("paper", "tabel2a"), "'tabel2a', which the scale paper does not have (did you mean 'table2a'?)"),
    (("demo", "results/small/table2a.csv"), "allowed for the scale demo: a file in results/demo"),
    (("demo", "results/table2a.csv"), "allowed for the scale demo: a file in results/demo"),
    (("--config", "gone"), "--config: got 'gone', allowed: a folder with scales/*.yaml in it")])
def test_doctor_refuses_a_target_that_is_none_of_the_scales(arguments, said):
    done = doctor_of(*arguments)
    assert done.returncode == 2 and not done.stdout
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_the_number_of_files_is_that_of_the_jobs():
    found = settings.Experiments(ROOT / "config", "demo")
    assert plan.files(found, "results/demo/theory.csv") == 2 * 3 + 1
    assert plan.files(found, "theory") == 2 * 3 + 1 + 2 * 2 + 1
    with_page = plan.files(found, "table2a") - plan.files(found, "results/demo/table2a.csv")
    assert with_page == (2 * 8 + 1) + (1 + 1)  # its figures; its audit page, which has no manifest


def test_doctor_and_site_import_nothing_heavy():
    code = ("import sys, ambient.cluster.doctor, ambient.cluster.efficiency; "
            "print({'torch', 'numpy', 'pandas', 'snakemake'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


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
    assert once == twice and more - once == {
        "snapshots": 5 * weights, "samples": samples, plan.STATES: samples + (5 + 10) * weights}


def test_the_doctor_names_samples_and_data_that_are_too_few_for_their_detector(tmp_path):
    """Of the demo's 4 x 64 features."""
    configuration(tmp_path / "config")
    for (samples, digits), named in {(257, 257): [], (256, 257): ["studies.controlled.sampling.num_samples"],
                                     (257, 256): ["datasets.digits"]}.items():
        (tmp_path / "config/scales/few.yaml").write_text(
            f"extends: demo\nstudies: {{controlled: {{sampling: {{num_samples: {samples}}}}}}}\n"
            f"datasets: {{digits: {{max_images: {digits}}}}}\n")
        lines = list(doctor.few_images(settings.Experiments(tmp_path / "config", "few"), "table2a"))
        assert lines == [(doctor.NOTE, (
            f"detector digitnet: {key}: 256 images against 256 features; their covariance is singular and "
            "distances are biased upwards: take more, or compare them with those of as many images alone"))
            for key in named]


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
