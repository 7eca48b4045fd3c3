"""The manifests decide what is made again: not dates, nor Snakemake's records, nor unused entries."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from base64 import urlsafe_b64encode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from ambient.cluster import adopt
from ambient.cluster.told import Judge
from ambient.provenance import manifest, source_code
from ambient.settings import Experiments
from ambient.settings.asked import Told
from ambient.settings.graph import Graph
from ambient.specs import DatasetSpec, SelectSpec
from ambient.storage.digests import Digests
from ambient.storage.files import read_json, sha256, write_json
from tests import commands
from tests.clones import clone
from tests.test_workflow import TINY, counted, jobs, snakemake

ROOT = Path(__file__).parents[1]
MIXTURE = "results/tiny/mixtures/controlled/blur-0.6/clean-0.2.safetensors"
TARGET = "results/tiny/annotations/controlled/blur-0.6/all.json"
WANTED = (*TINY, "--", TARGET)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy of the repository with three results: prepared images, a mixture, its annotation."""
    folder = clone(tmp_path_factory.mktemp("made"), "tiny")
    snakemake(folder, *WANTED)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A fresh copy of the repository with the results, without Snakemake's records or an order of dates."""
    folder = clone(tmp_path, "tiny")
    shutil.copytree(made / "results", folder / "results")
    for age, path in enumerate(sorted((folder / "results").rglob("*.*"))):
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(folder / MIXTURE)
    return folder


def started(done):
    """The first word of what a run of the workflow said of each job that it started, in order."""
    return re.findall(r"^Job \d+: (\w+)", done.stderr, re.M)


