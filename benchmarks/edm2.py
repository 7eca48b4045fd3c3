"""`python -m benchmarks.edm2`: a training step of EDM2's network, ours against the published formulas as they
stand, in plain eager float32.

The plain step is written from the formulas alone and shares no code with ours: each layer normalises its
own weight in place in every forward pass, and again for its use; Adam and the averages go one tensor after
the other. Before anything is timed, both networks must agree on equal weights. Writes benchmarks/edm2.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset
from ambient.settings import Experiments
from ambient.specs import TrainingSpec
from ambient.specs.strict import build, plain
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_denoiser
from ambient.training.loop import Fit
from ambient.training.points import Points
from benchmarks.timing import Pair, paired

EPS = 1e-4
CLASSES, IMAGES, CHANNELS = 10, 1000, 3
EXPONENTS = 16.97, 6.94  # of averages of the widths 0.05 and 0.10
# Name, side, batch, settings of the network.
SIZES = (
    ("the demo's: 8 x 8, 32 channels", 8, 64, {"model_channels": 32, "channel_mult": [1, 2], "num_blocks": 1,
                                               "attn_resolutions": [4], "channels_per_head": 32}),
    ("32 x 32, 64 channels", 32, 8, {"model_channels": 64, "channel_mult": [1, 2, 3], "num_blocks": 2,
                                     "attn_resolutions": [8], "channels_per_head": 64}))


def unit(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x / (eps + RMS(x))."""
    return x / (EPS + x.pow(2).mean(axes, keepdim=True).sqrt())


