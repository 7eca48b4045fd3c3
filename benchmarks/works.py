"""The trainings and samplings that `python -m benchmarks.gpu` times, as their configured runs have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ambient.evaluation.draw import Draw
from ambient.settings import Experiments
from ambient.specs import NetworkSpec, SamplingSpec, TrainingSpec
from ambient.training.batches import AmbientBatches
from ambient.training.hardware import COMPILED, compile_for, device, strictly
from ambient.training.loading import untold
from ambient.training.loop import Fit
from benchmarks import training

Way = Callable[[], object]
QUICK_SIDE, QUICK_IMAGES, QUICK_CLASSES = 8, 40, 4
FEW_STEPS = 6  # of a sampler
ANY = 10**9  # evaluations: enough for every network to be compiled


@dataclass(frozen=True)
class Work:
    """A run that is timed: random images, or latents, of its shape, and an untrained network."""

    name: str
    run: str  # of the scale `paper`
    classes: int
    batch: int  # images of a training step
    samples: int  # drawn together
    tiny: Mapping[str, object]  # of its network, for a try that takes seconds
    parts: int = 1  # of a step: networks that are compiled side by side share the memory

    def tiny_network(self, network: NetworkSpec) -> NetworkSpec:
        """The network in miniature."""
        return replace(network, **self.tiny)


CIFAR10 = Work("CIFAR-10 network of Table 2a", "ambient-blur-0.8", 10, 512, 250,
               {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": (4,)})
XS = Work("EDM2-XS", "quality-xs", 1000, 128, 64,
          {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": (4,),
           "channels_per_head": 8})
# A run's step is of 2,048 images. Each of eight GPUs has 256 in parts, and its optimiser works once for all.
XL = Work("MicroDiT-XL", "text-ambient", 10, 64, 8,
          {"model_channels": 32, "depth": 2, "mixer_channels": 32, "mixer_depth": 1, "caption_channels": 8,
           "channels_per_head": 16, "round_to": 16, "num_experts": 4, "caption_tokens": 5}, parts=8)
WORKS = {"cifar10": CIFAR10, "edm2-xs": XS, "microdit-xl": XL}


@cache
def settings() -> Experiments:
    """Those of the paper's scale."""
    return Experiments("config", "paper")


@dataclass(frozen=True)
class Size:
    """How much is timed: all of it on a GPU, or so little that a CPU shows in seconds that it works."""

    quick: bool

    @property
    def steps(self) -> int:
        """Training steps of a repeat."""
        return 1 if self.quick else 4

    @property
    def repeats(self) -> int:
        """Timed calls of each way."""
        return 1 if self.quick else 3

    def batch(self, images: int) -> int:
        """Images at a time."""
        return 4 if self.quick else images

    def shape(self, work: Work) -> tuple[int, int]:
        """(channels, side) of what its network sees."""
        channels, side = settings().shape(settings().run(work.run).study)
        return channels, QUICK_SIDE if self.quick else side

    def spec(self, work: Work, batch: int, **network: object) -> TrainingSpec:
        """The training of a run in bfloat16 with another batch, and with changes of its network."""
        found = settings().training(work.run, 0)
        nimg = batch * ANY
        optimiser = replace(found.optimiser, batch=batch, nimg=nimg, ramp_nimg=0, precision="bfloat16")
        changed = replace(found.network, **network)
        return replace(found, network=work.tiny_network(changed) if self.quick else changed,
                       optimiser=optimiser, snapshots=(nimg,), start=None, keep_state=False)

    def batches(self, work: Work, spec: TrainingSpec) -> AmbientBatches:
        """The loss of a training, with its denoiser."""
        channels, side = self.shape(work)
        if self.quick:
            return training.batches(spec, side, channels, QUICK_IMAGES, QUICK_CLASSES)
        return training.batches(spec, side, channels, classes=work.classes)


def compiled(network: nn.Module, options: Mapping[str, object] = MappingProxyType({})) -> None:
    """Compile as the stages do, but for some options of torch. An error is raised: it belongs into a row.

    On a CPU the network is traced but not translated, which would take minutes.
    """
    compile_for(network, ANY)
    torch._dynamo.config.suppress_errors = False
    if device().type == "cpu":
        network.compile(dynamic=False, backend="eager")
    elif options:
        network.compile(dynamic=False, options=COMPILED | dict(options))


class Training:
    """Steps of a training, each after the one before it."""

    def __init__(self, size: Size, work: Work, precision: str = "bfloat16", batch: int | None = None,
                 **network: object) -> None:
        strictly()  # as the training loop does
        self.size, batch = size, size.batch(batch or work.batch)
        spec = size.spec(work, batch, **network)
        self.spec = replace(spec, optimiser=replace(spec.optimiser, precision=precision))
        self.batches = size.batches(work, self.spec)
        self.network = self.batches.denoiser.model
        self.fit = Fit(self.batches.denoiser, self.spec.optimiser, math.gcd(work.parts, batch))
        self.done = 0
        self.together, self.images = batch, size.steps * batch  # of a step, and of a call
        channels, side = size.shape(work)
        self.gflop = 6 * self.spec.cost(side, channels).multiply_adds / 1e9  # an image, forward and back

    def step(self) -> Tensor:
        """One step; its loss."""
        self.done += 1
        return self.fit.step(self.batches.loss, self.done * self.together)

    def __call__(self) -> None:
        for _ in range(self.size.steps):
            self.step()


class Sampling:
    """Samples by a run's sampler, with its guidance, a number of them together; not their decoding.

    In fewer steps than the run's, as the time of an evaluation is what counts. `share`: of its evaluations.
    """

    def __init__(self, size: Size, work: Work, together: int | None = None, images: int | None = None,
                 num_steps: int = FEW_STEPS, **network: object) -> None:
        self.together = size.batch(together or work.samples)
        self.images = size.batch(images or self.together)
        made = size.batches(work, size.spec(work, 4, **network))
        spec = self.sampled(work, 2 if size.quick else num_steps)
        channels, side = size.shape(work)
        about = {"channels": channels, "resolution": side, "num_classes": made.classes,
                 "spec": {"network": {"conditional": made.spec.network.conditional}}}
        if made.told is not None:
            about["text"] = made.told.shape
        self.network = made.denoiser.eval().model
        self.draw = Draw(untold(made.denoiser, spec), about, spec.sampler, spec.precision, device(),
                         told=made.told)
        self.evaluations, whole = spec.nfe + spec.guide_nfe, settings().sampling(work.run)
        self.share = self.evaluations / (whole.nfe + whole.guide_nfe)
        self.gflop = 2 * self.evaluations * made.spec.network.cost(side, channels).multiply_adds / 1e9

    @staticmethod
    def sampled(work: Work, num_steps: int) -> SamplingSpec:
        """The sampling of a run in bfloat16, with another number of steps."""
        found = settings().sampling(work.run)
        return replace(found, sampler=replace(found.sampler, num_steps=num_steps), precision="bfloat16")

    def __call__(self) -> None:
        for first in range(0, self.images, self.together):
            self.draw.images(0, range(first, min(first + self.together, self.images)))
