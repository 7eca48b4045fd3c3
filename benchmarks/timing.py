"""Paired timings: two or three ways of doing the same work, alternating in one run, compared as ratios.

A shared machine's speed drifts by tens of per cent within minutes, so that single timings of two
programs say little; neighbours in time see the same machine.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from ambient.training.hardware import device

SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is the ceiling
KERNEL_NAME = 60  # characters: those of GPUs are long


@dataclass(frozen=True)
class Pair:
    """One comparison: seconds of each repeat, plain, ours and by autocast, and the units of work in a repeat.

    Plain is float32. By autocast is what a competent user adds to it: torch's own bfloat16 and defaults.
    """

    name: str
    unit: str  # of work: images, distances
    work: int
    plain: tuple[float, ...]
    ours: tuple[float, ...]
    gflop: float | None = None  # arithmetic in a unit of work, where it is counted
    shares: dict[str, float] | None = None  # of the time of ours, by operation, where it is profiled
    floor: float | None = None  # seconds of a repeat's convolutions by themselves, where they are timed
    autocast: tuple[float, ...] = ()  # of each repeat, where there is such a way

    @property
    def ratios(self) -> list[float]:
        """Of each repeat, plain / ours: how many times as fast ours is."""
        return [p / o for p, o in zip(self.plain, self.ours, strict=True)]

    @property
    def autocast_ratios(self) -> list[float]:
        """Of each repeat, by autocast / ours; empty where there is no such way."""
        return [a / o for a, o in zip(self.autocast, self.ours, strict=False)]

    def rate(self, seconds: tuple[float, ...]) -> float:
        """Units of work a second, median."""
        return self.work / statistics.median(seconds)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, and of what it has a GPU do: work from before is waited for first."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def paired(name: str, unit: str, work: int, plain: Callable[[], object], ours: Callable[[], object],
           repeats: int, gflop: float | None = None, autocast: Callable[[], object] | None = None) -> Pair:
    """Time all, alternating, after one call of each that is not counted."""
    ways = [plain, ours] if autocast is None else [plain, ours, autocast]
    for way in ways:
        way()
    times = [[seconds(way) for way in ways] for _ in range(repeats)]
    first, second, *rest = (tuple(column) for column in zip(*times, strict=True))
    return Pair(name, unit, work, first, second, gflop, autocast=rest[0] if rest else ())


def profiled(work: Callable[[], object]) -> Counter[str]:
    """Microseconds of a call by operation, without what it calls: the GPU's own where there is one."""
    gpu = torch.cuda.is_available()
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as found:
        work()
    times: Counter[str] = Counter()
    for event in found.key_averages():
        name = event.key.removeprefix("aten::")[:KERNEL_NAME]
        times[name] += event.self_device_time_total if gpu else event.self_cpu_time_total
    return times


def shares(times: Counter[str], most: int = 8) -> dict[str, float]:
    """Operations by their share of profiled time, the `most` largest."""
    return {name: spent / times.total() for name, spent in times.most_common(most)}


def ceiling(dtype: torch.dtype, repeats: int = 5) -> float:
    """GFLOP/s of a large matrix product on this machine: what arithmetic can reach at best."""
    where, side = device(), SIDE[device().type]
    a, b = (torch.randn(side, side, device=where).to(dtype) for _ in range(2))
    a @ b
    return 2 * side**3 / statistics.median(seconds(lambda: a @ b) for _ in range(repeats)) / 1e9
