"""Benchmarks compare ways of doing the same work: what each computes, not how long it takes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ambient.settings import Experiments
from ambient.training.loop import Fit
from benchmarks import training
from benchmarks.__main__ import HEAD, line
from benchmarks.timing import Pair, paired


def test_the_ways_alternate_and_are_compared_repeat_by_repeat():
    calls = []
    pair = paired("work", "images", 6, *(lambda way=way: calls.append(way) for way in "po"), 2, 1.0,
                  lambda: calls.append("a"))
    assert "".join(calls) == "poa" * 3 and len(pair.autocast) == 2
    pair = Pair("work", "images", 6, (4.0, 6.0, 9.0), (2.0, 2.0, 3.0), 0.5, None, 1.5, (3.0, 2.0, 6.0))
    cells = line(pair, {"bfloat16": 10.0}).split(" | ")
    assert cells == ["| work", "1 images/s", "2 images/s", "3 images/s", "3.00 (2.00 to 3.00)",
                     "1.50 (1.00 to 2.00)", "4.00", "15% |"]
    assert len(HEAD.splitlines()[0].split(" | ")) == len(cells)


@pytest.mark.parametrize("kind", [training.PlainFit, training.DefaultFit])
def test_a_baseline_does_the_work_of_ours(kind):
    """Two steps in float32 on the same batches: losses and weights are equal but for rounding."""
    spec = Experiments("config", "demo").training("ambient-blur-0.6", 0)
    network = dataclasses.replace(spec.network, model_channels=8, channel_mult=(1, 2))
    chosen = dataclasses.replace(spec.optimiser, batch=4, nimg=8, ramp_nimg=0, precision="float32")
    spec = dataclasses.replace(spec, network=network, optimiser=chosen, snapshots=(8,))
    found = {}
    for one in (Fit, kind):
        batches = training.batches(spec, 16, 1, 40)
        fitting = one(batches.denoiser, chosen)
        losses = [float(fitting.step(batches.loss, nimg)) for nimg in (4, 8)]
        averages = fitting.ema if one is kind else fitting.averages[0]
        found[one] = losses, fitting.weights, averages
    assert found[kind][0] == pytest.approx(found[Fit][0], rel=1e-4)
    for ours, theirs in zip(found[Fit][1] + found[Fit][2], found[kind][1] + found[kind][2], strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)
