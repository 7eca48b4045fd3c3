"""The doctor: what is missing here or at a cluster, and what a target costs."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from ambient import settings
from ambient.cluster import cost, doctor, limits, plan, site
from ambient.settings.graph import Node
from tests.clones import configuration

ROOT = Path(__file__).parents[1]


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
                     False: round(costs.detector("imagenet-512", "dinov2").memory(eight))}
    slurm_commands(sbatch=f'case "$*" in *"--mem={asked[True]} --nodes=1 --gpus=8 --cpus-per-task=32 "*) '
                          'echo "Requested node configuration is not available" >&2; exit 1;; esac')
    kinds = [list(doctor.accepted(eight, gpu, asked[gpu]))[0] for gpu in (False, True)]
    assert [kind for kind, _ in kinds] == [doctor.OK, doctor.MISSING]
    assert f"a GPU job of 1440 minutes and {asked[True] / 1e3:.1f} GB, the most that one" in kinds[1][1]
    slurm_commands(sbatch='case "$*" in *--mem*) exit 1;; esac')
    assert list(doctor.accepted(eight, True))[0][0] == doctor.OK  # a target without such a job


def test_doctor_names_jobs_that_are_too_long_for_the_time_limit_or_the_attempts(tmp_path):
    found = settings.Experiments(ROOT / "config", "paper")
    assert list(limits.too_long(found, site.Site(), "table2a", tmp_path)) == []  # three limits at most
    (kind, line), = limits.too_long(found, site.Site(), "table1", tmp_path)
    assert kind == doctor.NOTE and line.startswith("time: train: 10 jobs are longer than 1440 minutes")
    assert "-xxl, seed 0) takes about 1,796 of them, and Snakemake gives a job 10: add --retries 2694" in line
    few = limits.too_long(found, site.Site(max_minutes=5), "table1", tmp_path)
    said = {line.split()[1]: line for kind, line in few if kind == doctor.MISSING}
    assert said["figures"].startswith("time: figures (table table1) takes about 145 minutes (59 of them to "
                                      "hash files) and begins anew after a time limit")
    assert "about 13 minutes (5 of them to hash files) and begins anew after a" in said["reconstruct"]
    assert f"; max_minutes is 5 (set it in {tmp_path}/site.yaml)" in said["reconstruct"]
    assert "takes about 56 minutes to hash its files and begins that anew after a" in said["scores"]


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
    said = {line.split(":")[0]: line for line in missing}
    assert said["dataset cc12m"] == (
        "dataset cc12m: has no download: give a tar or a folder of tars as datasets.cc12m.path in "
        "config/local.yaml (its origin: Conceptual 12M (Changpinyo et al. 2021), pixparse/cc12m-wds)")
    assert "give a text file, a caption a line, or a table of captions as" in said["dataset coco-captions"]
    assert "give a folder, a tar or a zip (docs/data.md" in said["dataset imagenet-512"]
    assert "give a folder or zip of images as datasets.ffhq.path" in said["dataset ffhq"]
    # Whether packages of an extra are there depends on where the tests run; test_dinov2.py looks at it.
    local = [line for line in missing if "has no download" not in line and "needs the package" not in line]
    assert [line.split(":")[0] for line in local if "needs" in line or "give" in line] == [
        "scorer clip-iqa", "scorer clip-iqa-whole", "detector dino", "detector dinov2",
        "detector mask2former", "encoder sd-vae", "encoder sdxl-vae", "text encoder clip-b-32",
        "text encoder clip-l-14", "text encoder dfn5b"]
    assert any("encoder sd-vae: give" in line and "has diffusion_pytorch_model.safetensors and" in line
               for line in local)
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
            "encoder sd-vae: MIT (sd-vae-ft-mse), OpenRAIL++-M (SDXL's)",
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


def test_doctor_and_site_import_nothing_heavy():
    code = ("import sys, ambient.cluster.doctor, ambient.cluster.efficiency; "
            "print({'torch', 'numpy', 'pandas', 'snakemake'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


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
