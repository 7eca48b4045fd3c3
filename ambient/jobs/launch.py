"""The ranks of a job: how they are started, which one this process is, and how they leave together.

Several on one node are started by `torchrun --standalone`. On several nodes `srun` starts one task a rank,
and they meet at the node where the batch script runs (the first of the allocation).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, NoReturn

from ambient.jobs.stopping import is_on

# What a launcher tells a rank: its number, how many there are, its number on this node.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SRUN = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
MEETING = ("MASTER_ADDR", "MASTER_PORT")
SHARD = "AMBIENT_SHARD_WEIGHTS"  # whether each rank has some rows of the weights, in place of all of them
BY_SRUN = "AMBIENT_SRUN"  # whether srun started this process as a rank
LAUNCHER = "AMBIENT_LAUNCHER"  # the process that torchrun is, and a rank's parent
# Seconds that torchrun, told to stop, waits for its ranks before it kills them. Its own 30 are less than
# a step and a large checkpoint may take. Whoever stops it, such as SLURM, has a limit of its own.
WAIT, WAIT_SECONDS = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600"
PARENT_DEATH = 1  # PR_SET_PDEATHSIG, of prctl(2)
LONGEST = timedelta(days=7)  # that ranks wait for one, which may wait for disk space; a dead one ends all


def place() -> tuple[int, int, int]:
    """(rank, number of ranks, rank on this node), as the launcher of this process says; alone: (0, 1, 0).

    A RANK or WORLD_SIZE that no launcher set is left over from something else, and does not count. Raises
    `ValueError` where what a launcher sets does not fit together.
    """
    if is_on(BY_SRUN):
        names, who = (*SRUN, *MEETING), BY_SRUN
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        names, who = (*TORCHRUN, *MEETING), "TORCHELASTIC_RUN_ID"
    else:
        return 0, 1, 0
    given = {name: os.environ.get(name) for name in names}
    try:
        rank, count, local = (int(given[name]) for name in names[:3])
        if not all(given.values()) or not 0 <= local <= rank < count:
            raise ValueError
    except (TypeError, ValueError):
        found = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"{who} is set, as for one of several ranks, but the rest does not fit ({found}): "
                         "unset it, or start the ranks by python -m ambient run --ranks") from None
    return rank, count, local


def size() -> int:
    """The number of ranks of this job."""
    return place()[1]


def first() -> bool:
    """Whether this process is the one that writes."""
    return place()[0] == 0


def left_over() -> list[str]:
    """Names in the environment that look like a rank's, where no launcher started this process."""
    return [name for name in TORCHRUN if name in os.environ] if size() == 1 else []


def follow_launcher(number: signal.Signals) -> None:
    """Have Linux send this process a signal when torchrun, its parent, is gone; at once where it is already.

    srun's ranks are ended by its own daemon.
    """
    if sys.platform != "linux" or not os.environ.get(LAUNCHER):
        return
    ctypes.CDLL(None).prctl(PARENT_DEATH, number)
    if os.getppid() != int(os.environ[LAUNCHER]):  # it went before the kernel was asked
        os.kill(os.getpid(), number)


@contextmanager
def group() -> Iterator[None]:
    """The process group of this job's ranks: NCCL for the GPUs, gloo for the CPU. One rank needs none.

    None leaves it before all are done: a rank that is gone takes the connections of the others with it. Where
    the launcher is gone, nobody else would end them: until they have met there is nothing to save, then they
    stop as when they are told to.
    """
    rank, count, local = place()
    if count == 1:
        yield
        return
    follow_launcher(signal.SIGKILL)
    import torch
    from torch import distributed

    os.environ.update(zip(TORCHRUN, map(str, (rank, count, local)), strict=True))
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                                   timeout=LONGEST)
    follow_launcher(signal.SIGTERM)
    yield
    distributed.all_reduce(torch.zeros(1))
    distributed.destroy_process_group()  # not by one that failed: others wait for it, and its end tells them


@contextmanager
def departure(ranks: int) -> Iterator[None]:
    """Outermost: of several ranks each ends its process when its work is done and what it said is written.

    An interpreter that is torn down beside the threads of torch and gloo races with them: one that asks for
    its lock then is unwound through C++ and aborts the process, after all its work was done.
    """
    status: object = 0
    try:
        yield
    except SystemExit as left:
        status = left.code
        if ranks == 1:
            raise
    if ranks > 1:
        if isinstance(status, str):
            print(status, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever reads it may be gone
                stream.flush()
        os._exit(status if isinstance(status, int) else int(status is not None))


def agreed(value: Any) -> Any:
    """The first rank's `value`, on every rank."""
    if size() == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def command(ranks: int, nodes: int, module: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line that runs `python -m` MODULE on several ranks, and what it adds to the environment."""
    if nodes == 1:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
                str(ranks), "-m", "--", *module], {LAUNCHER: str(os.getpid()),
                                                   WAIT: os.environ.get(WAIT, WAIT_SECONDS)}
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", os.getpid())) % 20000
    return ["srun", f"--ntasks={ranks}", f"--nodes={nodes}", "--kill-on-bad-exit=1", sys.executable, "-m",
            *module], {BY_SRUN: "1", "MASTER_ADDR": socket.gethostname(), "MASTER_PORT": str(port)}


def start(ranks: int, nodes: int, module: list[str], shard: bool = False) -> NoReturn:
    """Become the command that runs MODULE on several ranks, which share the weights if `shard`."""
    line, extra = command(ranks, nodes, module)
    os.environ.update(extra)
    if shard:
        os.environ[SHARD] = "1"
    os.execvp(line[0], line)
