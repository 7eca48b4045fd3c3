"""A clone of the repository with a miniature scale; its runs, locally and through SLURM; and faults."""

from __future__ import annotations

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import torch

import ambient
from tests import clones

BIN = Path(sys.executable).parent
BATCH = 32
# The literal profile; jobs of seconds are looked at sooner than those of hours.
PROFILE = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"]
RESULT = (".safetensors", ".weights", ".csv", "metrics.json", "loss.jsonl")


def miniature() -> str:
    """The scale `mini`: Table 2a with trainings that last, and two short ones."""
    return f"""
extends: tiny
studies:
  controlled:
    training:
      optimiser: {{nimg: {steps() * BATCH}, batch: {BATCH}}}
      snapshots: [{steps() * BATCH}]
  latent:  # EDM2's network and loss, on latents
    like: controlled
    encoder: blocks
    classifier: {{augment: {{transforms: []}}}}
    training:
      network: {{kind: mp_unet, model_channels: 8, channel_mult: [1, 2], num_blocks: 1, attn_resolutions: [],
                channels_per_head: 8, dropout: 0.0, conditional: true}}
      loss: {{uncertainty: true}}
      optimiser: {{decay: inverse_sqrt, decay_nimg: {5 * BATCH}, ema_stds: [0.05, 0.1]}}
      augment: {{transforms: []}}
encoders:
  blocks: {{kind: block_pca, block: 2, numbers: 4}}
runs:  # of twenty steps: rounding has no time to grow
  short: &short {{study: controlled, corruption: none, annotation: clean,
                 training: {{optimiser: {{nimg: {20 * BATCH}}}, snapshots: [{20 * BATCH}]}}}}
  latent: {{<<: *short, study: latent}}
"""


@cache
def steps() -> int:
    """Steps of a training that lasts about half a minute on a free core of this machine, or 1,000.

    A fault must find it at work on a fast processor, and a slow one must come to its end.
    """
    network = ambient.UNet(resolution=16, channels_in=1, channels_out=1, model_channels=8,
                           channel_mult=[1, 2], num_blocks=1, attn_resolutions=[], dropout=0,
                           generator=torch.Generator().manual_seed(0))
    fastest = math.inf
    for _ in range(5):
        begun = time.perf_counter()
        network(torch.zeros(BATCH, 1, 16, 16), torch.ones(BATCH)).sum().backward()
        fastest = min(fastest, time.perf_counter() - begun)
    return max(100, min(1000, round(30 / fastest)))


def clone(folder: Path) -> Path:
    """The repository's files, with the miniature as scale `mini`."""
    clones.clone(folder, "tiny")
    (folder / "config/scales/mini.yaml").write_text(miniature())
    (folder / "config/config.yaml").write_text("scale: mini\nthreads: 1\n")
    return folder


