"""What may keep a GPU from its best: each suspect is one thing that is changed, against ours as it is.

All are of the CIFAR-10 network with one block a level in the place of four, so that its kernels have the same
shapes and compiling takes a fourth of the time; in bfloat16 and compiled, but where a suspect says otherwise.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from ambient.diffusion.augment import augmented
from ambient.training import batches
from ambient.training.hardware import device
from benchmarks.timing import Pair, paired
from benchmarks.training import as_written
from benchmarks.works import CIFAR10, Sampling, Size, Training, Way, compiled

SHALLOW = {"num_blocks": 1}
FLOAT32_BATCH = 128  # images: such a step takes six times as long
DRAWN = 2000  # samples of a call
SYNCHRONISES = "called a synchronizing CUDA operation"  # torch's warning


@dataclass(frozen=True)
class Suspect:
    """What is as it is, what is changed, and the two ways of doing the same work."""

    ours: str
    changed: str
    ways: Callable[[Size], tuple[Way, Way]]
    work: Callable[[Size], int] | None = None  # images of a call; None: those of training steps


class Watched:
    """A way, and the most memory that a call of it took, GB; 0 where there is no GPU."""

    def __init__(self, way: Way) -> None:
        self.way, self.peak = way, 0.0

    def __call__(self) -> None:
        if not torch.cuda.is_available():
            self.way()
            return
        torch.cuda.reset_peak_memory_stats()
        self.way()
        self.peak = max(self.peak, torch.cuda.max_memory_allocated() / 1e9)


def within(block: Callable[[], AbstractContextManager], way: Way) -> Way:
    """A way, every call of which is inside of a block."""
    def called() -> None:
        with block():
            way()
    return called


def shallow(size: Size, options: dict | None = None, translate: bool = True, **given: object) -> Training:
    """A training of the shallow network, compiled with other `options` of torch's compiler."""
    made = Training(size, CIFAR10, **SHALLOW, **given)
    if translate:
        compiled(made.network, options or {})
    return made


def same(size: Size, block: Callable[[], AbstractContextManager], **given: object) -> tuple[Way, Way]:
    """One training as it is, and inside of a block."""
    made = shallow(size, **given)
    return made, within(block, made)


@contextmanager
def free_algorithms() -> Iterator[None]:
    """torch may take algorithms that don't repeat their bits."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


@contextmanager
def tf32() -> Iterator[None]:
    """Products and convolutions of float32 round their factors to TF32."""
    both = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [one.fp32_precision for one in both]
    for one in both:
        one.fp32_precision = "tf32"
    try:
        yield
    finally:
        for one, precision in zip(both, before, strict=True):
            one.fp32_precision = precision


@contextmanager
def by_trial() -> Iterator[None]:
    """cuDNN tries its algorithms and keeps the quickest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def one_by_one(averages: list[Tensor], weights: list[Tensor], share: float) -> None:
    """`torch._foreach_lerp_`, one tensor after the other."""
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, share)


def averages_by(lerp: Callable[..., None]) -> Callable[[], AbstractContextManager]:
    """A block in which averages of weights are made by another function."""
    return lambda: mock.patch.object(torch, "_foreach_lerp_", lerp)


def dropout(size: Size) -> tuple[Way, Way]:
    other = Training(size, CIFAR10, **SHALLOW)
    as_written(other.network)
    compiled(other.network)
    return shallow(size), other


def augmentation(size: Size) -> tuple[Way, Way]:
    translated = torch.compile(augmented, dynamic=False, **({"backend": "eager"} if size.quick else {}))
    return same(size, lambda: mock.patch.object(batches, "augmented", translated))


def reading_losses(size: Size) -> tuple[Way, Way]:
    made = shallow(size)
    return made, lambda: [float(made.step()) for _ in range(size.steps)]


def reading_ahead(size: Size) -> tuple[Way, Way]:
    made = shallow(size)
    return made, within(lambda: mock.patch.object(
        made.batches, "ahead", lambda key, following: made.batches.read(key)), made)


