"""`python -m benchmarks.transformer`: what patches that are left out, and experts, are worth in MicroDiT.

The network is that of the study `microdit-tiny`, on latents of 4 x 32 x 32 and captions of 77 tokens.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from ambient.diffusion.networks.experts import Experts
from ambient.diffusion.networks.layers import GatedMLP
from ambient.diffusion.patches import kept_patches
from ambient.settings import Experiments
from ambient.specs import NetworkSpec
from ambient.specs.strict import build
from ambient.training.build import build_network
from ambient.training.hardware import autocast, device
from benchmarks.timing import Pair, paired

SIDE, CHANNELS, TOKENS, REMOVED = 32, 4, 77, 0.75
WIDTH, INSIDE = 512, 2048  # of a layer by itself
INDEX = "experts by index"
HEAD = "| plain / ours | plain, images/s | ours, images/s | ratio (smallest to largest) |\n|---|---|---|---|"


class OneHot(Experts):
    """The same experts, whose tokens are gathered and added by products with one-hot rows."""

    def forward(self, x: Tensor) -> Tensor:
        places, gates = self.chosen(x)
        rows = F.one_hot(places, x.shape[1]).to(x.dtype)  # (B, E, k, T)
        tokens = torch.einsum("bekt,btd->bekd", rows, x)
        inside = F.gelu(torch.einsum("bekd,edh->bekh", tokens, self.w1))
        outputs = torch.einsum("bekh,ehd->bekd", inside, self.w2) * gates[..., None]
        return torch.einsum("bekt,bekd->btd", rows, outputs)


def steps(batch: int, repeats: int) -> list[Pair]:
    """Forward and backward passes: all patches against a quarter of them, float32 against bfloat16."""
    settings = Experiments(Path("config"), "paper").study("microdit-tiny").training["network"]
    spec = build(NetworkSpec, {**settings, "conditional": True}, "network")
    generator = torch.Generator().manual_seed(0)
    network = build_network(spec, SIDE, CHANNELS, 0, False, generator).to(device())
    x, places = torch.randn(batch, CHANNELS, SIDE, SIDE), torch.rand(batch, (SIDE // spec.patch) ** 2)
    text = torch.randn(batch, TOKENS, spec.caption_channels)
    told = {"text": text, "patches": kept_patches(places, REMOVED)}
    x, told = x.to(device()), {name: one.to(device()) for name, one in told.items()}

    def step(*names: str, precision: str = "float32") -> Callable[[], None]:
        def work() -> None:
            with autocast(precision, device()):
                y = network(x, x.new_zeros(batch), {name: told[name] for name in names})
            y.float().square().mean().backward()
            network.zero_grad()
        return work

    return [paired("a step with all patches / with a quarter of them", "images", batch, step("text"),
                   step("text", "patches"), repeats),
            paired("a step in float32 / in bfloat16", "images", batch, step("text"),
                   step("text", precision="bfloat16"), repeats)]


def made() -> dict[str, nn.Module]:
    """8 experts, of which a token has 2, by two ways, and a dense MLP of as many multiplications.

    The MLP has three matrices, two experts have twice two.
    """
    drawn = {"generator": torch.Generator().manual_seed(0), "std": 0.02, "std_out": 0.02}
    found = {INDEX: Experts(WIDTH, INSIDE, 8, 2.0, **drawn),
             "experts by one-hot rows": OneHot(WIDTH, INSIDE, 8, 2.0, **drawn),
             "a dense MLP of equal cost": GatedMLP(WIDTH, 4 * INSIDE // 3, **drawn)}
    return {name: layer.to(device()) for name, layer in found.items()}


def layers(batch: int, tokens: int, repeats: int) -> list[Pair]:
    """One layer forward and backward by each way against experts by index."""
    found = made()
    x = torch.randn(batch, tokens, WIDTH, device=device(), requires_grad=True)

    def work(layer: nn.Module) -> Callable[[], None]:
        return lambda: layer(x).sum().backward()

    return [paired(f"{name} / {INDEX}, {tokens} tokens", "images", batch, work(plain), work(found[INDEX]),
                   repeats) for name, plain in found.items() if name != INDEX]


def counted(tokens: int) -> dict[str, float]:
    """GFLOP of one forward pass of each way for an image, by torch's counter."""
    found = {}
    for name, layer in made().items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer.to("meta").eval()(torch.zeros(1, tokens, WIDTH, device="meta"))
        found[name] = counter.get_total_flops() / 1e9
    return found


def line(pair: Pair) -> str:
    """A comparison as a row of Markdown."""
    rates = " | ".join(f"{pair.rate(one):.3g}" for one in (pair.plain, pair.ours))
    low, high = min(pair.ratios), max(pair.ratios)
    return f"| {pair.name} | {rates} | {statistics.median(pair.ratios):.2f} ({low:.2f} to {high:.2f}) |"


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformer", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/transformer.md"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pairs = [*layers(given.batch, 256, given.repeats), *layers(given.batch, 1024, given.repeats),
             *steps(given.batch, given.repeats)]
    on_gpu, counts = device().type == "cuda", counted(1024)
    where = torch.cuda.get_device_name() if on_gpu else torch.backends.cpu.get_cpu_capability()
    text = "\n".join([
        "# MicroDiT\n", f"Written by `python -m benchmarks.transformer --repeats {given.repeats} --threads "
        f"{given.threads} --batch {given.batch}` ({where}, torch {torch.__version__}).",
        "The two alternate in one run; a ratio is the median over repeats of the seconds of plain / ours.\n",
        HEAD, *map(line, pairs), "\nArithmetic of one layer forward for an image, counted:\n",
        "| layer | GFLOP, 256 tokens | GFLOP, 1024 tokens |\n|---|---|---|",
        *(f"| {name} | {few:.3f} | {counts[name]:.3f} |" for name, few in counted(256).items()), ""])
    given.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
