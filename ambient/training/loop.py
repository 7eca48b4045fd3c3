"""One training loop for every network of the project: optimiser, ramp, clip, average, snapshots, resume.

Step k is a function of (specification, k): its batch, noise, augmentation and dropout come from a
generator keyed by the seed and the number of images seen. A resumed run is therefore bit-identical
to an uninterrupted one, on the same machine type and thread count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from ambient.diffusion import schedules
from ambient.diffusion.network import Routing, constrain, constrained, own, routing
from ambient.jobs import launch, ranks, records, stopping
from ambient.jobs.progress import Progress, named
from ambient.jobs.state import State
from ambient.jobs.stopping import patiently
from ambient.specs import OptimiserSpec
from ambient.storage.files import sync_folder, write_text
from ambient.training import engine, finite, hardware, parts, shares
from ambient.training.parts import LossOf
from ambient.training.weights import not_finite

ALGORITHMS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
DECAYS = {"constant": lambda spec, nimg: 1.0,
          "cosine": lambda spec, nimg: schedules.cosine(nimg, spec.ramp_nimg, spec.nimg, spec.decay_to),
          "inverse_sqrt": lambda spec, nimg: schedules.inverse_sqrt(nimg, spec.decay_nimg)}
SAVE_SECONDS = "AMBIENT_CHECKPOINT_SECONDS"  # work that may be lost: the time between two checkpoints
Begin = Callable[[Mapping[str, Mapping[str, Tensor]]], None]
AtMark = Callable[[int, list[dict[str, Tensor]]], None]
LOG_LINES = 400  # loss values kept over a run, however long it is


def learning_rate(spec: OptimiserSpec, nimg: int) -> float:
    """The rate of the step that begins after `nimg` images."""
    return schedules.ramped(spec.lr * DECAYS[spec.decay](spec, nimg), nimg, spec.ramp_nimg)


def ema_beta(spec: OptimiserSpec, nimg: int, width: int = 0) -> float:
    """The weight of the old average in the step that ends at `nimg` images.

    `width`: which average, by its place in `ema_stds`.
    """
    if spec.ema_stds:
        return schedules.power_beta(nimg, spec.batch, schedules.power_gamma(spec.ema_stds[width]))
    if spec.ema_start_nimg is not None:
        return schedules.late_beta(nimg, spec.batch, spec.ema_halflife_nimg, spec.ema_start_nimg)
    return schedules.halflife_beta(nimg, spec.batch, spec.ema_halflife_nimg, spec.ema_ramp)


class Fit:
    """A network in training: its weights, averages of them, and Adam's moments."""

    def __init__(self, network: nn.Module, spec: OptimiserSpec, number: int = 1) -> None:
        self.network, self.spec = network, spec
        # A rank treats its rows in so many parts, one after the other. The number doubles where a part does
        # not fit into the memory of a GPU.
        self.parts = number
        self.names = [name for name, _ in network.named_parameters()]
        self.weights = [parameter for _, parameter in network.named_parameters()]
        self.constrained = constrained(network)
        # One for each of `ema_stds`, in their order, or the one by the half-life.
        self.averages = [[weight.detach().clone() for weight in self.weights]
                         for _ in spec.ema_stds or (None,)]
        self.adam = ALGORITHMS[spec.algorithm](self.weights, lr=spec.lr, betas=spec.betas, eps=spec.eps,
                                               weight_decay=spec.weight_decay, fused=True)
        for weight in self.weights:  # Adam makes its state in the first step; `restore` copies into it before
            self.adam.state[weight] = {"step": torch.zeros((), device=weight.device),
                                       "exp_avg": torch.zeros_like(weight),
                                       "exp_avg_sq": torch.zeros_like(weight)}
        self.gradients = finite.FirstNotFinite(self.weights[0].device)

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Everything that training needs to go on: weights, averages and moments, each by parameter."""
        names = ["ema", *(f"ema-{std}" for std in self.spec.ema_stds[1:])]
        groups = {"weights": self.weights} | dict(zip(names, self.averages, strict=True))
        groups |= {key: [self.adam.state[w][key] for w in self.weights]
                   for key in ("step", "exp_avg", "exp_avg_sq")}
        return {group: dict(zip(self.names, tensors, strict=True)) for group, tensors in groups.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The same under one name each, `<group>.<parameter>`, as a checkpoint has them."""
        return {f"{group}.{name}": tensor for group, tensors in self.groups().items()
                for name, tensor in tensors.items()}

    def averaged(self) -> list[dict[str, Tensor]]:
        """The state of the network of each average: averaged parameters, and buffers as they are.

        Where ranks share the weights each of them has to ask, one tensor after the other, and the first
        gets them, in main memory.
        """
        found = []
        for average in self.averages:
            averaged = dict(zip(self.names, average, strict=True))
            found.append({name: engine.collected(averaged[name]) if name in averaged else buffer.clone()
                          for name, buffer in self.network.state_dict().items()})
        return found

    def check(self, nimg: int, saved: list[int]) -> None:
        """Raise `FloatingPointError` where a gradient, weights, an average or Adam's moments are not finite.

        A gradient that was finite may still have led there. `saved`: the checkpoints, newest first.
        """
        self.gradients.read()
        bad = not_finite({name: own(tensor) for name, tensor in self.tensors().items()})
        if bad := ranks.agree(bad or None, "tensors of another rank are not finite"):
            last = f"the last good checkpoint is after {saved[0]:,}" if saved else "no checkpoint came before"
            raise FloatingPointError(f"after {nimg:,} images {bad}; {last}. Lower lr (it is "
                                     f"{self.spec.lr:g}) or raise ramp_nimg, and run it again")

    def gradient(self, loss_of: LossOf, nimg: int) -> Tensor | None:
        """Loss and gradients of this rank's rows, summed over its parts; None where memory is too small.

        The rows are cut no smaller than one each: then the error passes. It passes on several ranks, too.
        """
        try:
            return parts.backward(loss_of, nimg, self.parts)
        except torch.OutOfMemoryError:
            if ranks.size() > 1 or not parts.can_be_halved(self.parts, self.spec.batch):
                raise
        self.adam.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return None

    def step(self, loss_of: LossOf, nimg: int) -> Tensor:
        """One optimiser step on the batch that begins after `nimg` images. Returns the loss, shape ().

        A gradient that is not finite is noted, and spoils the weights. `gradients.read` raises for it.
        """
        spec = self.spec
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(spec, nimg)
        constrain(self.constrained)
        while (loss := self.gradient(loss_of, nimg)) is None:
            self.parts *= 2
            stopping.say(f"out of GPU memory: a batch of {spec.batch} goes on in {self.parts} parts")
        shares.average([loss, *engine.left_out(self.weights)])
        norm = engine.whole(torch.nn.utils.clip_grad_norm_(self.weights, spec.clip))
        self.gradients.note(nimg, norm, loss)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        for width, average in enumerate(self.averages):
            beta = ema_beta(spec, nimg + spec.batch, width)
            torch._foreach_lerp_([own(a) for a in average], [own(w.detach()) for w in self.weights], 1 - beta)
        return loss