def parts(size: Size) -> tuple[Way, Way]:
    made = shallow(size)
    return made, within(lambda: mock.patch.object(made.fit, "parts", 4), made)


def together(count: int) -> Callable[[Size], tuple[Way, Way]]:
    """Samples drawn as the stage draws them, and `count` of them together."""
    def ways(size: Size) -> tuple[Way, Way]:
        found = [Sampling(size, CIFAR10, number, DRAWN, **SHALLOW) for number in (None, count)]
        for one in found:
            compiled(one.network)
        return found[0], found[1]
    return ways


def layout(size: Size) -> tuple[Way, Way]:
    other = Training(size, CIFAR10, **SHALLOW)
    other.network.to(memory_format=torch.channels_last)
    compiled(other.network)
    return shallow(size), other


def drawn(size: Size) -> int:
    return size.batch(DRAWN)


# CUDA graphs are last: a recording that fails may take the process's other GPU work with it.
SUSPECTS = {
    "compile": Suspect("compiled", "not compiled",
                       lambda size: (shallow(size), shallow(size, translate=False))),
    "deterministic": Suspect("algorithms that repeat their bits", "whichever torch takes",
                             lambda size: same(size, free_algorithms)),
    "channels-last": Suspect("NCHW", "channels_last, compiled", layout),
    "layout-rule": Suspect("channels last inside of the compiled network", "torch's rule for layouts",
                           lambda size: (shallow(size), shallow(size, {"force_layout_optimization": False}))),
    "dropout": Suspect("masks drawn before", "torch's own, in the compiled network", dropout),
    "augmentation": Suspect("not compiled", "compiled", augmentation),
    "cudnn-trial": Suspect("cuDNN's rules", "cudnn.benchmark", lambda size: same(size, by_trial)),
    "parts": Suspect("a batch at once", "in four parts", parts),
    "ema-foreach": Suspect("averages of all weights at once", "one after the other",
                           lambda size: same(size, averages_by(one_by_one))),
    "ema-rarely": Suspect("averages in each step", "in none: the bound of fewer",
                          lambda size: same(size, averages_by(lambda *given: None))),
    "loss-read": Suspect("no step reads its loss", "each does", reading_losses),
    "read-ahead": Suspect("the next batch is read beside a step", "before it", reading_ahead),
    "samples-1000": Suspect(f"{CIFAR10.samples} samples together", "1,000", together(1000), drawn),
    "samples-2000": Suspect(f"{CIFAR10.samples} samples together", "2,000", together(2000), drawn),
    "tf32": Suspect("a step in float32, not compiled", "in TF32", lambda size: same(
        size, tf32, translate=False, precision="float32", batch=FLOAT32_BATCH),
        lambda size: size.steps * size.batch(FLOAT32_BATCH)),
    "cuda-graphs": Suspect("launched kernel by kernel", "as a CUDA graph", lambda size: (
        shallow(size), shallow(size, {"triton.cudagraphs": True})))}


def compared(suspect: Suspect, size: Size) -> tuple[Pair, list[float]]:
    """Both ways in alternation, and the memory that each took, GB."""
    ways = [Watched(way) for way in suspect.ways(size)]
    images = suspect.work(size) if suspect.work else size.steps * size.batch(CIFAR10.batch)
    pair = paired(f"{suspect.ours} / {suspect.changed}", "images", images, *ways, size.repeats)
    return pair, [way.peak for way in ways]


def synchronisations(way: Way) -> Counter[str]:
    """How often a call has the host wait for the GPU, by the line that does; by torch's own warnings."""
    gpu = device().type == "cuda"
    way()
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        if gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            way()
        finally:
            if gpu:
                torch.cuda.set_sync_debug_mode("default")
    return Counter(f"{Path(one.filename).name}:{one.lineno}" for one in noted
                   if SYNCHRONISES in str(one.message))
