"""The literal profile on a real SLURM: a table in spite of faults, equal bytes, little work done twice."""

import contextlib
import json
import os
import shutil
import subprocess

import pytest

from ambient.storage.files import read_arrays, sha256
from tests.slurm import workflows
from tests.slurm.cluster import Cluster, missing

pytestmark = [pytest.mark.minutes, pytest.mark.skipif(missing() is not None, reason=str(missing()))]
SHORT = [f"results/mini/runs/{run}/seed-0/denoiser.safetensors" for run in ("short", "latent")]
LIMIT = 1800  # seconds before a workflow is given up: on a slow processor too it ends sooner


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The miniature table, run here without SLURM and without a fault."""
    folder = workflows.clone(tmp_path_factory.mktemp("local"))
    head = workflows.snakemake(folder, ["--cores", "2", "results/mini/table2a.csv", *SHORT], dict(os.environ))
    workflows.finished(head, folder, LIMIT)
    return folder


def test_table_through_the_literal_profile_with_faults(cluster, local, tmp_path):
    """Cancelled, doubled, killed, over its time limit, put back, its node lost; the controller restarted."""
    folder = workflows.clone(tmp_path / "slurm")
    head = workflows.snakemake(folder, [*workflows.PROFILE, "results/mini/table2a.csv", *SHORT],
                               cluster.environment())
    faults = workflows.strike(cluster, folder, head, len(workflows.FAULTS), local)
    workflows.finished(head, folder, LIMIT)
    assert [kind for kind, _, _ in faults] == list(workflows.FAULTS)
    assert workflows.digests(folder) == workflows.digests(local)
    facts = workflows.trainings(folder)
    assert set(facts) == {f"{run}/seed-0" for run in (
        "only-clean", "all-data-blur-0.6", "ambient-blur-0.6", "short", "latent")}
    whole, repeated = 0, 0
    for found in facts.values():
        assert found["attempts"][0]["from_nimg"] == 0
        assert all({"job_id", "node", "gpus"} <= set(attempt) for attempt in found["attempts"])
        whole, repeated = whole + found["images_seen"], repeated + found["repeated_images"]
    # The second copy ends no job, and a job may end just before it is hit.
    assert sum(found["resumptions"] for found in facts.values()) >= 1
    assert whole == (3 * workflows.steps() + 2 * 20) * workflows.BATCH
    # What can't be saved: a killed stage and a lost node, up to 2 s of work each.
    assert repeated / whole < 0.25, facts
    jobs = cluster.jobs()
    assert {attempt["node"] for found in facts.values() for attempt in found["attempts"]} <= {"n1", "n2"}
    for job in jobs:
        heavy = any(f"rule_{rule}_" in job["comment"]
                    for rule in ("train", "sample", "classifier", "evaluate"))
        light = any(name in job["comment"] for name in ("rule_prepare", "mixtures", "tables"))
        assert (job["gpus"] == "gres:gpu:1") >= heavy and not (job["gpus"] and light), job
        assert not heavy or job["cpus"] == "2", job  # cores beside a GPU, by the site's settings
    manifest = json.loads((folder / "results/mini/runs/only-clean/seed-0/samples.safetensors.manifest.json"
                           ).read_text())
    assert {"job_id", "node", "gpus"} <= set(manifest["execution"]["scheduler"])


def without(local, folder, *trainings):
    """A copy of the local tree in which trainings (run/seed) are to be made again; the command for it."""
    shutil.copytree(local, folder, symlinks=True)
    for training in trainings:
        shutil.rmtree(folder / f"results/mini/runs/{training}")
    return [*workflows.PROFILE, "--rerun-triggers", "mtime", "--",
            *(f"results/mini/runs/{training}/denoiser.safetensors" for training in trainings)]


def assert_made_once(local, folder, training):
    """The bytes of the local tree, by one attempt."""
    facts = workflows.trainings(folder)[training]
    assert facts["resumptions"] == facts["repeated_images"] == 0
    for name in ("denoiser.safetensors", "loss.jsonl"):
        path = f"results/mini/runs/{training}/{name}"
        assert sha256(folder / path) == sha256(local / path)


def test_a_full_disk_is_waited_for(cluster, local, tmp_path):
    """The file system of a training's state fills up while it runs: nothing lost, nothing done twice."""
    folder, training = tmp_path / "full", "all-data-blur-0.6/seed-0"
    arguments, state = without(local, folder, training), folder / f"results/.state/mini/runs/{training}"
    state.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", state]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        head = workflows.snakemake(folder, arguments, cluster.environment())
        cluster.wait_for(lambda: workflows.position(folder, training, "mini") > 0, "the training to begin")
        log = folder / "results/mini/logs/train/all-data-blur-0.6-seed-0.log"

        def complains():
            with open(state / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
                while True:  # what a checkpoint that was given up has freed is taken too
                    filler.write(bytes(1024))
            return "nothing is lost while this waits" in log.read_text()

        cluster.wait_for(complains, "the training to find its disk full")
        (state / "filler").unlink()
        workflows.finished(head, folder, LIMIT)
    finally:
        subprocess.run(["umount", "-l", state], check=False)
    assert_made_once(local, folder, training)


def test_the_head_dies_and_is_started_again(cluster, local, tmp_path):
    """After `--unlock` the same command goes on, beside the job that still works."""
    folder, training = tmp_path / "head", "only-clean/seed-0"
    arguments = without(local, folder, training)
    head = workflows.snakemake(folder, arguments, cluster.environment())
    cluster.wait_for(lambda: workflows.position(folder, training, "mini") > 0, "the training to begin")
    head.kill()
    head.wait()
    unlock = workflows.snakemake(folder, ["--profile", "slurm", "--unlock"], cluster.environment())
    workflows.finished(unlock, folder, LIMIT)
    workflows.finished(workflows.snakemake(folder, arguments, cluster.environment()), folder, LIMIT)
    assert_made_once(local, folder, training)


def test_two_ranks_on_two_nodes_train_what_one_does(cluster, local, tmp_path):
    """`nodes: 2` in the site file: srun starts a rank on each node; weights differ by rounding alone."""
    folder = tmp_path / "two"
    arguments = without(local, folder, "short/seed-0", "latent/seed-0")
    (folder / "config/site.yaml").write_text("gpus: 0\ncpu_ranks: 2\nnodes: 2\n")
    workflows.finished(workflows.snakemake(folder, arguments, cluster.environment()), folder, LIMIT)
    assert [job["nodes"] for job in cluster.jobs() if "train" in job["comment"]].count("n[1-2]") >= 2
    for path in SHORT:
        alone, together = (read_arrays(clone / path) for clone in (local, folder))
        difference = [abs(alone[name] - together[name]).max() for name in alone]
        assert 0 < max(difference) < 1e-4, path
