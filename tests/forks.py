"""Ranks for tests: processes forked from one that has loaded torch, which takes each for seconds."""

import dataclasses
import multiprocessing
import os
import socket
import sys

LOADS = ["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint", "ambient.stages.train",
         "tests.tiny"]


def free_port():
    """A port at which ranks may meet."""
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def enter(rank, size, port, log, environment, work, arguments):
    """Play a rank that torchrun started, at `work(*arguments)`. What it says goes to a log."""
    os.environ.update(environment, TORCHELASTIC_RUN_ID="test", RANK=str(rank), WORLD_SIZE=str(size),
                      LOCAL_RANK=str(rank), MASTER_ADDR="localhost", MASTER_PORT=str(port))
    sys.stdout = sys.stderr = open(log, "a", buffering=1)  # noqa: SIM115 (until the process ends)
    import torch

    from ambient.jobs import launch

    torch.set_num_threads(1)
    with launch.departure(size), launch.group():
        work(*arguments)


def train(limits, broken, *given):
    """A training on ranks of which each has memory for so many rows at once.

    `broken`: from which step on the last rank has memory for half as many.
    """
    import torch
    from torch import distributed

    from ambient.training.batches import AmbientBatches
    from ambient.training.loop import Fit
    from tests import tiny

    limit, loss, step, steps = limits[distributed.get_rank()], AmbientBatches.loss, Fit.step, []

    def limited(self, nimg, share):
        rows, last = share.rows(self.spec.optimiser.batch), distributed.get_rank() == len(limits) - 1
        if rows.stop - rows.start > (limit // 2 if last and broken and len(steps) >= broken else limit):
            raise torch.OutOfMemoryError
        return loss(self, nimg, share)

    def counted(self, *rest):
        steps.append(1)
        return step(self, *rest)

    AmbientBatches.loss, Fit.step = limited, counted
    tiny.run_training(*given)


def train_short_at(name, *given):
    """A training whose last rank runs out of memory in a function of `ambient.training.engine`."""
    import torch
    from torch import distributed

    from ambient.training import engine
    from tests import tiny

    def short(*_):
        raise torch.OutOfMemoryError

    if distributed.get_rank() == distributed.get_world_size() - 1:
        setattr(engine, name, short)
    tiny.run_training(*given)


def measure(spec, data, detector, folder):
    """The moments of a dataset's features, shared out in shards of 8 images and summed by 4."""
    from ambient.evaluation import features
    from ambient.stages import reference
    from tests import tiny

    features.PART, features.SHARD = 4, 8
    reference.main(spec, tiny.RECORD, data=data, detector=detector, state=tiny.kept(folder / "state"),
                   out=folder / "moments")


def sample_best(spec, files, folder):
    """Samples of which the best snapshot has all seeds."""
    from ambient.stages import sample
    from tests import tiny

    sample.main(spec, tiny.RECORD, **files, state=tiny.kept(folder / "ranks-state"), out=folder / "ranks")


def edm2():
    """A training of a network with all that EDM2's have: averages, weights that are normalised, numbers."""
    from ambient.training.networks.mp_unet import Spec
    from tests import tiny

    network = Spec(kind="mp_unet", conditional=True, model_channels=8, channel_mult=(1,),
                   num_blocks=1, attn_resolutions=(), dropout=0.0, channels_per_head=8)
    return dataclasses.replace(
        tiny.TRAINING, network=network, augment=dataclasses.replace(tiny.AUGMENT, transforms=()),
        optimiser=tiny.optimiser(nimg=64, ema_stds=(0.1, 0.2)), snapshots=(64,),
        loss=dataclasses.replace(tiny.TRAINING.loss, uncertainty=True))


def train_edm2(stop, *given):
    """That training, told to stop after some steps; 0: never."""
    from ambient.jobs import stopping
    from ambient.training.loop import Fit
    from tests import tiny

    steps, step = [], Fit.step

    def counted(self, *rest):
        steps.append(1)
        return step(self, *rest)

    Fit.step = counted
    stopping.reason = lambda: "a test" if stop and len(steps) == stop else None
    tiny.run_training(*given, edm2())


def train_told(captioned, annotations, folder):
    """A training that is told captions."""
    from ambient.stages import train
    from tests import tiny

    train.main(tiny.TOLD, tiny.RECORD, data=captioned / "data", annotations=annotations,
               texts=[captioned / "texts"], state=tiny.kept(folder / "state"),
               out=folder / "denoiser.safetensors", log=folder / "loss.jsonl")


def losses_with_an_unused_weight(path):
    """Two steps of a network of which no loss uses one layer: (losses, weights), written to `path`."""
    import torch
    from safetensors.torch import save_file

    from ambient.training import engine
    from ambient.training.loop import Fit
    from tests import tiny

    network = torch.nn.ModuleDict({"used": torch.nn.Linear(3, 1), "unused": torch.nn.Linear(3, 1)})
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(0.5)
    made = tiny.optimiser(ramp_nimg=0, decay="constant", algorithm="adamw", weight_decay=0.1)
    x = torch.arange(48.0).reshape(16, 3).cos()

    def loss(nimg, share):
        return network["used"](x[share.rows(16)] * (1 + nimg)).square().mean()

    used, parts = engine.spread(network, loss, made, 0, 1)
    engine.settle(used, network, 0, parts)
    fitting = Fit(network, made, parts)
    losses = [fitting.step(used, nimg) for nimg in (0, 16)]
    save_file(network.state_dict() | {"losses": torch.tensor(losses)}, path)


def save_on_a_full_disk(folder):
    """A checkpoint of rows that ranks share. The first's disk is full at its name, and then at its record."""
    import errno

    import torch
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    from ambient.jobs import parted, ranks, records, stopping
    from tests import tiny

    def full_at_first(work):
        tried = []

        def worked(*arguments):
            tried.append(arguments)
            if ranks.first() and len(tried) == 1:
                raise OSError(errno.ENOSPC, "no space left", str(folder))
            work(*arguments)
        return worked

    state = tiny.kept(folder / "state")
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    tensors = {"x": distribute_tensor(torch.arange(8.0), mesh, [Shard(0)])}
    stopping.DISK_POLL = 0.01
    parted.sync_folder, records.write = full_at_first(parted.sync_folder), full_at_first(records.write)
    stopping.patiently(state.save, 16, tensors, {"log": []})
    assert ranks.any_of(ranks.first(), False) == [True, False]  # they meet here, and nowhere else


class Ranks:
    """Some processes at one work."""

    def __init__(self, size, folder, work, *arguments, environment=None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADS)
        folder.mkdir(exist_ok=True)
        self.logs = [folder / f"rank-{rank}.log" for rank in range(size)]
        given = (size, free_port())
        self.processes = [context.Process(target=enter, args=(
            rank, *given, str(self.logs[rank]), environment or {}, work, arguments)) for rank in range(size)]
        for process in self.processes:
            process.start()

    def said(self):
        """All that the ranks have said."""
        return "\n".join(log.read_text() for log in self.logs if log.exists())

    def done(self, status=0):
        """Wait for the end, which is to have a status."""
        for process in self.processes:
            process.join(120)
        assert [process.exitcode for process in self.processes] == [status] * len(self.processes), self.said()
        return self.said()

    def kill(self):
        """SIGKILL, at once."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
