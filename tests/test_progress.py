"""Progress lines name their job, come once a minute, and add up to when all will be done."""

import json
import time
from pathlib import Path
from types import SimpleNamespace

import commands
import pytest
from raw_images import encoded, make_folder, noisy

from ambient.cluster import overview, rules
from ambient.cluster.site import Site
from ambient.cluster.work import Work
from ambient.jobs import progress, stage, stopping
from ambient.jobs.progress import Progress
from ambient.specs import DatasetSpec
from ambient.specs.stages import STAGES
from ambient.stages import prepare


@pytest.mark.parametrize(("target", "name"), [
    ("results/demo/runs/ambient-blur-0.6/seed-0/denoiser.safetensors", "ambient-blur-0.6 seed 0"),
    ("/data/results/demo/runs/x/seed-12/samples.safetensors", "x seed 12"),
    ("results/demo/classifiers/controlled/blur-0.6/balanced.safetensors", "controlled blur-0.6 balanced"),
    ("results/demo/mixtures/controlled/none/clean-0.01.safetensors", "controlled none clean-0.01"),
    ("elsewhere/denoiser.safetensors", "")])
def test_a_place_in_the_tree_names_the_job(target, name):
    assert progress.label(Path(target)) == name


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test moves on by itself."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute_and_one_at_the_end_by_name(tmp_path, capsys, clock, monkeypatch):
    monkeypatch.setattr(progress, "_job", [])
    progress.begin(tmp_path / "results/demo/runs/x/seed-0/denoiser.safetensors")
    made = Progress("train", 1000)
    for second in range(1, 201):
        clock[0] = second
        made.update(5 * second, loss=0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"train x seed 0: {n:,}/1,000 images  5/s  ETA {left}  loss 0.5" for n, left in (
        (300, "2 min"), (600, "80 s"), (900, "20 s"), (1000, "0 s"))]
    [path] = (tmp_path / "results/.state/progress").glob("*")
    found = json.loads(path.read_text())
    assert found["name"] == "train x seed 0" and found["done"] == found["total"] == 1000


def test_the_rate_is_without_what_was_there_before(capsys, clock):
    """Of 1,000 images 940 in three parts were there: the other 60 are made by one a second."""
    made = Progress("sample", 1000)
    made.skip_to(800)
    for second in range(1, 51):
        clock[0] = second
        made.update(800 + second)
    made.skip_to(950)
    clock[0] = 60
    made.update(960)
    made.skip_to(1000)
    assert capsys.readouterr().err.splitlines() == ["sample: 960/1,000 images  1/s  ETA 40 s",
                                                    "sample: 1,000/1,000 images  1/s  ETA 0 s"]


def test_the_whole_takes_as_long_for_the_rest_as_for_what_is_done():
    jobs = {"a.json": (30.0, True), "b.json": (60.0, False), "c.json": (110.0, False)}
    said = {"b.json": {"name": "train b seed 0", "done": 10, "total": 60, "rate": 1, "time": 0}}
    assert overview.summary(jobs, said, 600) == (
        "Overall: 1 of 3 jobs, 20% of the work, about 40 min left; train b seed 0 17%")
    assert overview.summary(jobs | {"a.json": (0.1, True)}, {}, 5) == (
        "Overall: 1 of 3 jobs, 0% of the work, time left unknown; no job reports progress (queued, or short)")


@pytest.mark.parametrize(("local", "driver", "minutes"), [
    (True, False, 2.0), (True, True, 0.01), (False, False, 0.01)])
def test_a_share_of_the_work_is_of_the_machine_that_does_it(local, driver, minutes, monkeypatch, tmp_path):
    """12e12 operations at 0.1 Tflop/s of a CPU, or at 20 of a GPU."""
    monkeypatch.setattr(rules.manifest, "DRIVER", tmp_path if driver else tmp_path / "none")
    requests = SimpleNamespace(site=Site(gpus=4, nodes=2), work=lambda kind, wildcards: Work(12e12, gpu=True))
    told = SimpleNamespace(requests=requests, workflow=SimpleNamespace(local_exec=local))
    job = SimpleNamespace(rule=SimpleNamespace(name="train"), wildcards=None)
    assert rules.Rules.share(told, job) == pytest.approx(minutes)


def test_what_jobs_say_is_read_if_it_is_of_this_run(tmp_path):
    folder = tmp_path / progress.FOLDER
    folder.mkdir(parents=True)
    for name, when in (("old.json", 5.0), ("new.json", time.time())):
        (folder / name).write_text(json.dumps({"time": when, "name": name, "done": 1, "total": 2}))
    (folder / "cut.json").write_text('{"ti')
    assert list(overview.running(tmp_path, 10.0)) == ["new.json"]


def test_the_file_of_a_job_goes_when_the_job_ends(tmp_path, monkeypatch):
    """With its folder, unless another job is at work. That of a job that was stopped stays."""
    monkeypatch.chdir(tmp_path)
    raw = make_folder(tmp_path / "raw", {f"{i}.png": encoded(noisy(i, 8, 8)) for i in range(3)})
    spec, folder = DatasetSpec("images", 8, 3), Path("results/.state/progress")

    def run(name):
        line = commands.stage("prepare", spec, raw=raw, state=f"results/.state/{name}",
                              out=f"results/demo/data/{name}.safetensors")
        options = [str(word) for word in line[line.index("prepare") + 1:]]
        stage.begin(STAGES["prepare"], options).run(prepare.main)

    with monkeypatch.context() as patch:
        patch.setattr(stopping, "reason", lambda: "told")
        with pytest.raises(SystemExit):
            run("a")
    left = [path.name for path in folder.iterdir()]
    assert left == ["demo-data-a.safetensors.json"]
    run("b")
    assert [path.name for path in folder.iterdir()] == left
    run("a")
    assert not folder.exists() and Path("results/demo/data/a.safetensors").exists()


@pytest.mark.parametrize(("seconds", "text"), [
    (3, "3 s"), (99, "99 s"), (600, "10 min"), (12_000, "3 h 20 min"), (800_000, "9 days"),
    (float("inf"), "unknown")])
def test_durations_are_said_as_a_person_does(seconds, text):
    assert progress.spoken(seconds) == text
