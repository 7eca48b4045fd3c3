"""Two copies of a job that has no state, one that was killed, and two runs of one tree: each ends well."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from snakemake.jobs import Job

from ambient.cluster import replaced
from ambient.provenance import manifest
from ambient.storage.files import sha256
from tests import additions, commands
from tests.clones import clone
from tests.test_stage_runner import ROOT, TOY
from tests.test_workflow import BIN, TINY, jobs, snakemake

# It writes its output and, where it finds `hold`, begins another file and waits until `hold` is gone.
CODE = '''"""Stage: upper case."""

import time

from ambient.storage.files import atomic


def main(spec, record, *, data, out):
    out.write_text(data.read_text().upper())
    with atomic(out) as temporary:
        temporary.write_text(data.read_text().upper())
        while data.with_name("hold").exists():
            time.sleep(0.01)
    if spec.P_mean > 1:
        raise ValueError("P_mean is too large here")
'''
SPEC = '{"P_mean": 0, "P_std": 1}'


@pytest.fixture
def start(tmp_path):
    """Starts a copy of a stage `ambient.toy`, which upper-cases `in.txt`."""
    shutil.copytree(ROOT / "ambient", tmp_path / "ambient", ignore=shutil.ignore_patterns("__pycache__"))
    additions.add_stage(tmp_path, "toy", TOY, CODE, "from ambient.specs import NoiseSpec")
    (tmp_path / "in.txt").write_text("abc")

    def started(*options, spec=SPEC):
        # Where the tests themselves run in the background of a script, SIGINT would be ignored.
        return subprocess.Popen([*commands.stage("toy", spec, data="in.txt", out="out.txt"), *options],
                                cwd=tmp_path, env=commands.environment(tmp_path), stderr=subprocess.PIPE,
                                text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return started


def ended(process):
    """(exit status, what it said)."""
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def wait_for(there):
    until = time.monotonic() + 60
    while not there():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


@pytest.fixture
def held(start, tmp_path):
    """A copy in the middle of its work."""
    (tmp_path / "hold").touch()
    process = start()
    wait_for(lambda: list(tmp_path.glob(".out.txt.*.txt")))
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


def hidden(folder):
    return sorted(path.name for path in folder.glob(".out.txt*"))


def test_a_second_copy_waits_and_does_nothing(held, start, tmp_path):
    second = start()
    wait_for(lambda: second.stderr.readline().endswith("gives no sign of life for 90 s\n"))
    (tmp_path / "hold").unlink()
    assert ended(held) == (0, "")
    before = (tmp_path / "out.txt.manifest.json").read_bytes()
    assert ended(second) == (0, "ambient.toy: another copy of this job has just made out.txt; nothing left "
                                "to do\n")
    assert (tmp_path / "out.txt.manifest.json").read_bytes() == before and not hidden(tmp_path)
    assert ended(start()) == (0, "ambient.toy: out.txt is whole and was made by this very job; nothing left "
                                 "to do\n")
    (tmp_path / "in.txt").write_text("other")
    assert ended(start()) == (0, "") and (tmp_path / "out.txt").read_text() == "OTHER"


def test_what_a_killed_copy_leaves_is_written_over_where_it_is_said(held, start, tmp_path):
    held.kill()
    held.communicate()
    (tmp_path / "hold").unlink()
    assert len(hidden(tmp_path)) == 2  # its lock, and half a file
    status, said = ended(start())
    assert status == 1 and "out.txt: is there and has no manifest" in said
    assert ended(start("--replace")) == (0, "")
    assert manifest.read(tmp_path / "out.txt.manifest.json")["sha256"] == sha256(tmp_path / "out.txt")
    assert not hidden(tmp_path)


@pytest.mark.parametrize(("number", "status", "said"), [
    (signal.SIGTERM, 143, "ambient.toy: ended by SIGTERM\n"),
    (signal.SIGINT, 130, "ambient.toy: interrupted\n")])
def test_one_that_is_told_to_end_leaves_nothing(held, tmp_path, number, status, said):
    held.send_signal(number)
    assert ended(held) == (status, said)
    assert not hidden(tmp_path) and not (tmp_path / "out.txt").exists()


def test_one_that_fails_leaves_nothing_but_what_was_there(start, tmp_path):
    bad = '{"P_mean": 2, "P_std": 1}'
    assert ended(start(spec=bad))[0] == 1 and not (tmp_path / "out.txt").exists()
    (tmp_path / "out.txt").write_text("mine")
    assert ended(start("--replace", spec=bad))[0] == 1 and (tmp_path / "out.txt").exists()
    assert ended(start("--replace")) == (0, "")
    assert ended(start(spec=bad))[0] == 1 and (tmp_path / "out.txt").exists()


# --- of the workflow ------------------------------------------------------------------------------------

TARGET = "results/tiny/annotations/controlled/blur-0.6/all.json"
WANTED = (*TINY, "--", TARGET)


def run(folder, *arguments):
    """Snakemake, started in a folder."""
    return subprocess.Popen([BIN / "snakemake", "--cores", "1", *arguments], cwd=folder, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                            env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"})


def made(folder):
    """Artefact -> when it was made."""
    return {path: manifest.read(path)["execution"]["started"]
            for path in (folder / "results/tiny").rglob("*.manifest.json")}


def audited(folder):
    done = subprocess.run([BIN / "python", "-m", "ambient", "audit", "results/tiny"], cwd=folder, text=True,
                          capture_output=True, env=commands.environment(folder))
    return done.stdout


def test_two_checkouts_that_share_results_do_everything_once(tmp_path):
    folders = [clone(tmp_path / name, "tiny") for name in ("one", "two")]
    (folders[0] / "results").mkdir()
    (folders[1] / "results").symlink_to(folders[0] / "results")
    runs = [run(folder, *WANTED) for folder in folders]
    said = [one.communicate(timeout=600)[0] for one in runs]
    assert [one.returncode for one in runs] == [0, 0], said
    works = Counter(line.split(":")[0] for text in said for line in text.splitlines()
                    if "nothing left to do" in line)
    assert works, said  # what one made the other did not make again
    assert " 0 problems" in audited(folders[0])


def test_another_run_of_the_command_whose_head_was_killed_waits_for_what_still_works(tmp_path):
    folder = clone(tmp_path, "tiny")
    first = run(folder, *WANTED)
    holder = re.compile(r"^pid=(\d+)$", re.M)

    def holders():
        return [int(found[1]) for path in folder.glob("results/.state/tiny/data/*.lock")
                if (found := holder.search(path.read_text()))]

    wait_for(holders)
    (job,) = holders()
    os.kill(job, signal.SIGSTOP)
    try:
        first.kill()  # its jobs live on
        first.wait()
        second, said = run(folder, *WANTED), ""
        while "gives no sign of life" not in said:
            said = second.stdout.readline()
            assert said and second.poll() is None
    finally:
        os.kill(job, signal.SIGCONT)
    assert "another copy of this job has just made" in second.communicate(timeout=600)[0]
    assert second.returncode == 0
    first.communicate(timeout=60)
    assert jobs(folder, *WANTED) == {} and " 0 problems" in audited(folder)


def test_what_is_asked_for_once_more_is_made_once_more(tmp_path):
    folder = clone(tmp_path, "tiny")
    snakemake(folder, *WANTED)
    before = made(folder)
    mixture = folder / "results/tiny/mixtures/controlled/blur-0.6/clean-0.2.safetensors"
    time.sleep(1.1)  # manifests tell seconds
    snakemake(folder, "-R", "corrupt", *WANTED)
    after = made(folder)
    assert {path for path in before if before[path] != after[path]} == {manifest.path_for(mixture)}
    assert (folder / "results/tiny/logs/corrupt").is_dir() and " 0 problems" in audited(folder)
    assert list((folder / "results/tiny/logs/corrupt").glob("*.log.1"))


def test_a_failed_job_is_not_taken_for_done_whatever_is_looked_for(tmp_path):
    folder = clone(tmp_path, "tiny")
    snakemake(folder, *WANTED)
    settings, stage = folder / "config/data.yaml", folder / "ambient/stages/corrupt.py"
    text = settings.read_text()
    assert text.count("sigma_px: 0.6}") == 1
    settings.write_text(text.replace("sigma_px: 0.6}", "sigma_px: 0.61}"))
    code = stage.read_text()
    stage.write_text(code + "\n\ndef main(*arguments, **files):\n    raise ValueError('not today')\n")
    done = snakemake(folder, *WANTED, check=False)
    assert done.returncode == 1 and "ambient.corrupt: error: not today" in done.stdout + done.stderr
    stage.write_text(code)
    assert jobs(folder, "--rerun-triggers", "mtime", *WANTED) == {"corrupt": 1, "annotate": 1}


# A cluster of this machine: each job, or group of jobs, is run by a Snakemake of its own.
EXECUTOR = """
import subprocess

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False,
    pass_default_storage_provider_args=True, pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=True, auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1)


