"""One training loop for every network of the project: Adam, ramp, clip, EMA, snapshots, resume.

Step k is a function of (specification, k): its batch, noise, augmentation and dropout come from a
generator keyed by the seed and the number of images seen. A resumed run is therefore bit-identical
to an uninterrupted one, on the same machine type and thread count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from ambient import ranks, stopping
from ambient.denoiser import not_finite
from ambient.progress import Progress
from ambient.runtime import State, last_logged, line_log, patiently
from ambient.spec import OptimiserSpec

BETAS, EPS = (0.9, 0.999), 1e-8
SAVE_SECONDS = "AMBIENT_CHECKPOINT_SECONDS"  # work that may be lost: the time between two checkpoints
LOG_LINES = 400  # loss values kept over a run, however long it is


def learning_rate(spec: OptimiserSpec, nimg: int) -> float:
    """The rate of the step that begins after `nimg` images: linear ramp, then constant or cosine."""
    if nimg < spec.ramp_nimg:
        return spec.lr * nimg / spec.ramp_nimg
    if spec.decay == "constant":
        return spec.lr
    done = (nimg - spec.ramp_nimg) / max(spec.nimg - spec.ramp_nimg, 1)
    return spec.lr * (1 + math.cos(math.pi * done)) / 2


def ema_beta(spec: OptimiserSpec, nimg: int) -> float:
    """Decay per step: 0.5^(batch / half-life), half-life = min(ema_halflife_nimg, ema_ramp nimg).

    `nimg` counts the images seen with this step. Source: Karras et al. 2022, released settings.
    """
    halflife = min(spec.ema_halflife_nimg, spec.ema_ramp * nimg)
    return 0.5 ** (spec.batch / max(halflife, 1e-8))


class Fit:
    """A network in training: its weights, the EMA of them, and Adam's moments."""

    def __init__(self, network: nn.Module, spec: OptimiserSpec) -> None:
        self.network, self.spec = network, spec
        self.parts = 1  # in which this rank takes its rows of a batch: more where memory asks for it
        self.names = [name for name, _ in network.named_parameters()]
        self.weights = [parameter for _, parameter in network.named_parameters()]
        self.ema = [weight.detach().clone() for weight in self.weights]
        self.adam = torch.optim.Adam(self.weights, lr=spec.lr, betas=BETAS, eps=EPS, fused=True)
        for weight in self.weights:  # made now, so that a checkpoint can be loaded into them
            self.adam.state[weight] = {"step": torch.zeros((), device=weight.device),
                                       "exp_avg": torch.zeros_like(weight),
                                       "exp_avg_sq": torch.zeros_like(weight)}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that training needs to go on, by name."""
        groups = {"weights": self.weights, "ema": self.ema}
        groups |= {key: [self.adam.state[w][key] for w in self.weights]
                   for key in ("step", "exp_avg", "exp_avg_sq")}
        return {f"{group}.{name}": tensor for group, tensors in groups.items()
                for name, tensor in zip(self.names, tensors, strict=True)}

    @torch.no_grad()
    def restore(self, saved: dict[str, Tensor]) -> None:
        """Put a checkpoint's tensors back in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(saved[name])

    def ema_weights(self) -> dict[str, Tensor]:
        """The averaged network's state: the EMA of the parameters, the buffers as they are."""
        averaged = dict(zip(self.names, self.ema, strict=True))
        return {name: averaged.get(name, tensor) for name, tensor in self.network.state_dict().items()}

    def check(self, nimg: int, saved: list[int]) -> None:
        """Raise `FloatingPointError` where weights, their average or Adam's moments are not finite.

        A gradient that was finite may still have led there. `saved`: the checkpoints, newest first.
        """
        if bad := not_finite(self.tensors()):
            last = f"the last good checkpoint is after {saved[0]:,}" if saved else "no checkpoint came before"
            raise FloatingPointError(f"after {nimg:,} images {bad}; {last}. Lower lr (it is "
                                     f"{self.spec.lr:g}) or raise ramp_nimg, and run it again")

    def gradient(self, loss_of: Callable[[int], Tensor], nimg: int) -> Tensor | None:
        """Loss and gradients of this rank's rows, summed over its parts; None where memory is too small.

        The rows are cut no smaller than one each: then the error passes.
        """
        total = torch.zeros((), device=self.weights[0].device)
        try:
            for number in range(self.parts):
                with ranks.part(number, self.parts):
                    loss = loss_of(nimg) / self.parts
                    loss.backward()
                total += loss.detach()
            return total
        except torch.OutOfMemoryError:
            if self.spec.batch % (2 * self.parts * ranks.size()):
                raise
        self.adam.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return None

    def step(self, loss_of: Callable[[int], Tensor], nimg: int) -> float:
        """One optimiser step on the batch that begins after `nimg` images. Returns the loss.

        Raises `FloatingPointError` where the gradient is not finite: a repair would hide the reason.
        """
        spec = self.spec
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(spec, nimg)
        while (loss := self.gradient(loss_of, nimg)) is None:
            self.parts *= 2
            stopping.say(f"out of GPU memory: a batch of {spec.batch} goes on in {self.parts} parts")
        ranks.average([loss, *(w.grad for w in self.weights if w.grad is not None)])
        norm = torch.nn.utils.clip_grad_norm_(self.weights, spec.clip)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"after {nimg} images the gradient norm is {norm.item()} (loss {loss.item():.4g}): "
                "lower lr, or set loss.buffer so that no sigma comes too close to its sigma_min")
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        beta = ema_beta(spec, nimg + spec.batch)
        torch._foreach_lerp_(self.ema, [w.detach() for w in self.weights], 1 - beta)
        return loss.item()


