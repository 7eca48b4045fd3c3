"""A training step: ours against plain ones on the same batches.

The first plain one is float32, one parameter at a time. The second is a competent user's: the same network
under torch's own bfloat16 autocast, with the optimiser as torch has it by default.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ambient.data import latents
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset
from ambient.data.latents import Latents
from ambient.data.text_states import TextStates, Told
from ambient.data.texts import Texts
from ambient.diffusion import randomness
from ambient.diffusion.networks.unet import Block, Conv, UNet
from ambient.settings import Experiments
from ambient.specs import DatasetSpec, OptimiserSpec, TrainingSpec
from ambient.specs.strict import build, plain
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_denoiser, build_network
from ambient.training.hardware import compile_for, device
from ambient.training.loop import Fit, ema_beta, learning_rate
from ambient.training.points import Points
from benchmarks import convolutions
from benchmarks.timing import Pair, paired, profiled, shares

IMAGES = 2000  # random ones: the time of a step does not depend on what they show
CAPTIONS = 16  # different ones among them


class PlainConv(Conv):
    """The same by torch's own operators."""

    def forward(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            x = F.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


class PlainBlock(Block):
    """The same with torch's own dropout."""

    def dropped(self, x: Tensor, keep: Tensor | None) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class PlainUNet(UNet):
    """The same without masks drawn before."""

    def masks(self, count: int, generator: torch.Generator | None) -> list[Tensor]:
        return []


def as_written(network: nn.Module) -> nn.Module:
    """Make a network compute by torch's own operators wherever ours computes otherwise."""
    plain_of = {Conv: PlainConv, Block: PlainBlock, UNet: PlainUNet}
    for module in network.modules():
        module.__class__ = plain_of.get(type(module), type(module))
    return network


def random_data(spec: TrainingSpec, shape: tuple[int, int, int], count: int,
                classes: int) -> tuple[Dataset, Points]:
    """Random images, or latents where `shape` has not the channels of images, a tenth of them clean."""
    draws, ids = np.random.default_rng(0), np.arange(count)
    encoded = shape[0] not in (1, 3)
    images = None if encoded else draws.integers(0, 256, (count, *shape), np.uint8)
    captions = Texts.of(f"caption {i % CAPTIONS}" for i in range(count)) if spec.told_captions else None
    data = Dataset(images, ids % classes, ids, (ids % 10 > 0).astype(np.uint8), captions=captions)
    if not encoded:
        return data, Points(data)
    mean = draws.standard_normal((count, *shape), np.float32)
    shift, scale = np.zeros(shape[0], np.float32), np.full(shape[0], latents.STD, np.float32)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "latents.safetensors")
        latents.write(path, ids, shape, shift, scale, [Latents(mean, np.zeros_like(mean), ids, shift, scale)])
        return data, Points(data, [path])


def random_states(data: Dataset, spec: TrainingSpec) -> Told | None:
    """Random states of the captions of images; None for a network that is told none."""
    if not spec.told_captions:
        return None
    shape = (len(data.captions), spec.network.caption_tokens, spec.network.caption_channels)
    states = np.random.default_rng(1).standard_normal(shape, np.float32).astype(np.float16)
    return Told(data.captions, [TextStates(states, data.captions.digests())])


def batches(spec: TrainingSpec, resolution: int, channels: int, count: int = IMAGES,
            classes: int = 10) -> AmbientBatches:
    """The loss of a run on random images, a tenth of them clean, the others usable above 1."""
    data, points = random_data(spec, (channels, resolution, resolution), count, classes)
    rows = Annotations(data.ids, data.corrupted.astype(float), np.zeros(count))
    generator = randomness.torch_generator("cpu", "init", 0)
    denoiser = build_denoiser(spec, resolution, channels, classes, generator).to(device()).train()
    return AmbientBatches(spec, data, points, rows, denoiser, device(), random_states(data, spec))


class PlainFit:
    """What a straightforward loop does: Adam, clipping and EMA one parameter at a time."""

    foreach: bool | None = False

    def __init__(self, network: nn.Module, spec: OptimiserSpec) -> None:
        self.spec, self.weights = spec, list(as_written(network).parameters())
        self.ema = [weight.detach().clone() for weight in self.weights]
        self.adam = torch.optim.Adam(self.weights, lr=spec.lr, betas=spec.betas, eps=spec.eps,
                                     foreach=self.foreach)

    def step(self, loss_of, nimg: int) -> float:
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.spec, nimg)
        loss = loss_of(nimg)
        self.adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.spec.clip, foreach=self.foreach)
        self.adam.step()
        beta = ema_beta(self.spec, nimg + self.spec.batch)
        for average, weight in zip(self.ema, self.weights, strict=True):
            average.copy_(weight.detach().lerp(average, beta))
        return loss.item()


class DefaultFit(PlainFit):
    """The same as torch does it by default: on a GPU Adam and clipping take all parameters at once."""

    foreach = None


def gflop_per_image(spec: TrainingSpec, resolution: int, channels: int) -> float:
    """Forward and backward: three times the forward products, by torch's own count."""
    network = build_network(spec.network, resolution, channels, 10, False, torch.Generator())
    network = as_written(network).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, channels, resolution, resolution), torch.zeros(1))
    return 3 * counter.get_total_flops() / 1e9


def configured(scale: str, run: str, batch: int | None) -> tuple[dict, DatasetSpec]:
    """The settings of a training of a configured run, and its dataset; `batch` replaces its batch size."""
    found = Experiments("config", scale)
    given = plain(found.training(run, 0))
    if batch:
        nimg = given["optimiser"]["nimg"] // batch * batch
        given["optimiser"] |= {"batch": batch, "nimg": nimg, "ramp_nimg": 0}
        given["snapshots"] = [nimg]
    return given, found.dataset(found.study(found.run(run).study).dataset)


def step(scale: str, run: str, batch: int | None, steps: int, repeats: int,
         ours_in: str = "bfloat16") -> Pair:
    """Steps of a configured run; `batch` replaces its batch size where time or memory ask for it."""
    given, dataset = configured(scale, run, batch)

    def looped(precision: str, kind: type):
        spec = build(TrainingSpec, given | {
            "optimiser": given["optimiser"] | {"precision": precision}}, "benchmark")
        made = batches(spec, dataset.resolution, dataset.channels)
        if kind is Fit:
            compile_for(made.denoiser.model, spec.optimiser.nimg // spec.optimiser.batch)
        fitting = kind(made.denoiser, spec.optimiser)

        def work() -> None:
            for k in range(1, steps + 1):
                fitting.step(made.loss, k * spec.optimiser.batch)
        return work

    spec, ours = build(TrainingSpec, given, "benchmark"), looped(ours_in, Fit)
    size = spec.optimiser.batch
    pair = paired(f"training step, {scale}, batch {size}, ours in {ours_in}", "images", size * steps,
                  looped("float32", PlainFit), ours, repeats,
                  gflop_per_image(spec, dataset.resolution, dataset.channels),
                  looped("bfloat16", DefaultFit))
    network = build_network(spec.network, dataset.resolution, dataset.channels, 10, False, torch.Generator())
    image = (dataset.channels, dataset.resolution, dataset.resolution)
    return replace(pair, shares=shares(profiled(ours)),
                   floor=steps * convolutions.alone(network.to(device()), image, size, backward=True))