def mixed(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The sum of two that keeps their magnitude."""
    return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


class PlainNetwork:
    """F(x, c_noise) and u(sigma) of EDM2, from a dictionary of weights by the public names."""

    def __init__(self, weights: dict[str, Tensor], side: int, spec: dict) -> None:
        self.w, self.side, self.spec = weights, side, spec
        self.training = True

    def layer(self, name: str, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """A weight layer: forced normalisation, then the normalisation through which the gradient flows."""
        weight = self.w[f"{name}.weight"]
        axes = tuple(range(1, weight.ndim))
        if self.training:
            with torch.no_grad():
                weight.copy_(unit(weight, axes))
        used = unit(weight, axes) * (gain / math.sqrt(weight[0].numel()))
        return F.linear(x, used) if weight.ndim == 2 else F.conv2d(x, used, padding=weight.shape[-1] // 2)

    def waves(self, name: str, x: Tensor) -> Tensor:
        return math.sqrt(2) * torch.cos(torch.outer(x, self.w[f"{name}.freqs"]) + self.w[f"{name}.phases"])

    def block(self, name: str, x: Tensor, embedding: Tensor) -> Tensor:
        """A residual block: of the encoder, or of the decoder."""
        of_encoder, skip = name.startswith("model.enc"), f"{name}.conv_skip"
        if name.endswith("_down"):
            x = F.avg_pool2d(x, 2)
        elif name.endswith("_up"):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if of_encoder:
            x = unit(self.layer(skip, x) if f"{skip}.weight" in self.w else x, (1,))
        y = self.layer(f"{name}.conv_res0", F.silu(x) / 0.596)
        scale = self.layer(f"{name}.emb_linear", embedding, self.w[f"{name}.emb_gain"]) + 1
        y = F.silu(y * scale[:, :, None, None]) / 0.596
        y = self.layer(f"{name}.conv_res1", y)
        if not of_encoder and f"{skip}.weight" in self.w:
            x = self.layer(skip, x)
        x = mixed(x, y, 0.3)
        if f"{name}.attn_qkv.weight" in self.w:
            x = mixed(x, self.layer(f"{name}.attn_proj", self.attention(name, x)), 0.3)
        return x.clip(-256, 256)

    def attention(self, name: str, x: Tensor) -> Tensor:
        heads = x.shape[1] // self.spec["channels_per_head"]
        qkv = self.layer(f"{name}.attn_qkv", x).reshape(len(x), heads, -1, 3, x.shape[2] * x.shape[3])
        q, k, v = unit(qkv, (2,)).unbind(3)
        weights = torch.einsum("nhcq,nhck->nhqk", q, k / math.sqrt(q.shape[2])).softmax(3)
        return torch.einsum("nhqk,nhck->nhcq", weights, v).reshape(x.shape)

    def __call__(self, x: Tensor, c_noise: Tensor, classes: Tensor) -> Tensor:
        embedding = self.layer("model.emb_noise", self.waves("model.emb_fourier", c_noise))
        label = self.layer("model.emb_label", classes * math.sqrt(classes.shape[1]))
        embedding = F.silu(mixed(embedding, label, 0.5)) / 0.596
        x, skips = torch.cat([x, torch.ones_like(x[:, :1])], 1), []
        for level in range(len(self.spec["channel_mult"])):
            place = f"model.enc.{self.side >> level}x{self.side >> level}"
            x = self.block(f"{place}_down", x, embedding) if level else self.layer(f"{place}_conv", x)
            skips.append(x)
            for i in range(self.spec["num_blocks"]):
                x = self.block(f"{place}_block{i}", x, embedding)
                skips.append(x)
        for level in reversed(range(len(self.spec["channel_mult"]))):
            place = f"model.dec.{self.side >> level}x{self.side >> level}"
            lowest = level == len(self.spec["channel_mult"]) - 1
            for name in ("in0", "in1") if lowest else ("up",):
                x = self.block(f"{place}_{name}", x, embedding)
            for i in range(self.spec["num_blocks"] + 1):
                skip = skips.pop()
                whole = math.sqrt((x.shape[1] + skip.shape[1]) / 0.5)
                x = torch.cat([x * (0.5 * whole / math.sqrt(x.shape[1])),
                               skip * (0.5 * whole / math.sqrt(skip.shape[1]))], 1)
                x = self.block(f"{place}_block{i}", x, embedding)
        return self.layer("model.out_conv", x) * self.w["model.out_gain"]

    def denoised(self, x: Tensor, sigma: Tensor, classes: Tensor) -> Tensor:
        s = sigma[:, None, None, None]
        total = s**2 + 0.25
        inside = self(x / total.sqrt(), sigma.log() / 4, classes)
        return 0.25 / total * x + s * 0.5 / total.sqrt() * inside

    def log_variance(self, sigma: Tensor) -> Tensor:
        return self.layer("logvar_linear", self.waves("logvar_fourier", sigma.log() / 4))[:, 0]


class PlainStep:
    """EDM2's training step with the ambient loss, one tensor after the other."""

    def __init__(self, network: PlainNetwork, spec: TrainingSpec, images: Tensor) -> None:
        self.network, self.spec, self.images, self.seen = network, spec.optimiser, images, 0
        self.weights = [w for name, w in network.w.items() if not name.endswith((".freqs", ".phases"))]
        for weight in self.weights:
            weight.requires_grad_()
        self.averages = [[w.detach().clone() for w in self.weights] for _ in self.spec.ema_stds]
        self.adam = torch.optim.Adam(self.weights, lr=self.spec.lr, betas=self.spec.betas, foreach=False)

    def loss(self) -> Tensor:
        batch = self.spec.batch
        rows = torch.randint(len(self.images), (batch,))
        x0, sigma = self.images[rows], (torch.randn(batch) - 0.4).exp()
        classes = F.one_hot(rows % CLASSES, CLASSES).float()
        s = sigma[:, None, None, None]
        tn = torch.where(s > 0.2, 0.2, 0.0) * (rows % 10 > 0)[:, None, None, None]
        x_tn = x0 + tn * torch.randn_like(x0)
        x_t = x_tn + (s**2 - tn**2).sqrt() * torch.randn_like(x0)
        alpha = (s**2 - tn**2) / s**2
        found = alpha * self.network.denoised(x_t, sigma, classes) + (1 - alpha) * x_t
        weight = (s**2 + 0.25) / (s * 0.5) ** 2 / alpha**2
        u = self.network.log_variance(sigma)[:, None, None, None]
        return (weight / u.exp() * (found - x_tn) ** 2 + u).sum() / batch

    def step(self) -> None:
        loss = self.loss()
        self.adam.zero_grad()
        loss.backward()
        for weight in self.weights:
            torch.nan_to_num(weight.grad, nan=0, posinf=0, neginf=0, out=weight.grad)
        self.adam.step()
        self.seen += self.spec.batch
        for exponent, average in zip(EXPONENTS, self.averages, strict=True):
            beta = (1 - self.spec.batch / self.seen) ** (exponent + 1)
            for mean, weight in zip(average, self.weights, strict=True):
                mean.lerp_(weight.detach(), 1 - beta)


def agree(ours: nn.Module, theirs: PlainNetwork, side: int) -> None:
    """Raise `RuntimeError` unless both networks give the same for equal weights."""
    x, sigma = torch.randn(2, CHANNELS, side, side), torch.tensor([0.3, 5.0])
    classes = torch.eye(CLASSES)[:2]
    with torch.no_grad():
        ours.eval()
        theirs.training = False
        a, b = ours(x, sigma, {"classes": classes}), theirs.denoised(x, sigma, classes)
        off = (a - b).abs().max() / b.abs().max()
        off = max(off, (ours.log_variance(sigma) - theirs.log_variance(sigma)).abs().max())
        ours.train()
        theirs.training = True
    if not off < 1e-4:
        raise RuntimeError(f"the plain network is another than ours: {float(off):.2g} apart")


def specification(network: dict, batch: int, precision: str) -> TrainingSpec:
    """Table 1's training of EDM2-XS, with another network, batch and precision."""
    given = plain(Experiments("config", "paper").training("quality-xs", 0))
    nimg = batch * 1000
    given |= {"network": {"kind": "mp_unet", "dropout": 0.0, "conditional": True, **network},
              "snapshots": [nimg]}
    given["optimiser"] |= {"batch": batch, "nimg": nimg, "ramp_nimg": 0, "decay_nimg": nimg,
                           "precision": precision}
    return build(TrainingSpec, given, "benchmark")


def built(spec: TrainingSpec, side: int) -> nn.Module:
    """The denoiser, with gains that are not 0, as they are at initialisation.

    With zeros there its output would be 0, which two networks share that share nothing.
    """
    denoiser = build_denoiser(spec, side, CHANNELS, CLASSES, torch.Generator().manual_seed(0)).train()
    with torch.no_grad():
        for weight in denoiser.parameters():
            if weight.ndim == 0:
                weight.fill_(0.5)
    return denoiser


def compared(name: str, side: int, batch: int, network: dict, precision: str, repeats: int) -> Pair:
    """Steps of both on random images, of which nine in ten count as bad below sigma 0.2."""
    spec = specification(network, batch, precision)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, CHANNELS, side, side), np.uint8)
    ids = np.arange(IMAGES)
    data = Dataset(images, ids % CLASSES, ids)
    rows = Annotations(ids, 0.2 * (ids % 10 > 0), np.zeros(IMAGES))
    denoiser = built(spec, side)
    theirs = PlainNetwork({key: value.clone() for key, value in denoiser.state_dict().items()}, side, network)
    agree(denoiser, theirs, side)
    steps = max(1, 256 // batch // (side // 4))
    batches = AmbientBatches(spec, data, Points(data), rows, denoiser, torch.device("cpu"))
    fitting = Fit(denoiser, spec.optimiser)
    plainly = PlainStep(theirs, spec, torch.from_numpy(images).float() / 127.5 - 1)

    def ours() -> None:
        for k in range(1, steps + 1):
            fitting.step(batches.loss, k * batch)

    def plain_steps() -> None:
        for _ in range(steps):
            plainly.step()

    return paired(f"{name}, batch {batch}, ours in {precision}", "images", batch * steps, plain_steps, ours,
                  repeats)


def line(pair: Pair) -> str:
    """A comparison as a row of Markdown."""
    ratios = sorted(pair.ratios)
    return (f"| {pair.name} | {pair.rate(pair.plain):.3g} | {pair.rate(pair.ours):.3g} "
            f"| {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |")


def main() -> None:
    """Every size in both precisions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edm2", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/edm2.md"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    work: list[Callable[[], Pair]] = [
        lambda size=size, precision=precision: compared(*size, precision, given.repeats)
        for size in SIZES for precision in ("float32", "bfloat16")]
    lines = []
    for one in work:
        lines.append(line(one()))
        print(lines[-1], flush=True)
    given.out.write_text("\n".join([
        "# A training step of EDM2's network\n",
        f"Written by `python -m benchmarks.edm2 --repeats {given.repeats} --threads {given.threads}` "
        f"({torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}). Plain: the published "
        "formulas in eager float32. Both alternate in one run.\n",
        "| network | plain, images/s | ours, images/s | ratio (smallest to largest) |\n|---|---|---|---|",
        *lines, ""]))
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
