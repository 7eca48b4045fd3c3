"""`python -m benchmarks.microdit`: a training step of MicroDiT, ours against the published formulas as they
stand, in plain eager float32; with a quarter of the patches against all of them; and what the loader takes.

The plain step is written from the formulas alone and shares no code with ours: attention is two products and
a softmax, experts take their tokens by products with one-hot rows, AdamW and the average go one tensor after
the other. Before anything is timed, both networks must agree on equal weights. The loader is what of a step
comes of no GPU: levels, latents and their noise, states of captions, all from files. Writes
benchmarks/microdit.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ambient.data import latents, text_states
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset
from ambient.data.texts import Texts
from ambient.diffusion.denoiser import Denoiser
from ambient.settings import Experiments
from ambient.specs import NetworkSpec, TrainingSpec
from ambient.specs.strict import build, plain
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_denoiser
from ambient.training.hardware import compile_for, device
from ambient.training.loop import Fit
from ambient.training.points import Points
from benchmarks.timing import Pair, paired, seconds
from benchmarks.transformer import HEAD, line

EPS, WAVES = 1e-6, 512
IMAGES, SIDE, CHANNELS, TOKENS = 512, 32, 4, 77
SIGMA_MIN, MARGIN, SIGMA_DATA, DROPOUT, REMOVED = 2.0, 0.05, 0.9, 0.1, 0.75


class PlainNetwork:
    """F(x, c_noise, caption) of MicroDiT, from a dictionary of weights by the public names."""

    def __init__(self, weights: dict[str, Tensor], spec: NetworkSpec) -> None:
        self.w, self.spec = weights, spec

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def norm(self, x: Tensor, name: str | None = None) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        whole = centred / (centred.pow(2).mean(-1, keepdim=True) + EPS).sqrt()
        return whole if name is None else whole * self.w[f"{name}.weight"]

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        head = self.spec.channels_per_head
        q, k, v = (x.unflatten(2, (-1, head)).transpose(1, 2) for x in (self.norm(q), self.norm(k), v))
        weights = (q @ k.transpose(2, 3) / math.sqrt(head)).softmax(3)
        return (weights @ v).transpose(1, 2).flatten(2)

    def to_itself(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.proj", self.attention(*self.linear(f"{name}.qkv", x).chunk(3, 2)))

    def to_others(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        k, v = self.linear(f"{name}.kv_linear", y).chunk(2, 2)
        return self.linear(f"{name}.proj", self.attention(self.linear(f"{name}.q_linear", x), k, v))

    def mlp(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.gate.weight" not in self.w:
            inside = F.silu(self.linear(f"{name}.w1", x)) * self.linear(f"{name}.w2", x)
            return self.linear(f"{name}.w3", inside)
        p, total = self.linear(f"{name}.gate", x).softmax(2), torch.zeros_like(x)
        count = int(self.spec.capacity * x.shape[1] / self.spec.num_experts)
        for expert in range(self.spec.num_experts):
            gates, places = p[:, :, expert].topk(count, 1)
            rows = F.one_hot(places, x.shape[1]).to(x)
            inside = F.gelu(rows @ x @ self.w[f"{name}.w1"][expert]) @ self.w[f"{name}.w2"][expert]
            total = total + rows.transpose(1, 2) @ (inside * gates[:, :, None])
        return total

    def caption(self, name: str, y: Tensor) -> Tensor:
        inside = F.gelu(self.linear(f"{name}.fc1", y), approximate="tanh")
        return self.linear(f"{name}.fc2", self.norm(inside, f"{name}.norm"))

    def block(self, name: str, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        told = self.linear(f"{name}.adaLN_modulation.1", F.gelu(c, approximate="tanh"))[:, None]
        shift, scale, gate, shift_2, scale_2, gate_2 = told.chunk(6, 2)
        inside = self.norm(x, f"{name}.norm1") * (1 + scale) + shift
        x = x + gate * self.to_itself(f"{name}.attn", inside)
        x = x + self.to_others(f"{name}.cross_attn", self.norm(x, f"{name}.norm2"), y)
        inside = self.norm(x, f"{name}.norm3") * (1 + scale_2) + shift_2
        return x + gate_2 * self.mlp(f"{name}.mlp", inside)

    def mapped(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.1", self.norm(x, f"{name}.0")) if f"{name}.1.weight" in self.w else x

    def told(self, c_noise: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the caption, and the vector of caption and noise level."""
        angles = c_noise[:, None] * 10000.0 ** (-torch.arange(WAVES // 2) / (WAVES // 2)).to(c_noise)
        waves = torch.cat([angles.cos(), angles.sin()], 1)
        time = F.gelu(self.linear("t_embedder.mlp.0", waves), approximate="tanh")
        y, at = self.caption("y_embedder.y_proj", text), "y_emb_preprocess"
        y = y + self.to_itself(f"{at}.attn", self.norm(y, f"{at}.norm1"))
        y = y + self.mlp(f"{at}.mlp", self.norm(y, f"{at}.norm2"))
        return y, self.linear("t_embedder.mlp.2", time) + self.caption("pooled_y_emb_process", y.mean(1))

    def __call__(self, x: Tensor, c_noise: Tensor, text: Tensor, places: Tensor | None = None) -> Tensor:
        y, c = self.told(c_noise, text)
        patch, grid = self.spec.patch, x.shape[-1] // self.spec.patch
        tokens = F.conv2d(x, self.w["x_embedder.proj.weight"], self.w["x_embedder.proj.bias"], patch)
        tokens = tokens.flatten(2).transpose(1, 2) + self.w["pos_embed"]
        tokens, narrow = self.mapped("patch_mixer_map_xin", tokens), self.mapped("patch_mixer_map_y", y)
        for i in range(self.spec.mixer_depth):
            tokens = self.block(f"patch_mixer.{i}", tokens, narrow, c)
        rows = torch.arange(len(x), device=x.device)[:, None]
        tokens = self.mapped("patch_mixer_map_xout", tokens if places is None else tokens[rows, places])
        for i in range(self.spec.depth):
            tokens = self.block(f"blocks.{i}", tokens, y, c)
        told = self.linear("final_layer.adaLN_modulation.1", F.gelu(c, approximate="tanh"))[:, None]
        shift, scale = told.chunk(2, 2)
        inside = self.norm(tokens, "final_layer.norm_final") * (1 + scale) + shift
        out = self.linear("final_layer.linear", inside)
        if places is not None:
            whole = out.new_zeros(len(x), grid**2, out.shape[2])
            whole[rows, places] = out
            out = whole
        out = out.reshape(len(x), grid, grid, patch, patch, -1)
        return out.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)

    def denoised(self, x: Tensor, sigma: Tensor, text: Tensor, places: Tensor | None = None) -> Tensor:
        s = sigma[:, None, None, None]
        total = s**2 + SIGMA_DATA**2
        inside = self(x / total.sqrt(), sigma.log() / 4, text, places)
        return SIGMA_DATA**2 / total * x + s * SIGMA_DATA / total.sqrt() * inside


class PlainStep:
    """The training step with the ambient loss, one tensor after the other, on data that are in memory."""

    def __init__(self, network: PlainNetwork, spec: TrainingSpec, points: Tensor, text: Tensor) -> None:
        self.network, self.spec, self.points, self.text = network, spec, points, text
        self.weights = [w for name, w in network.w.items() if name not in ("pos_embed", "mask_token")]
        for weight in self.weights:
            weight.requires_grad_()
        self.average = [w.detach().clone() for w in self.weights]
        rate = spec.optimiser
        self.adam = torch.optim.AdamW(self.weights, lr=rate.lr, betas=rate.betas, eps=rate.eps,
                                      weight_decay=rate.weight_decay, foreach=False)

    def loss(self) -> Tensor:
        batch, where = self.spec.optimiser.batch, self.points.device
        rows = torch.randint(len(self.points), (batch,), device=where)
        noise = self.spec.noise
        sigma = (noise.P_mean + noise.P_std * torch.randn(batch, device=where)).exp()
        x0 = self.points[rows]
        text = self.text[rows].float() * (torch.rand(batch, device=where) >= DROPOUT)[:, None, None]
        s = sigma[:, None, None, None]
        tn = torch.where((s > SIGMA_MIN + MARGIN) & (rows % 3 == 0)[:, None, None, None], SIGMA_MIN, 0.0)
        x_tn = x0 + tn * torch.randn_like(x0)
        x_t = x_tn + (s**2 - tn**2).sqrt() * torch.randn_like(x0)
        alpha, grid, places = (s**2 - tn**2) / s**2, x0.shape[-1] // self.network.spec.patch, None
        if self.spec.mask:
            scores = torch.rand(batch, grid**2, device=where)
            places = scores.topk(int(grid**2 * (1 - self.spec.mask)), largest=False).indices
        found = alpha * self.network.denoised(x_t, sigma, text, places) + (1 - alpha) * x_t
        weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2 / alpha**2
        each = F.avg_pool2d((weight * (found - x_tn) ** 2).mean(1, keepdim=True), self.network.spec.patch)
        each = each.flatten(1)
        return each.mean() if places is None else each.gather(1, places).mean()

    def step(self) -> None:
        self.adam.zero_grad()
        self.loss().backward()
        torch.nn.utils.clip_grad_norm_(self.weights, self.spec.optimiser.clip, foreach=False)
        self.adam.step()
        for mean, weight in zip(self.average, self.weights, strict=True):
            mean.lerp_(weight.detach(), 0.0025)


@cache
def settings() -> Experiments:
    """Those of the paper's scale."""
    return Experiments(Path("config"), "paper")


def specification(network: dict, batch: int, mask: float, precision: str, steps: int) -> TrainingSpec:
    """The first phase of text to image, with another network and batch."""
    given = plain(settings().training("text-ambient-1", 0))
    nimg = batch * steps
    given["optimiser"] |= {"batch": batch, "nimg": nimg, "ramp_nimg": 0, "precision": precision}
    return build(TrainingSpec, given | {"network": network, "mask": mask, "snapshots": [nimg]}, "benchmark")


def tiny() -> dict:
    """The settings of MicroDiT Tiny at 256 pixels."""
    network = settings().study("microdit-tiny").training["network"]
    return {**network, "conditional": True, "position_scale": 1.0}


class Stored:
    """Random latents and states of captions, in files as the workflow writes them."""

    def __init__(self, folder: Path, spec: TrainingSpec) -> None:
        random, ids = np.random.default_rng(0), np.arange(IMAGES)
        shape, scale = (CHANNELS, SIDE, SIDE), np.ones(CHANNELS, np.float32)
        mean, std = (random.standard_normal((IMAGES, *shape), np.float32) for _ in range(2))
        latents.write(folder / "latents", ids, shape, 0 * scale, scale,
                      [latents.Latents(mean, np.abs(std) / 10, ids, 0 * scale, scale)])
        captions = Texts.of(f"caption {i:04d}" for i in ids)
        wide = spec.network.caption_channels
        states = random.standard_normal((IMAGES, TOKENS, wide), np.float32).astype(np.float16)
        text_states.write(folder / "texts", captions.digests(), states.shape[1:], [states])
        self.data = Dataset(None, np.full(IMAGES, -1), ids, captions=captions)
        self.points = Points(self.data, [folder / "latents"])
        self.told = text_states.told(captions, [folder / "texts"])
        self.rows = Annotations(ids, np.where(ids % 3 == 0, SIGMA_MIN, 0.0), np.zeros(IMAGES))

    def batches(self, spec: TrainingSpec, denoiser: Denoiser) -> AmbientBatches:
        return AmbientBatches(spec, self.data, self.points, self.rows, denoiser, device(), self.told)


def built(spec: TrainingSpec) -> Denoiser:
    """The denoiser, with small numbers where its initial weights are 0.

    With zeros there its output would be 0, which two networks share that share nothing.
    """
    denoiser = build_denoiser(spec, SIDE, CHANNELS, 0, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in denoiser.parameters():
            if not weight.any():
                weight.normal_(std=0.2, generator=generator)
    return denoiser.to(device()).train()


def plainly(denoiser: Denoiser, spec: TrainingSpec) -> PlainNetwork:
    """The plain network with the weights of ours."""
    weights = {name.removeprefix("model."): one.clone() for name, one in denoiser.state_dict().items()}
    return PlainNetwork(weights, spec.network)


def agree(ours: Denoiser, theirs: PlainNetwork) -> None:
    """Raise `RuntimeError` unless both networks give the same for equal weights, with all patches and few."""
    generator, where = torch.Generator().manual_seed(0), device()
    x = torch.randn(2, CHANNELS, SIDE, SIDE, generator=generator).to(where)
    text = torch.randn(2, TOKENS, theirs.spec.caption_channels, generator=generator).to(where)
    sigma = torch.tensor([0.3, 5.0], device=where)
    count = (SIDE // theirs.spec.patch) ** 2
    kept = torch.rand(2, count, generator=generator).topk(count // 4).indices.to(where)
    for places in (None, kept):
        told = {"text": text} | ({} if places is None else {"patches": places})
        with torch.no_grad():
            a, b = ours(x, sigma, told), theirs.denoised(x, sigma, text, places)
        off = float((a - b).abs().max() / b.abs().max())
        if not off < 1e-4:
            raise RuntimeError(f"the plain network is another than ours: {off:.2g} apart")


class Ours:
    """Our training steps of one denoiser, by as many specifications of its batches as are given."""

    def __init__(self, stored: Stored, *specs: TrainingSpec) -> None:
        self.denoiser = built(specs[0])
        compile_for(self.denoiser.model, specs[0].optimiser.nimg // specs[0].optimiser.batch)
        self.batches = [stored.batches(spec, self.denoiser) for spec in specs]
        self.fitting = Fit(self.denoiser, specs[0].optimiser)

    def steps(self, steps: int, which: int = 0) -> Callable[[], None]:
        """So many steps, by one of the specifications."""
        def work() -> None:
            for k in range(steps):
                self.fitting.step(self.batches[which].loss, k * self.fitting.spec.batch)
        return work


def against_plain(network: dict, batch: int, mask: float, precision: str, stored: Stored, steps: int,
                  repeats: int) -> Pair:
    """Plain steps against ours."""
    spec = specification(network, batch, mask, precision, steps)
    ours = Ours(stored, spec)
    theirs = plainly(ours.denoiser, spec)
    agree(ours.denoiser, theirs)
    text = torch.from_numpy(stored.told[stored.data.ids]).to(device())
    points = stored.points.fixed(stored.data.ids, 0).to(device())
    step = PlainStep(theirs, spec, points, text).step
    return paired(f"plain float32 / ours in {precision}, {mask:.0%} of the patches left out", "images",
                  batch * steps, lambda: [step() for _ in range(steps)], ours.steps(steps), repeats)


def compared(network: dict, batch: int, steps: int, repeats: int, folder: Path) -> list[Pair]:
    """Steps of both, masked and not, in both precisions; and ours with all patches against ours masked."""
    specs = [specification(network, batch, mask, "bfloat16", steps) for mask in (0.0, REMOVED)]
    stored = Stored(folder, specs[0])
    pairs = [against_plain(network, batch, mask, precision, stored, steps, repeats)
             for mask in (REMOVED, 0.0) for precision in ("float32", "bfloat16")]
    ours = Ours(stored, *specs)
    return [*pairs, paired(f"ours, all patches / {REMOVED:.0%} left out, bfloat16", "images", batch * steps,
                           ours.steps(steps, 0), ours.steps(steps, 1), repeats)]


def loading(network: dict, batch: int, steps: int, repeats: int, folder: Path) -> list[float]:
    """The time of drawing and reading a batch over that of the step, of each repeat."""
    spec = specification(network, batch, REMOVED, "bfloat16", steps)
    ours = Ours(Stored(folder, spec), spec)
    work = ours.steps(steps)

    def read() -> None:
        for k in range(steps):
            ours.batches[0].read((k * batch, 0, batch))

    work()
    read()
    return [seconds(read) / seconds(work) for _ in range(repeats)]


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.microdit", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1, help="in a repeat")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/microdit.md"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with TemporaryDirectory() as folder:
        measured = given.batch, given.steps, given.repeats, Path(folder)
        pairs, shares = compared(tiny(), *measured), loading(tiny(), *measured)
    on_gpu = device().type == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability()
    options = " ".join(f"--{key} {getattr(given, key)}" for key in ("repeats", "threads", "batch", "steps"))
    text = "\n".join([
        "# A training step of MicroDiT Tiny\n",
        f"Written by `python -m benchmarks.microdit {options}` ({where}, torch {torch.__version__}). Plain: "
        "the published formulas in eager float32. The two alternate in one run.\n", HEAD, *map(line, pairs),
        f"\nThe loader, of a step in bfloat16 with {REMOVED:.0%} left out: {statistics.median(shares):.2%} "
        f"({min(shares):.2%} to {max(shares):.2%}).", ""])
    given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