class Executor(RemoteExecutor):
    def __post_init__(self):
        self.running = {}

    def run_job(self, job):
        process = subprocess.Popen(self.format_job_exec(job), shell=True)
        self.running[str(process.pid)] = process
        self.report_job_submission(SubmittedJobInfo(job, external_jobid=str(process.pid)))

    async def check_active_jobs(self, active_jobs):
        for info in active_jobs:
            status = self.running[info.external_jobid].poll()
            if status is None:
                yield info
            elif status == 0:
                self.report_job_success(info)
            else:
                self.report_job_error(info)

    def cancel_jobs(self, active_jobs):
        for info in active_jobs:
            self.running[info.external_jobid].terminate()
"""


def test_what_follows_in_one_group_names_the_manifest_that_was_written_anew(tmp_path, monkeypatch):
    folder = clone(tmp_path, "tiny")
    plugin = tmp_path / "plugins/snakemake_executor_plugin_nearby/__init__.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(EXECUTOR)
    snakemake(folder, *WANTED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugins"))
    done = snakemake(folder, "--executor", "nearby", "--jobs", "1", "--groups", "prepare=g", "corrupt=g",
                     "-R", "prepare", *WANTED)
    assert "clean-0.2.safetensors is whole and was made by this very job" in done.stdout + done.stderr
    assert " 0 problems" in audited(folder)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """What is asked of a Snakemake job, which has made a file; and the jobs that were marked as begun."""
    for name in ("remove_existing_output", "cleanup"):
        monkeypatch.setattr(Job, name, getattr(Job, name))
    monkeypatch.setattr(replaced, "REMOVE", lambda job: job.dag.workflow.removed())
    monkeypatch.setattr(replaced, "CLEAN_UP", lambda job, kept: job.dag.workflow.removed())
    (tmp_path / "out").write_text("made")
    begun, gone = [], []

    async def removed():
        gone.append("by Snakemake")

    workflow = SimpleNamespace(removed=removed,
                               persistence=SimpleNamespace(path=tmp_path, started=begun.append))
    output = [str(tmp_path / "out")]
    return SimpleNamespace(output=output, dag=SimpleNamespace(workflow=workflow)), begun, gone


def test_a_stages_output_goes_when_a_job_starts_that_is_asked_for_once_more(job, tmp_path):
    one, begun, gone = job
    replaced.leave(lambda job: True)

    def start():
        asyncio.run(Job.remove_existing_output(one))
        return (tmp_path / "out").exists()

    replaced.note(one, False)
    assert start()
    replaced.note(one, True)
    assert (tmp_path / "out").exists()  # the job may be submitted now, and start tomorrow
    replaced.note(one, False)
    assert start()  # a later run asks for it as ever
    replaced.note(one, True)
    assert not start() and not list((tmp_path / replaced.MARKS).iterdir())
    (tmp_path / "out").write_text("made")
    assert start()  # its second attempt
    asyncio.run(Job.cleanup(one, []))
    assert (tmp_path / "out").exists() and begun == [one] and not gone


def test_the_outputs_of_what_is_no_stage_are_snakemakes(job):
    one, begun, gone = job
    replaced.leave(lambda job: False)
    asyncio.run(Job.remove_existing_output(one))
    asyncio.run(Job.cleanup(one, []))
    assert len(gone) == 2 and not begun
