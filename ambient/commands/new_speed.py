"""How fast this machine does the arithmetic of each stage: a few passes of the stage's own network, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ambient.annotation.classifier import NoiseClassifier
from ambient.annotation.trajectories import CHUNK
from ambient.cluster.cost import Costs
from ambient.cluster.plan import wanted
from ambient.evaluation import small_nets
from ambient.evaluation.frechet import PART
from ambient.jobs import memory
from ambient.settings import Experiments
from ambient.stages import sample
from ambient.training.build import build_denoiser, build_network
from ambient.training.hardware import autocast

SECONDS = 0.7  # of processor time, at least, that passes are timed for
OUTPUTS = 64  # of the last layer of a detector's networks, which costs next to nothing
ALIKE = {"evaluate": "reference", "landmarks": "reference"}  # stages that compute what another one does


@dataclass(frozen=True)
class Probe:
    """A pass of a network on a batch, as a stage makes it, and its floating-point operations."""

    network: Callable[..., Tensor]
    given: tuple[Tensor, ...]
    flops: float
    precision: str
    learns: bool  # gradients are computed too: three forward passes' work

    def run(self) -> None:
        """The pass. What is small beside a network is left out: augmentation, the optimiser, averages."""
        with torch.set_grad_enabled(self.learns):
            with autocast(self.precision, torch.device("cpu")):
                made = self.network(*self.given)
            if self.learns:
                made.float().square().sum().backward()

    def tflops(self) -> float:
        """What one thread sustains in it, Tflop/s."""
        self.run()  # the first pass takes memory, and is slower
        passes, seconds, started = 0, 0.0, time.process_time()
        while not passes or seconds < SECONDS:
            self.run()
            passes, seconds = passes + 1, time.process_time() - started
        return self.flops * passes / seconds / 1e12


class Probes:
    """The probe of each stage, by the names of one of its jobs.

    A network has the settings, the precision and the batch of the stage. Weights and images are random.
    """

    def __init__(self, experiments: Experiments) -> None:
        self.experiments, self.costs = experiments, Costs(experiments)
        self.generator = torch.Generator().manual_seed(0)

    def batch(self, *shape: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, H) and their noise levels (B,)."""
        return torch.randn(shape, generator=self.generator), torch.ones(shape[0])

    def denoiser(self, run: str, count: int, precision: str, learns: bool) -> Probe:
        """A pass of a run's denoiser on so many images."""
        spec = self.experiments.first_training(run)
        _, channels, side = self.costs.points(self.experiments.run(run).study)
        passes = 2.0 * (3 if learns else 1) * count
        return Probe(build_denoiser(spec, side, channels, 0, self.generator),
                     self.batch(count, channels, side, side),
                     passes * spec.network.cost(side, channels).multiply_adds, precision, learns)

    def train(self, run: str, **_: str) -> Probe:
        optimiser = self.experiments.first_training(run).optimiser
        return self.denoiser(run, optimiser.batch, optimiser.precision, learns=True)

    def sample(self, run: str, **_: str) -> Probe:
        spec, study = self.experiments.sampling(run), self.experiments.run(run).study
        batch = sample.batch_of("cpu", self.experiments.shape(study)[1])
        return self.denoiser(run, min(batch, spec.num_samples), spec.precision, learns=False)

    def noise_classifier(self, study: str, name: str, count: int, precision: str, learns: bool) -> Probe:
        """A pass of a noise classifier on so many images."""
        spec = self.experiments.classifier(study, name)
        _, channels, side = self.costs.points(study)
        encoder = build_network(spec.network, side, channels, 0, bool(spec.augment.transforms),
                                self.generator, encoder_only=True)
        passes = 2.0 * (3 if learns else 1) * count
        return Probe(NoiseClassifier(encoder, self.generator), self.batch(count, channels, side, side),
                     passes * spec.network.cost(side, channels, encoder_only=True).multiply_adds, precision,
                     learns)

    def classifier(self, study: str, classifier: str, **_: str) -> Probe:
        optimiser = self.experiments.classifier(study, classifier).optimiser
        return self.noise_classifier(study, classifier, optimiser.batch, optimiser.precision, learns=True)

    def annotate(self, study: str, annotation: str, **_: str) -> Probe:
        spec = self.experiments.annotation(study, annotation)
        name = self.experiments.classifier_of(annotation)
        return self.noise_classifier(study, name, CHUNK * spec.num_trials, spec.precision, learns=False)

    def detector(self, dataset: str, detector: str, **_: str) -> Probe:
        spec, (_, *image) = self.experiments.detector(detector), self.costs.dataset(dataset)
        channels, side = spec.seen(*image)
        return Probe(small_nets.build(spec, channels, OUTPUTS),
                     self.batch(spec.VIEWS * spec.batch, channels, side, side)[:1],
                     spec.training_flops(*image) / spec.nimg * spec.batch, "bfloat16", learns=True)

    def reference(self, dataset: str, detector: str, **_: str) -> Probe:
        spec, (_, *image) = self.experiments.detector(detector), self.costs.dataset(dataset)
        channels, side = spec.seen(*image)
        return Probe(small_nets.build(spec, channels, OUTPUTS).features,
                     self.batch(PART, channels, side, side)[:1],
                     PART * spec.flops(*image), "float32", learns=False)

    def all(self, target: str) -> dict[str, Probe]:
        """Stage -> the probe of its first job behind a target, for each stage whose work is a network's."""
        found: dict[str, Probe] = {}
        for job in wanted(self.experiments, target):
            if job.kind not in {*found, *ALIKE} and self.costs.of(job.kind, job.names).flops:
                found[job.kind] = getattr(self, job.kind)(**job.names)
        return found


def tflops(experiments: Experiments, target: str) -> dict[str, float]:
    """Stage -> what one thread sustains in it, Tflop/s, counted as the costs of jobs count."""
    memory.keep_freed()  # as every long job does: without it large batches took twice the time
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rates = {stage: probe.tflops() for stage, probe in Probes(experiments).all(target).items()}
    torch.set_num_threads(threads)
    return rates | {stage: rates[other] for stage, other in ALIKE.items() if other in rates}
