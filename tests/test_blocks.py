"""The numbers of a batch's rows are the same whoever draws them, and nobody draws others' rows."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from ambient.annotation.batches import ClassifierBatches
from ambient.annotation.classifier import NoiseClassifier
from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion import augment, blocks, randomness
from ambient.diffusion.blocks import BLOCK, Blocks
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.noise import lognormal
from ambient.jobs import ranks
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_network
from ambient.training.points import Points
from ambient.training.shares import Share
from tests.tiny import CLASSIFIER, NETWORK, TRAINING

DRAWS = {"uniform": lambda of: of.uniform(3, dtype=torch.float64), "normal": lambda of: of.normal(2, 5),
         "integers": lambda of: of.integers(1000), "masks": lambda of: of.bernoulli((of.count, 3, 7), 0.3),
         "levels": lambda of: of.draw(partial(lognormal, P_mean=0.0, P_std=1.0)),
         "augment": lambda of: of.draw(augment.numbers)}


@pytest.mark.parametrize(("p", "share"), [(0.0, 0.0), (2**-16, 2**-16), (1 - 2**-16, 1 - 2**-16),
                                          (1 - 2**-18, 1.0), (1.0, 1.0)])
def test_rare_decisions_are_rounded_to_the_nearest_multiple(p, share):
    kept = Blocks(slice(0, 64), "cpu", "rare", 1).bernoulli((64, 1 << 14), p).double().mean().item()
    assert kept == pytest.approx(share, abs=2e-5) and (kept == share or 0 < share < 1)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("rows", [(0, 1), (5, 6), (0, 16), (16, 32), (30, 37), (0, 100), (99, 100)])
def test_rows_are_the_same_whatever_else_is_drawn(name, rows):
    """Of two draws one after the other, as those of one generator follow each other."""
    whole, some = Blocks(slice(0, 100), "cpu", "x", 1), Blocks(slice(*rows), "cpu", "x", 1)
    for _ in range(2):
        one, other = DRAWS[name](whole), DRAWS[name](some)
        assert len(one) == 100 and len(one.flatten(1).unique(dim=0) if one.ndim > 1 else one.unique()) > 90
        assert torch.equal(one[slice(*rows)], other)


def test_a_block_draws_by_its_own_key():
    found = Blocks(slice(20, 30), "cpu", "batch", 7, 512).normal(4)
    wanted = torch.randn(BLOCK, 4, generator=randomness.torch_generator("cpu", "batch", 7, 512, 1))
    assert torch.equal(found, wanted[4:14])


def test_bounds_of_integers_are_kept():
    drawn = Blocks(slice(0, 8000), "cpu", "i").integers(5)
    assert np.abs(np.bincount(drawn.numpy(), minlength=5) - 1600).max() < 150 and drawn.max() == 4


@pytest.fixture
def counted(monkeypatch):
    """Numbers that generators of blocks were asked for, and images that were read."""
    found = {"blocks": 0, "images": 0}
    draw, visited = Blocks.draw, Points.visited

    def counting(self, one):
        found["blocks"] += len(self.generators)
        return draw(self, one)

    def reading(self, index, *rest):
        found["images"] += len(index)
        return visited(self, index, *rest)

    monkeypatch.setattr(blocks.Blocks, "draw", counting)
    monkeypatch.setattr(Points, "visited", reading)
    return found


def of_ranks(monkeypatch, size, step):
    """What `step` gives on each of `size` ranks, one after the other."""
    monkeypatch.setattr(ranks, "size", lambda: size)
    for rank in range(size):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        yield step()


def training(mixture, annotations):
    data = read(mixture)
    spec = dataclasses.replace(TRAINING, snapshots=(1280,), optimiser=wide(TRAINING.optimiser))
    network = build_network(NETWORK, 8, 1, 3, True, torch.Generator().manual_seed(0))
    return AmbientBatches(spec, data, Points(data), Annotations.read(annotations), Denoiser(network),
                          torch.device("cpu"))


def classifying(mixture, annotations):
    data = read(mixture)
    spec = dataclasses.replace(CLASSIFIER, optimiser=wide(CLASSIFIER.optimiser))
    generator = torch.Generator().manual_seed(0)
    network = NoiseClassifier(build_network(spec.network, 8, 1, 0, bool(spec.augment.transforms), generator,
                                            encoder_only=True), generator)
    return ClassifierBatches(spec, data, Points(data), network, torch.device("cpu"))


def wide(optimiser):
    return dataclasses.replace(optimiser, batch=8 * BLOCK, nimg=1280, precision="float32")


@pytest.mark.parametrize("made", [training, classifying])
def test_the_work_of_a_rank_falls_with_their_number_and_the_loss_stays(
        made, mixture, annotations, counted, monkeypatch):
    """1 to 8 ranks: images read and blocks drawn are a part of the whole; the mean loss is the same."""
    batches, found = made(mixture, annotations), {}  # the last batch, after which none is read ahead
    for size in (1, 2, 4, 8):
        seen = []
        for loss in of_ranks(monkeypatch, size, lambda: batches.loss(1152, Share()).item()):
            seen.append((dict(counted), loss))
            counted.update(blocks=0, images=0)
        found[size] = seen
    (work, whole), = found[1]
    assert work["images"] == 8 * BLOCK and work["blocks"] % 8 == 0
    for size, seen in found.items():
        assert [one for one, _ in seen] == [{key: n // size for key, n in work.items()}] * size
        assert np.mean([loss for _, loss in seen]) == pytest.approx(whole, rel=1e-5)