def routes(layers: Sequence[Routing]) -> dict:
    """What became of the tokens of a step in each layer that has experts, over all ranks."""
    if not layers:
        return {}
    counts = torch.stack([layer.routed for layer in layers])
    shares.add_up(counts)
    told = [layer.told(one) for layer, one in zip(layers, counts, strict=True)]
    return {name: [one[name] for one in told] for name in told[0]}


class Run:
    """A training on its way: images seen, and the losses since the last line of the log."""

    def __init__(self, name: str, fitting: Fit, state: State) -> None:
        self.name, self.fitting, self.spec, self.state = name, fitting, fitting.spec, state
        self.nimg, self.total, self.steps = 0, 0.0, 0
        self.lines: list[str] = []  # of the loss log, all of them
        self.every = max(self.spec.nimg // LOG_LINES // self.spec.batch, 1) * self.spec.batch
        self.saved = time.monotonic()
        self.routing = routing(fitting.network)

    def resume(self, position: int, facts: Mapping) -> None:
        """Go on from the checkpoint at a position (0: from the beginning), which says `facts`."""
        if not position:
            return
        self.nimg, self.lines = position, list(facts["log"])
        self.total, self.steps = facts["total"], facts["steps"]
        self.state.restore(f"checkpoint-{position}", self.fitting.tensors())
        stopping.say(f"{self.name}: resuming after {position:,} images")

    def save(self) -> None:
        """Write a checkpoint. The log goes with it: a file of its own could be lost or altered alone."""
        patiently(self.state.save, self.nimg, self.fitting.tensors(), {
            "total": float(self.total), "steps": self.steps, "parts": self.fitting.parts,
            "ranks": ranks.size(), "log": self.lines})
        self.saved = time.monotonic()

    def mark(self, at_mark: AtMark) -> None:
        """Hand the averages out, by the first rank."""
        averages = self.fitting.averaged()
        if ranks.first():
            patiently(at_mark, self.nimg, averages)

    def step(self, loss_of: LossOf) -> str | None:
        """One step; returns the line of the log that it completes."""
        after = self.nimg + self.spec.batch
        whole = after % self.every == 0 or after == self.spec.nimg
        for layer in self.routing if whole else ():
            layer.routed.zero_()
        with parts.noting(self.state, self.nimg, self.spec.batch, self.fitting.parts):
            loss = self.fitting.step(loss_of, self.nimg)
        self.total = self.total + loss.double()  # a tensor: its value is asked for with the line
        self.steps += 1
        self.nimg = after
        if whole or self.fitting.gradients.unread >= finite.EVERY:
            self.fitting.gradients.read()
        if not whole:
            return None
        mean, self.total, self.steps = float(self.total) / self.steps, 0.0, 0
        self.lines.append(json.dumps({"nimg": self.nimg, "loss": mean,
                                      "lr": learning_rate(self.spec, self.nimg)} | routes(self.routing)))
        return self.lines[-1]


def before(state: State, marks: tuple[int, ...], piece: str) -> tuple[int, dict, int]:
    """What the first rank finds in the state, for all: images seen, the facts of their checkpoint, parts."""
    found = None
    if ranks.first():
        position = state.newest(marks, piece)
        facts = state.told(f"checkpoint-{position}") if position else {}
        found = position, facts, parts.of_earlier(state, facts)
    return launch.agreed(found)


def agreed(why: str | None, run: Run) -> tuple[str | None, bool]:
    """(why to stop, whether a checkpoint is due by the first rank's clock), the same on every rank."""
    late = ranks.first() and time.monotonic() - run.saved > stopping.setting(SAVE_SECONDS)
    asked, late = ranks.any_of(why is not None, late)
    return why or (ranks.OTHER if asked else None), late


def fit(name: str, network: nn.Module, spec: OptimiserSpec, loss_of: LossOf, state: State,
        marks: tuple[int, ...], at_mark: AtMark, piece: str = "snapshot", shard: bool = False,
        begin: Begin | None = None, at_end: Callable[[dict[str, Tensor]], None] | None = None) -> list[str]:
    """Train `network` to the end, from the newest sound checkpoint of `state` if there is one.

    `loss_of(nimg, share)` is the loss of a share of the batch that begins after `nimg` images.
    `at_mark(nimg, averages)` is called with the averaged weights, of each width, when the images seen reach
    each mark, before the checkpoint of that mark, and puts `<piece>-<nimg>` into the state. After an
    interruption it may be called again with the same arguments. Returns the lines of the log of mean losses
    (JSON). `begin` puts into the tensors of a training that has not begun what it begins with, and `at_end`
    is given them after the last step, whole, on the first rank.
    Of several ranks the first writes everything; with `shard` each has some rows of the weights, and writes
    those. Told to stop (`stopping.reason`), it finishes the step, saves and leaves with status
    `stopping.RESUME`. The state holds the end of the training when it returns.
    """
    network.train()
    hardware.strictly()
    position, facts, least = before(state, marks, piece)
    loss_of, number = engine.spread(network, loss_of, spec, position, least, shard)
    with parts.noting(state, position, spec.batch, number):
        engine.settle(loss_of, network, position, number)
        run = Run(named(name), Fit(network, spec, number), state)
        run.resume(position, facts)
    if begin is not None and not position:
        begin(run.fitting.groups())
    progress = Progress(name, spec.nimg, run.nimg)
    with logged(run) if ranks.first() else nullcontext(lambda line: None) as write:
        lost = ranks.first() and run.nimg in marks and state.facts(f"{piece}-{run.nimg}") is None
        if launch.agreed(lost):
            run.mark(at_mark)
        while run.nimg < spec.nimg:
            if line := run.step(loss_of):
                write(line)
                if ranks.first():
                    progress.update(run.nimg, loss=json.loads(line)["loss"])
            why, late = agreed(stopping.reason(), run)
            due = why or late or run.nimg in marks or run.nimg == spec.nimg
            if due:
                run.fitting.check(run.nimg, state.checkpoints())
            if run.nimg in marks:
                run.mark(at_mark)
            if due:
                run.save()
            if why and run.nimg < spec.nimg:
                ranks.barrier()
                stopping.leave(f"{run.name}: stopped after {run.nimg:,} images ({why}), state saved")
    if at_end is not None:
        whole = {name: engine.collected(tensor) for name, tensor in run.fitting.tensors().items()}
        if ranks.first():
            patiently(at_end, whole)
    return run.lines


@contextmanager
def logged(run: Run) -> Iterator[Callable[[str], None]]:
    """Note an attempt, and append lines to a log in the state, for whoever watches: the run has its own."""
    path = run.state.folder / "loss.jsonl"
    found = path.read_bytes().splitlines() if path.is_file() else []
    places = [position(line) for line in found]
    run.state.begin(run.nimg, max(places, default=0))
    expected = [line.encode() for line in run.lines]
    if path.exists() and (found[:len(expected)] != expected or not path.is_file()):
        records.set_aside(path, "damaged (not what the checkpoint says)")
    write_text(path, "".join(line + "\n" for line in run.lines))
    with open(path, "ab", buffering=0) as file:
        def append(line: str) -> None:
            rest = line.encode() + b"\n"

            def some() -> None:
                nonlocal rest
                rest = rest[file.write(rest):]

            while rest:  # a full disk takes part of a line
                patiently(some)

        yield append
    sync_folder(path.parent)


def position(line: bytes) -> int:
    """The `nimg` of a line of the log; 0 for one that was cut short or is damaged."""
    try:
        found = json.loads(line)["nimg"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return found if isinstance(found, int) else 0
