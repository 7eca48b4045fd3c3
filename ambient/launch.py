"""Start a stage on one or several ranks: `python -m ambient.launch --ranks N [--nodes M] ambient.train ...`.

One rank: the stage itself, in this process. Several on one node: `torchrun --standalone`. On several nodes:
`srun`, one task a rank, which meet at the node where the batch script runs (the first of the allocation).
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SRUN = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}


def size() -> int:
    """The number of ranks of this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def first() -> bool:
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def group() -> Iterator[None]:
    """The process group of this job's ranks: NCCL for the GPUs, gloo for the CPU. One rank needs none."""
    if os.environ.get("AMBIENT_SRUN"):
        os.environ.update({name: os.environ[key] for name, key in SRUN.items()})
    if size() == 1:
        yield
        return
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def agreed(value: bool) -> bool:
    """The first rank's `value`, on every rank."""
    if size() == 1:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def command(ranks: int, nodes: int, stage: list[str]) -> tuple[list[str], dict[str, str]]:
    """The command line, and what it adds to the environment."""
    if ranks == 1:
        return [sys.executable, "-m", *stage], {}
    if nodes == 1:
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
                str(ranks), "-m", "--", *stage], {}
    port = 20000 + int(os.environ.get("SLURM_JOB_ID", os.getpid())) % 20000
    return ["srun", f"--ntasks={ranks}", f"--nodes={nodes}", "--kill-on-bad-exit=1", sys.executable, "-m",
            *stage], {"AMBIENT_SRUN": "1", "MASTER_ADDR": socket.gethostname(), "MASTER_PORT": str(port)}


def main(arguments: list[str]) -> None:
    """Become the command that runs the stage."""
    parser = argparse.ArgumentParser(prog="python -m ambient.launch", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1, help="processes in all, one a GPU")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("stage", nargs=argparse.REMAINDER, help="module and its options")
    given = parser.parse_args(arguments)
    if given.ranks < 1 or given.nodes < 1 or given.ranks % given.nodes or not given.stage:
        parser.error(f"got --ranks {given.ranks} --nodes {given.nodes} and stage {given.stage[:1]}; "
                     "allowed: ranks a multiple of nodes, then the stage")
    line, extra = command(given.ranks, given.nodes, given.stage)
    os.environ.update(extra)
    os.execvp(line[0], line)


if __name__ == "__main__":
    main(sys.argv[1:])
