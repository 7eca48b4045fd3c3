"""A real SLURM on this machine: controller and two node daemons on loopback, in a folder of its own.

Needs root and the Debian packages slurmctld, slurmd, slurm-client and munge; nothing outside the folder is
touched, and only processes started here are ended. Each node has two "GPUs", links to /dev/null and
/dev/zero, so that jobs see CUDA_VISIBLE_DEVICES; they compute on the CPU.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun")
NODES = ("n1", "n2")
CONFIG = """
ClusterName=lab
SlurmctldHost=localhost
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={lab}/run/munge.socket,cred_expire=10
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={lab}/spool/ctld
SlurmdSpoolDir={lab}/spool/%n
SlurmctldPidFile={lab}/run/slurmctld.pid
SlurmdPidFile={lab}/run/slurmd.%n.pid
SlurmctldLogFile={lab}/log/slurmctld.log
SlurmdLogFile={lab}/log/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=5,batch_sched_delay=0
GresTypes=gpu
JobCompType=jobcomp/none
JobRequeue=1
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=30
KillWait=5
MinJobAge=86400
CompleteWait=0
NodeName=n[1-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[2]}] CPUs=6 \
RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES DefaultTime=10 MaxTime=INFINITE DefMemPerCPU=500 State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "a SLURM cluster on this machine needs root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in NEEDED if shutil.which(name, path=path) is None]
    return f"SLURM's commands are not installed: {', '.join(absent)}" if absent else None


def free_ports() -> tuple[int, int, int]:
    """Three free ports of which the last two follow each other."""
    for first in range(16817, 17817, 5):
        try:
            for port in range(first, first + 3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first, first + 1, first + 2
    raise RuntimeError("no three free ports in a row between 16817 and 17817")


class Cluster:
    """Started by `start`, ended by `stop`; `run` and `environment` are for its users."""

    def __init__(self) -> None:
        self.lab = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: a socket's path has 108 bytes
        self.processes: dict[str, subprocess.Popen] = {}
        for name in ("run", "spool/ctld", "spool/n1", "spool/n2", "log", "dev", "bin"):
            (self.lab / name).mkdir(parents=True)
        (self.lab / "run").chmod(0o755)
        (self.lab / "dev/gpu0").symlink_to("/dev/null")
        (self.lab / "dev/gpu1").symlink_to("/dev/zero")
        self.conf = self.lab / "slurm.conf"
        self.conf.write_text(CONFIG.format(lab=self.lab, ports=free_ports()))
        (self.lab / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={self.lab}/dev/gpu[0-1]\n")
        # A job step loses SLURM_CONF, and an `srun` in it its cluster: this one carries it along.
        self.path = f"{self.lab}/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        srun = self.lab / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)

    def environment(self, **extra: str) -> dict[str, str]:
        """The environment in which SLURM's commands find this cluster."""
        return os.environ | {"SLURM_CONF": str(self.conf), "PATH": self.path} | extra

    def run(self, *command: str) -> str:
        """Output of a SLURM command; '' where it fails (a controller that is down)."""
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True).stdout

    def daemon(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground of a process of its own."""
        with open(self.lab / "log" / f"{name}.out", "a") as log:
            self.processes[name] = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log,
                                                    start_new_session=True)

    def start(self) -> Cluster:
        """Start everything; returns when both nodes are idle."""
        key, run = self.lab / "munge.key", self.lab / "run"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.daemon("munged", "munged", "--foreground", f"--socket={run}/munge.socket",
                    f"--key-file={key}", f"--pid-file={run}/munged.pid", f"--seed-file={run}/munge.seed",
                    f"--log-file={self.lab}/log/munged.log", "--force")
        self.wait_for(lambda: (run / "munge.socket").exists(), "munged")
        self.controller()
        for node in NODES:
            self.node(node)
        self.wait_for(lambda: self.run("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"], "idle nodes")
        return self

    def controller(self) -> None:
        self.daemon("slurmctld", "slurmctld", "-D", "-f", str(self.conf))

    def node(self, name: str) -> None:
        self.daemon(name, "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def wait_for(self, condition, what: str, seconds: float = 120) -> None:
        """Wait until `condition()`; raises `TimeoutError` with the ends of the daemons' logs."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return
            time.sleep(0.2)
        logs = "".join(path.read_text(errors="replace")[-1500:] for path in (self.lab / "log").iterdir())
        raise TimeoutError(f"waited {seconds:.0f} s for {what}\n{logs}")

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a daemon that was started here."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait()

    def jobs(self) -> list[dict[str, str]]:
        """Jobs that the controller knows: id, state, nodes, comment (rule, wildcards), GPUs, cores."""
        keys = {"id": "JobId", "state": "JobState", "nodes": "NodeList", "comment": "Comment",
                "gpus": "TresPerJob", "cpus": "NumCPUs", "restarts": "Restarts"}
        found = []
        for line in self.run("scontrol", "show", "jobs", "--oneliner").splitlines():
            values = dict(part.split("=", 1) for part in line.split() if "=" in part)
            if "JobId" in values:
                found.append({name: values.get(key, "") for name, key in keys.items()})
        return found

    def stop(self) -> None:
        """Cancel what runs, end the daemons, remove the folder."""
        self.run("scancel", "--state=PENDING,RUNNING", "--user=root")
        until = time.monotonic() + 20
        while self.run("squeue", "-h", "-o", "%i").strip() and time.monotonic() < until:
            time.sleep(0.5)
        for name in reversed(list(self.processes)):
            self.kill(name, signal.SIGTERM)
        shutil.rmtree(self.lab, ignore_errors=True)