def snakemake(folder: Path, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen:
    """Start the workflow of a clone; its output goes to `head.log` there."""
    environment = {"AMBIENT_CHECKPOINT_SECONDS": "2"} | environment
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    with open(folder / "head.log", "ab") as log:
        return subprocess.Popen([BIN / "snakemake", *arguments], cwd=folder, env=environment, stdout=log,
                                stderr=log)


def finished(head: subprocess.Popen, folder: Path, seconds: float) -> None:
    """Wait for a workflow; raises `AssertionError` with the end of its output where it failed."""
    status = head.wait(timeout=seconds)
    assert status == 0, (folder / "head.log").read_text(errors="replace")[-8000:]


def digests(folder: Path, scale: str = "mini") -> dict[str, str]:
    """Relative path -> SHA-256 of every result of a scale, from the files themselves."""
    import hashlib

    found = {}
    for path in sorted((folder / "results" / scale).rglob("*")):
        if path.is_file() and path.name.endswith(RESULT):
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def trainings(folder: Path, scale: str = "mini") -> dict[str, dict]:
    """Run/seed -> facts of the training's manifest."""
    return {path.parent.relative_to(folder / "results" / scale / "runs").as_posix():
            json.loads(path.read_text())["facts"]
            for path in (folder / "results" / scale).glob("runs/*/*/denoiser.safetensors.manifest.json")}


def position(folder: Path, training: str, scale: str) -> int:
    """Images seen, by the loss log, of a training (run/seed) that has not finished; 0 before it began."""
    last = 0
    for log in folder.glob(f"results/.state/{scale}/runs/{training}/train/*/loss.jsonl"):
        for line in log.read_text(errors="replace").splitlines():
            try:
                last = max(last, json.loads(line)["nimg"])
            except (ValueError, KeyError):
                continue
    return last


def processes(cluster, node: str = "", job: str = "", stage: str = "") -> list[int]:
    """Ids of this cluster's processes on a node, or of a job, or of its stage."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        wanted = [f"SLURM_CONF={cluster.conf}"] + [f"SLURMD_NODENAME={node}"] * bool(node)
        wanted += [f"SLURM_JOB_ID={job}"] * bool(job)
        if all(text.encode() in environment for text in wanted) and (not stage or f"{stage} --spec" in line):
            found.append(int(folder.name))
    return found


def keepers(cluster, node: str) -> list[int]:
    """SLURM's own processes that keep the jobs of a node."""
    jobs = tuple(f"slurmstepd: [{job['id']}." for job in cluster.jobs() if job["nodes"] == node)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if jobs and (folder / "cmdline").read_text(errors="replace").startswith(jobs) and (
                    f"SLURM_CONF={cluster.conf}".encode() in (folder / "environ").read_bytes()):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def end(ids: list[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes that may be gone already."""
    for pid in ids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def cancel(cluster, job: dict) -> None:
    """scancel: SIGTERM, then SIGKILL after KillWait."""
    cluster.run("scancel", job["id"])


def kill_stage(cluster, job: dict) -> None:
    """SIGKILL to the training process itself."""
    end(processes(cluster, job=job["id"], stage="run train"))


def requeue(cluster, job: dict) -> None:
    """What a preemption with requeue does."""
    cluster.run("scontrol", "requeue", job["id"])


def cut(cluster, job: dict) -> None:
    """The time limit turns out to be over: told to stop at once, ended at the controller's next sweep."""
    cluster.run("scontrol", "update", f"JobId={job['id']}", "TimeLimit=1")


def double(cluster, job: dict) -> None:
    """The same job submitted a second time while the first is at work."""
    script = cluster.lab / f"again-{job['id']}.sh"
    script.write_text(cluster.run("scontrol", "write", "batch_script", job["id"], "-"))
    folder = re.search(r"WorkDir=(\S+)", cluster.run("scontrol", "show", "job", job["id"]))[1]
    cluster.run("sbatch", "--gpus=1", "--mem=4000", f"--chdir={folder}", f"--output={script}.log",
                str(script))


def kill_node(cluster, job: dict) -> None:
    """The node dies with everything on it, and is back after SLURM has noticed.

    The job tells, not the node's state: after a controller's restart SLURM may show a dead node as `mixed*`.
    """
    node = job["nodes"]
    cluster.kill(node)
    end(keepers(cluster, node))
    end(processes(cluster, node=node))
    cluster.wait_for(lambda: any(known["id"] == job["id"] and known["state"] != "RUNNING"
                                 for known in cluster.jobs()), f"job {job['id']} to leave {node}")
    cluster.node(node)


def restart_controller(cluster, job: dict) -> None:
    """The controller is restarted (killed outright, it may lose a job that it has just put back)."""
    cluster.kill("slurmctld", signal.SIGTERM)
    time.sleep(3)
    cluster.controller()


FAULTS = {"cancel": cancel, "double": double, "kill": kill_stage, "limit": cut, "requeue": requeue,
          "controller": restart_controller, "node": kill_node}


def strike(cluster, folder: Path, head: subprocess.Popen, count: int, local: Path, seed: int = 0,
           scale: str = "mini") -> list[tuple[str, str, int]]:
    """`count` faults over the trainings of a workflow; (kind, training, images it had seen) of each.

    Each comes when a random share of what the trainings of `local` have seen is reached, to one that runs.
    """
    draw, kinds, done, before = random.Random(seed), list(FAULTS), [], {}
    images = {name: facts["images_seen"] for name, facts in trainings(local, scale).items()}
    # Not in the last tenth: a fault needs a training that it can hit.
    moments = sorted(draw.uniform(0, 0.9 * sum(images.values())) for _ in range(count))
    while len(done) < count and head.poll() is None:
        time.sleep(0.5)
        finished = trainings(folder, scale)
        seen = {name: images[name] if name in finished else position(folder, name, scale) for name in images}
        running = {name: job for job in cluster.jobs() for name in images
                   if job["state"] == "RUNNING" and "rule_train_" in job["comment"]
                   and job["comment"].endswith(f"_{scale}_{name.replace('/seed-', '_')}")}
        if not running or sum(seen.values()) < moments[len(done)]:
            continue
        name = draw.choice(sorted(running))
        if seen[name] <= before.get(name, 0):  # no progress since its last fault: only delay would be added
            continue
        before[name] = seen[name]
        kind, job = kinds[len(done) % len(kinds)], running[name]
        FAULTS[kind](cluster, job)
        done.append((kind, name, seen[name]))
        print(f"fault {len(done)}/{count}: {kind}, job {job['id']} on {job['nodes']} "
              f"({name}, {seen[name]:,} images)", flush=True)
    return done