def command(folder, name, *options):
    """What a command said of the results."""
    done = subprocess.run([sys.executable, "-m", "ambient", name, "results/tiny", *options], cwd=folder,
                          text=True, capture_output=True, env=commands.environment(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_a_copied_tree_is_kept_and_a_new_entry_of_a_table_changes_nothing(copied):
    path = copied / "ambient/data/corruptions.py"
    edit(path, "CORRUPTIONS: dict",
         "def sepia(image, rng, *, share):\n    return image\n\n\nCORRUPTIONS: dict")
    edit(path, "contrast)}", "contrast, sepia)}")
    done = snakemake(copied, *WANTED)
    assert "Nothing to be done" in done.stderr and "Kept: the results of 3 jobs" in done.stderr
    assert len(list((copied / ".snakemake/metadata").rglob("*"))) >= 4
    assert jobs(copied, *WANTED) == {}


def test_a_changed_setting_is_named_and_made_again_without_any_record(copied):
    edit(copied / "config/data.yaml", "blur-0.6: {op: gaussian_blur, sigma_px: 0.6}",
         "blur-0.6: {op: gaussian_blur, sigma_px: 0.9}")
    done = snakemake(copied, "-n", "--quiet", "host", *WANTED)
    assert (f"{MIXTURE}: spec.params.sigma_px: made with 0.6, the configuration asks for 0.9"
            in done.stdout + done.stderr)
    assert counted(done.stdout) == {"corrupt": 1, "annotate": 1}
    assert "corrupt" not in jobs(copied, "--rerun-triggers", "mtime", *WANTED)


def test_what_follows_is_kept_where_its_inputs_came_out_equal(copied):
    edit(copied / "ambient/data/corruptions.py", '    need(finite(sigma_px) and sigma_px > 0, "sigma_px"',
         '    # checked\n    need(finite(sigma_px) and sigma_px > 0, "sigma_px"')
    before = (copied / TARGET).stat().st_mtime_ns, sha256(copied / MIXTURE)
    done = snakemake(copied, *WANTED)
    assert "what it is made of came out equal" in done.stderr and "2 of 2 steps" in done.stderr
    assert started(done) == ["corrupt"]  # the annotation is kept without being started
    assert ((copied / TARGET).stat().st_mtime_ns, sha256(copied / MIXTURE)) == before
    assert jobs(copied, *WANTED) == {}
    assert " 0 problems" in command(copied, "audit")


def test_what_follows_a_deleted_file_is_kept_where_it_comes_out_equal(copied):
    prepared = "results/tiny/data/digits.safetensors"
    (copied / prepared).unlink()
    done = snakemake(copied, *WANTED)
    assert started(done) == ["prepare"] and "Made again" not in done.stderr
    assert done.stderr.count("what it is made of came out equal") == 2
    assert jobs(copied, *WANTED) == {}


@pytest.mark.parametrize("read", [False, True])
def test_what_was_pruned_is_made_again_only_where_something_reads_it(copied, read):
    assert "1 files" in command(copied, "prune", "--stages", "corrupt")
    (copied / "ambient/stages/prepare.py").open("a").write("# a remark\n")
    if read:
        (copied / TARGET).unlink()
    done = snakemake(copied, *WANTED)
    assert started(done) == (["prepare", "corrupt", "annotate"] if read else ["prepare"])
    assert (copied / MIXTURE).exists() == read and jobs(copied, *WANTED) == {}
    assert " 0 problems" in command(copied, "audit")


@pytest.mark.parametrize("options", [(), ("--rerun-incomplete",)])
def test_a_whole_file_of_a_killed_head_is_kept_and_half_a_job_is_made_again(copied, options):
    marks = copied / ".snakemake/incomplete"
    marks.mkdir(parents=True)
    for name in (MIXTURE, TARGET):
        (marks / urlsafe_b64encode(name.encode()).decode()).write_text('{"external_jobid": null}')
    half = copied / TARGET.replace(".json", ".safetensors")
    manifest.path_for(half).unlink()
    done = snakemake(copied, *options, *WANTED)
    assert started(done) == ["annotate"] and "1 of 1 steps" in done.stderr
    assert manifest.path_for(half).is_file()
    assert not any(path.is_file() for path in marks.rglob("*"))


def test_a_damaged_result_is_made_again(copied):
    with open(copied / MIXTURE, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    recorded, now = manifest.read(manifest.path_for(copied / MIXTURE))["sha256"], sha256(copied / MIXTURE)
    done = snakemake(copied, "-n", "--quiet", "host", *WANTED)
    assert counted(done.stdout) == {"corrupt": 1, "annotate": 1}
    told = f"{MIXTURE}: sha256: was '{recorded}' when it was made, is '{now}' now"
    assert told in done.stdout + done.stderr
    manifest.path_for(copied / MIXTURE).write_text("{")
    done = snakemake(copied, "-n", *WANTED)
    assert (f"{MIXTURE}: missing: was 'a file and its manifest' when it was made, is 'a file without a "
            "manifest that can be read' now") in done.stdout + done.stderr


PARENT = "two\nlines"
NAME = "my data (1) & 'two' \"3\" $HOME `x` {y};"


@pytest.fixture
def faces(tmp_path):
    """A copy of the repository, and six pictures in a folder whose path means much to a shell."""
    folder, raw = clone(tmp_path / "clone", "demo"), tmp_path / PARENT / NAME
    for number in range(6):
        path = raw / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)  # of equal sizes
    dataset = {"source": "images", "path": str(raw), "num_images": None, "about": None}
    return folder, raw, dataset


def configure(folder, dataset):
    (folder / "config/local.yaml").write_text(yaml.safe_dump({"datasets": {"cifar10": dataset}}))


def test_changes_in_a_raw_folder_are_seen_and_refused_where_it_is_pinned(faces):
    folder, raw, dataset = faces
    target = "results/small/data/cifar10.safetensors"
    configure(folder, dataset)
    snakemake(folder, "--", target)
    assert jobs(folder, "--", target) == {}
    found = read_json(manifest.path_for(folder / target))["external"][0]["sha256"]
    configure(folder, dataset | {"sha256": found})
    snakemake(folder, "--", target)
    picture, times = raw / "0/0.png", (raw / "0/0.png").stat()
    picture.write_bytes((raw / "1/5.png").read_bytes())
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = snakemake(folder, "--", target, check=False)
    assert done.returncode and f"the configuration's sha256 is {found}" in done.stderr
    assert (folder / target).is_file()  # what was made of the pinned data is not thrown away
    configure(folder, dataset)
    assert jobs(folder, "--", target) == {"prepare": 1}


def test_missing_raw_data_are_refused_before_anything_runs(faces):
    folder, raw, dataset = faces
    configure(folder, dataset | {"path": str(raw) + "gone"})
    done = snakemake(folder, "--", "results/small/data/cifar10.safetensors", check=False)
    assert done.returncode and "no such file or folder" in done.stderr and "Execute" not in done.stderr


def test_every_file_from_outside_is_compared_with_what_was_read(tmp_path, monkeypatch):
    """Photographs are read with a second file, the list of the good ones. The specification stays equal."""
    monkeypatch.chdir(tmp_path)
    photos, rule, out = (tmp_path / name for name in ("photos", "good.txt", "out.safetensors"))
    photos.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    rule.write_text("0.png\n1.png\n")
    spec = DatasetSpec("photos", 8, 3, crop="centre", select=SelectSpec(by="list"))
    subprocess.run(commands.stage("prepare", spec, raw=photos, rule=rule, state=tmp_path / "state", out=out),
                   check=True, env=commands.environment(ROOT))
    job = SimpleNamespace(output=[out], input=[])

    def changed():
        told = Told("prepare", spec, None, (photos, rule))
        return [one.key for _, one in Judge(lambda _: told).differences(job, told)]

    assert changed() == []
    rule.write_text("0.png\n2.png\n")
    assert changed() == [f"raw data {rule}"]
    (photos / "3.png").unlink()
    assert changed() == [f"raw data {photos}", f"raw data {rule}"]


@pytest.fixture
def judged(copied, monkeypatch):
    """The job that makes the mixture, what it is told, and its verdict by a judge of a later run."""
    monkeypatch.chdir(copied)
    graph = Graph(Experiments("config", "tiny"))
    node = graph.maker(MIXTURE)
    job = SimpleNamespace(output=list(graph.writes(node).values()), input=sum(graph.reads(node).values(), []))
    told = Told(node.kind, graph.asks(node))

    def verdict(told=told):
        judge = Judge(lambda _: told)
        found = judge.differences(job, told)
        judge.digests.save()
        return [one.key for _, one in found]

    assert verdict() == []
    return job, told, verdict


def test_by_other_code_a_job_is_read_again(judged, monkeypatch):
    job, told, _ = judged
    before = Judge(lambda _: told).state(job, told)
    assert before == Judge(lambda _: told).state(job, told)
    monkeypatch.setattr(source_code, "PACKAGE", Path("ambient"))  # of the copy
    assert before == Judge(lambda _: told).state(job, told)
    for name in ("provenance/merkle.py", "specs/stage.py", "storage/digests.py", "settings/layers.py"):
        path = Path("ambient", name)
        path.write_text(path.read_text() + "# other\n")
        assert before != (before := Judge(lambda _: told).state(job, told))


def test_jobs_that_are_as_asked_are_found_without_their_parameters(copied):
    """Snakemake would work them out for the environments of conda, which don't depend on them."""
    edit(copied / "ambient/cluster/rules.py", "to_json(self.asks(kind, wildcards))", "1 / 0")
    assert jobs(copied, *WANTED) == {}


def test_a_job_that_was_as_asked_is_not_read_again(judged, monkeypatch):
    job, _, verdict = judged
    monkeypatch.setattr(manifest, "read", lambda path: pytest.fail(f"{path} is read"))
    assert verdict() == []
    os.utime(job.output[0], (1e9, 1e9))
    with pytest.raises(pytest.fail.Exception, match=r"clean-0.2.safetensors.* is read"):
        verdict()


@pytest.mark.parametrize("what", ["output", "input", "manifest", "spec", "code", "input gone", "output gone"])
def test_whatever_changes_later_is_seen(what, judged):
    job, told, verdict = judged
    output, (source,) = Path(job.output[0]), map(Path, job.input)
    wanted = {"spec": dataclasses.replace(told, spec=dataclasses.replace(told.spec, seed=told.spec.seed + 1)),
              "code": dataclasses.replace(told, code={})}
    if what in ("output", "input"):
        path = output if what == "output" else source
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif what == "manifest":
        edit(manifest.path_for(output), '"stage": "ambient.corrupt"', '"stage": "ambient.prepare"')
    elif what in ("input gone", "output gone"):
        (source if what == "input gone" else output).unlink()
    expected = {"output": "sha256", "input": f"input {source}", "manifest": "missing", "spec": "spec.seed",
                "input gone": f"input {source}", "output gone": "missing"}
    found = verdict(wanted.get(what, told))
    assert all(key.startswith("code ") for key in found) if what == "code" else found == [expected[what]]
    assert found


def test_digests_are_kept_as_long_as_a_file_stands_still(tmp_path):
    path, store = tmp_path / "x", tmp_path / "store.json"
    path.write_text("one")
    digests = Digests(store)
    assert digests.of(path) == sha256(path)
    digests.save()
    found = read_json(store)
    found[str(path)][1] = "kept"
    write_json(store, found)
    assert Digests(store).of(path) == "kept"
    times = path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Digests(store).of(path) == sha256(path)
    for damaged in ("damaged", "[1]", '{"a": NaN}', "[" * 100_000):
        store.write_text(damaged)
        again = Digests(Path(store))
        assert again.of(path) == sha256(path)
        again.save()
        assert list(read_json(store)) == [str(path)]
    store.unlink()
    os.mkfifo(store)
    assert Digests(store).of(path) == sha256(path)


def test_a_run_in_another_folder_puts_its_results_there_and_commands_know_the_repositorys_settings(tmp_path):
    folder, place = clone(tmp_path / "code", "tiny"), tmp_path / "else where"
    place.mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)  # the doctor reads it
    snakemake(folder, "--directory", place, *WANTED)
    assert not (folder / "results").exists() and (place / TARGET).is_file()
    assert jobs(folder, "--directory", place, *WANTED) == {}

    def said(*words):
        done = subprocess.run([sys.executable, "-m", "ambient", *words], cwd=place, text=True,
                              capture_output=True, env=commands.environment(folder))
        return done.stdout + done.stderr

    assert "4 artefacts, level 3: 1, level 2: 3; 0 problems" in said("audit", "results/tiny")
    assert f"needed in {place / 'results'}" in said("doctor", "tiny")
    assert str(folder / "config/scales/tiny.yaml") in said("spec", "ambient-blur-0.6", "tiny")


@pytest.mark.parametrize(("outputs", "asked"), [
    (["results/a.csv", "results/a/b.csv", "results/a.csv.d/c"], 0), (["results/a", "results/a/b/c.csv"], 1)])
def test_snakemake_compares_outputs_where_one_lies_below_another(monkeypatch, outputs, asked):
    calls = []
    monkeypatch.setattr(adopt.Touching, "check_directory_outputs", lambda self: calls.append(self))
    monkeypatch.setattr(adopt.Adopting, "jobs", [SimpleNamespace(output=[path]) for path in outputs])
    adopt.Adopting.__new__(adopt.Adopting).check_directory_outputs()
    assert len(calls) == asked
