"""The workflow: every scale resolves, re-runs are exact, and a tiny scale runs from end to end."""

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import finished
import pandas as pd
import pytest
import yaml

from ambient.storage.files import sha256
from tests.clones import clone
from tests.raw_images import files_of, make_zip

pytestmark = pytest.mark.minutes
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PICTURES = ("figure2", "figure3", "figure6", "figure11a", "figure15", "figure18-dogs", "figure25")


def snakemake(folder, *arguments, check=True):
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run([BIN / "snakemake", "--cores", "2", *arguments], cwd=folder, text=True,
                          capture_output=True, env=environment)
    assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-6000:]
    return done


def jobs(folder, *arguments):
    """Rule -> number of jobs that a dry run would start."""
    return counted(snakemake(folder, "-n", "--quiet", "host", *arguments).stdout)


def counted(text):
    """The same from the output of a dry run."""
    table = re.search(r"^job +count\n-+ +-+\n(.*?)\ntotal", text, re.M | re.S)
    return {} if table is None else {
        line.split()[0]: int(line.split()[1]) for line in table[1].splitlines()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository in which the scale `tiny` was run once."""
    folder = clone(tmp_path_factory.mktemp("clone"), "tiny", "crops")
    snakemake(folder, "--config", "scale=tiny")
    return folder


TINY = ("--config", "scale=tiny")


CROPS = [f"results/crops/{name}" for name in (
    "table2b.csv", "table2b.png", "table6.csv", "table6.png", *(f"{name}.png" for name in PICTURES))]


@pytest.fixture(scope="module")
def crops(tree):
    """The same tree, in which this process made what concerns other data, at the scale `crops`."""
    with contextlib.chdir(tree):
        finished.make(tree, *CROPS, scale="crops")
    return tree / "results/crops"


def test_the_workflow_has_nothing_to_do_where_its_jobs_were_done_without_it(crops, tree):
    assert jobs(tree, "--", *CROPS) == {}


def test_table_of_other_data(crops):
    table = pd.read_csv(crops / "table2b.csv")
    methods = ["Only Clean", "Fixed sigma_max 0.1", "Ambient-o+crops", "Ambient-o+crops"]
    assert list(table["method"]) == methods
    assert list(table["added"].fillna("")) == ["", "cats", "cats", "procedural"]
    assert list(table["paper_value"]) == [12.08, 9.85, 8.92, 10.98]
    assert table["sigma_max_mean"].iloc[1] == pytest.approx(0.1)
    assert list(table["paper_sigma_max_mean"].iloc[1:]) == [0.1, 0.09, 0.042]
    assert "dataset" not in table and "id" not in table


def test_annotation_uses_the_measured_map(crops):
    found = json.loads((crops / "locality/dogs.json").read_text())
    table = pd.read_csv(crops / "locality/dogs.csv")
    assert list(table.groupby("sigma")["crop_px"].first()) == found["crop_px"]
    assert set(table["relative_tolerance"]) == {0.05} == {found["relative_tolerance"]}
    summary = json.loads((crops / "annotations/dogs/plus-cats/crops.json").read_text())
    assert summary["crop_tolerance"] == {"absolute": 1e-3, "relative": 0.05}
    assert set(summary["crop_map"]) == {"1", "4", "8"} == {"1", *summary["p_target_mean"]}
    for size, level in summary["crop_map"].items():
        within = [s for s, c in zip(found["sigmas"], found["crop_px"], strict=True) if c <= int(size)]
        assert level in (0.0, *within)


def test_table_of_losses_has_their_settings(crops):
    table = pd.read_csv(crops / "table6.csv", keep_default_na=False)
    assert list(table["weight"]) == ["none", "ambient"] and list(table["buffer"]) == ["", "4"]
    assert list(table["method"]) == ["no weight, no buffer", "Ambient-o"]


def test_figures_of_no_table_are_made(crops):
    for name in PICTURES:
        assert (crops / f"{name}.png").stat().st_size > 5000
        assert (crops / f"{name}.pdf").read_bytes().startswith(b"%PDF")


def test_end_to_end_table(tree):
    table = pd.read_csv(tree / "results/tiny/table2a.csv")
    assert list(table["method"]) == ["Only Clean", "All data", "Ambient-o"]
    assert list(table["corruption"]) == ["none", "gaussian_blur", "gaussian_blur"]
    assert list(table["sigma_px"].fillna(0)) == [0, 0.6, 0.6]
    assert list(table["metric"]) == ["fd-digitnet"] * 3
    assert list(table["paper_value"]) == [8.79, 11.42, 5.34]
    assert (table["num_samples"] == 100).all() and (table["num_seeds"] == 2).all()
    for _, row in table.iterrows():
        metrics = json.loads((tree / f"results/tiny/{row['run_id']}/seed-0/metrics.json").read_text())
        last = [s["value"] for s in metrics["scores"] if s["nimg"] == 256]
        assert row["value"] == pytest.approx(sum(last) / 2, rel=1e-5)
        assert row["value_min"] == pytest.approx(min(last), rel=1e-5)
        assert row["value_std"] == pytest.approx(abs(last[0] - last[1]) / 2**0.5, rel=1e-4)
    assert table["sigma_min_mean"].iloc[1] == 0 and table["sigma_min_mean"].iloc[2] > 0
    for part in ("", "-curves", "-classifiers", "-grid"):
        assert (tree / f"results/tiny/table2a{part}.png").stat().st_size > 5000
        assert (tree / f"results/tiny/table2a{part}.pdf").read_bytes().startswith(b"%PDF")
    report = (tree / "results/tiny/report.html").read_text()
    assert report.count("<figure") == 4 and "Table 2a: training with blurred images" in report
    page = (tree / "results/tiny/table2a-audit.html").read_text()
    assert "Every link of every result holds" in page and page.count("<section") == 3
    assert re.search(r">25 files \(.* MB\) had been hashed by the workflow before", page)
    assert "report: 33 files (" in (tree / "results/tiny/logs/report/report.log").read_text()


def test_end_to_end_audit(tree):
    done = subprocess.run([sys.executable, "-m", "ambient", "audit", "results/tiny"], cwd=tree,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "level 3: 1" in done.stdout
    metrics = next((tree / "results/tiny/runs").glob("*/seed-0/metrics.json"))
    original = metrics.read_text()
    metrics.write_text(original.replace('"value": ', '"value": 1', 1))
    try:
        done = subprocess.run([sys.executable, "-m", "ambient", "audit", "results/tiny/table2a.csv"],
                              cwd=tree, capture_output=True, text=True)
        assert done.returncode == 1 and "metrics.json" in done.stdout and "changed" in done.stdout
    finally:
        metrics.write_text(original)


def test_second_run_has_nothing_to_do(tree):
    assert jobs(tree, *TINY) == {}


def test_changed_corruption_reruns_it_and_its_descendants_only(tree):
    path = tree / "config/data.yaml"
    original = path.read_text()
    path.write_text(original.replace("sigma_px: 0.6", "sigma_px: 0.61"))
    try:
        found = jobs(tree, *TINY)
    finally:
        path.write_text(original)
    assert found == {"all": 1, "corrupt": 1, "classifier": 1, "annotate": 2, "train": 2, "sample": 2,
                     "evaluate": 2, "tables": 1, "audit_page": 1, "figures": 1, "report": 1}


def test_changed_sampling_code_reruns_sampling_and_later_and_no_training(tree):
    path = tree / "ambient/diffusion/sampler.py"
    original = path.read_text()
    path.write_text(original + "\n# edited\n")
    try:
        found = jobs(tree, *TINY)
    finally:
        path.write_text(original)
    assert found == {"all": 1, "sample": 3, "evaluate": 3, "tables": 1, "audit_page": 1, "figures": 1,
                     "report": 1}
    assert jobs(tree, *TINY) == {}  # a reverted edit costs nothing


@pytest.mark.parametrize("pinned", [False, True])
def test_raw_data_touched_cost_nothing(tmp_path, pinned):
    folder = clone(tmp_path, "small")
    raw = make_zip(folder / "raw.zip", files_of(6))
    dataset = {"source": "images", "path": str(raw), "num_images": 6}
    if pinned:
        dataset["sha256"] = sha256(raw)
    (folder / "config/local.yaml").write_text(yaml.safe_dump({"datasets": {"cifar10": dataset}}))
    target = "results/small/data/cifar10.safetensors"
    snakemake(folder, "--max-checksum-file-size", "0", "--", target)  # as if it were larger than 1 MB
    later = (folder / target).stat().st_mtime + 10
    os.utime(raw, (later, later))
    assert jobs(folder, "--", target) == {}
    if pinned:  # what they are pinned to still counts
        dataset["sha256"] = "0" * 64
        (folder / "config/local.yaml").write_text(yaml.safe_dump({"datasets": {"cifar10": dataset}}))
        done = snakemake(folder, "-n", "--", target, check=False)
        assert done.returncode and f"the configuration's sha256 is {'0' * 64}" in done.stdout + done.stderr


def test_leaky_classifier_reads_a_mixture_of_its_own(tree):
    path = tree / "config/scales/leaky.yaml"
    path.write_text("extends: tiny\nruns: {ambient-blur-0.6: {annotation: per-sample-leaky}}\n")
    try:
        text = snakemake(tree, "-n", "-p", "--config", "scale=leaky").stdout
    finally:
        path.unlink()
    commands = [line for line in text.splitlines() if "python -m ambient run " in line]
    read = {stage: {re.search(r"--data (\S+)", c)[1] for c in commands if f" run {stage} " in c}
            for stage in ("classifier", "train")}
    folder = "results/leaky/mixtures/controlled"
    assert read["classifier"] == {f"{folder}/blur-0.6/clean-0.5.safetensors"}
    assert read["train"] == {f"{folder}/blur-0.6/clean-0.2.safetensors",
                             f"{folder}/none/clean-0.2.safetensors"}
    full = "results/leaky/data/digits.safetensors"  # the clean originals: three stages only
    assert {re.search(r" run (\w+)", c)[1] for c in commands if full in c.split("--out")[0]} == {
        "corrupt", "detector", "reference"}


def test_a_slip_stops_before_any_job(tree):
    path = tree / "config/scales/tiny.yaml"
    original = path.read_text()
    path.write_text(original.replace("num_samples: 100", "num_sample: 100"))
    try:
        done = snakemake(tree, *TINY, check=False)
    finally:
        path.write_text(original)
    assert done.returncode != 0
    assert "unknown key 'num_sample' (did you mean 'num_samples'?)" in done.stderr + done.stdout
    done = snakemake(tree, "-n", "--config", "scale=tset", check=False)
    assert done.returncode != 0 and "'tset'" in done.stderr + done.stdout


# --- without running -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "trainings"), [
    ("results/table2a.csv", 13), ("results/small/table2a.csv", 9), ("results/demo/table2a.csv", 3)])
def test_scales_resolve(target, trainings):
    text = snakemake(ROOT, "-n", "-F", "--quiet", "host", "-d", ROOT, target).stdout
    assert re.search(rf"^train +{trainings}$", text, re.M), text


def test_literal_slurm_command_resolves():
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(["snakemake", "--profile", "slurm", "results/table2a.csv", "-n", "-F", "-p"],
                          cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if "-m ambient run train " in line]
    assert len(commands) == 13  # nine rows, and the four by classifiers once more by the paper's protocol
    for command in commands:  # the paper's hyper-parameters reach every job
        for setting in ('"batch":512', '"lr":0.001', '"nimg":25088000', '"model_channels":128'):
            assert setting in command


def test_the_default_limit_of_starts_is_dropped_and_another_holds(tmp_path):
    folder = clone(tmp_path, "tiny")
    text, call = (folder / "Snakefile").read_text(), "    look_only_when_a_job_ends()\n"
    assert text.count(call) == 1
    told = call + '    print("limit:", getattr(workflow.scheduler.job_rate_limiter, "max_jobs", None))\n'
    (folder / "Snakefile").write_text(text.replace(call, told))
    wanted = [*TINY, "--", "results/tiny/data/digits.safetensors"]
    assert "limit: None" in snakemake(folder, *wanted).stdout
    shutil.rmtree(folder / "results")
    assert "limit: 7" in snakemake(folder, "--max-jobs-per-timespan", "7/1s", *wanted).stdout


def test_a_folder_that_cant_be_written_is_refused_in_one_line(tmp_path):
    folder, rights = clone(tmp_path / "code", "tiny"), "-dac_override,-dac_read_search"
    folder.chmod(0o555)
    without = [] if os.geteuid() else ["setpriv", "--bounding-set", rights, "--inh-caps", rights]
    if without and not shutil.which("setpriv"):
        pytest.skip("root may write anywhere, and there is no setpriv to take that away")
    done = subprocess.run([*without, BIN / "snakemake", "-n", "--cores", "1", *TINY], cwd=folder, text=True,
                          capture_output=True)
    folder.chmod(0o755)
    told = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in told
    assert f"{folder}: nothing can be written here" in told


def test_lint_and_format():
    done = snakemake(ROOT, "--lint", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
    done = subprocess.run([BIN / "snakefmt", "--check", "-l", "110", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([BIN / "ruff", "check", "ambient", "tests"], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout




def test_environment_yml_carries_the_pins_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert sorted(pip) == sorted(project["dependencies"])
    assert "python=3.11" in conda and project["requires-python"] == ">=3.11"


def test_every_module_says_what_it_is():
    for path in (ROOT / "ambient").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