def fit(name: str, network: nn.Module, spec: OptimiserSpec, loss_of: Callable[[int], Tensor],
        state: State, marks: tuple[int, ...], at_mark: Callable[[int, dict[str, Tensor]], None]) -> Path:
    """Train `network` to the end, from the newest checkpoint of `state` if there is one.

    `loss_of(nimg)` is the loss of the batch that begins after `nimg` images; `at_mark(nimg, ema)` is
    called with the averaged weights when the images seen reach each mark, before the checkpoint of
    that mark, so after an interruption it may be called again with the same arguments. Returns the
    file of mean losses (JSON lines). Of several ranks the first writes everything. Told to stop
    (`stopping.reason`), it finishes the step, saves and leaves with status `stopping.RESUME`.
    """
    fitting = Fit(network, spec)
    found = state.load()
    nimg, total, steps = 0, 0.0, 0
    if found:
        nimg, tensors, facts = found
        total, steps, fitting.parts = facts["total"], facts["steps"], facts["parts"]
        fitting.restore(tensors)
        print(f"{name}: resuming after {nimg:,} images", flush=True)
    progress = Progress(name, spec.nimg, nimg)
    saved = time.monotonic()
    every = max(spec.nimg // LOG_LINES // spec.batch, 1) * spec.batch
    network.train()
    log = state.folder / "loss.jsonl"
    if ranks.first():
        state.begin(nimg, last_logged(log))
    with line_log(log, nimg) if ranks.first() else nullcontext(lambda record: None) as write:
        while nimg < spec.nimg:
            total, steps = total + fitting.step(loss_of, nimg), steps + 1
            nimg += spec.batch
            if nimg % every == 0 or nimg == spec.nimg:
                write({"nimg": nimg, "loss": total / steps, "lr": learning_rate(spec, nimg)})
                if ranks.first():
                    progress.update(nimg, loss=total / steps)
                total, steps = 0.0, 0
            why = ranks.agree(stopping.reason())
            due = why or nimg in marks or time.monotonic() - saved > stopping.setting(SAVE_SECONDS)
            if due or nimg == spec.nimg:
                fitting.check(nimg, state.checkpoints())
            if nimg in marks and ranks.first():
                patiently(at_mark, nimg, fitting.ema_weights())
            if due and ranks.first():
                patiently(state.save, nimg, fitting.tensors(),
                          {"total": total, "steps": steps, "parts": fitting.parts})
                saved = time.monotonic()
            if why and nimg < spec.nimg:
                ranks.barrier()
                stopping.leave(f"{name}: stopped after {nimg:,} images ({why}), state saved")
    return log
