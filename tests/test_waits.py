"""A step asks its device for nothing: what the host must know it learns with a line of the log, or later."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import TRAINING, kept, optimiser
from torch.utils._python_dispatch import TorchDispatchMode

from ambient.data import annotations as annotated
from ambient.data import datasets
from ambient.diffusion import augment, randomness
from ambient.training import finite
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_denoiser
from ambient.training.loop import Fit, Run, fit
from ambient.training.points import Points


class Asked(TorchDispatchMode):
    """Counts numbers that are handed from tensors to Python, such as `item` and `bool` do."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **kwargs or {})


def test_a_step_asks_for_no_number(mixture, tmp_path):
    """With augmentation and dropout. Neither the loss nor the norm of the gradient is asked for."""
    data = datasets.read(mixture)
    levels = np.where(np.arange(len(data.ids)) % 3 == 0, 0.0, 0.5)
    rows = annotated.Annotations(data.ids, levels, np.zeros(len(levels)))
    denoiser = build_denoiser(TRAINING, data.images.shape[-1], data.images.shape[1], data.num_classes,
                              randomness.torch_generator("cpu", "init", 0)).train()
    batches = AmbientBatches(TRAINING, data, Points(data), rows, denoiser, torch.device("cpu"))
    run = Run("train", Fit(denoiser, TRAINING.optimiser), kept(tmp_path / "state"))
    run.every = 64  # four steps
    run.step(batches.loss)  # makes what all steps share
    with Asked() as asked:
        for _ in range(2):
            assert run.step(batches.loss) is None
        assert asked.count == 0
        assert run.step(batches.loss) is not None
    assert asked.count == 1  # the sum of the losses; the note is read as a list


def training(tmp_path, bad: dict[int, float], **given):
    """A training of one layer whose loss is a number that is not finite after some images."""
    layer = torch.nn.Linear(1, 1, bias=False)
    spec = optimiser(ramp_nimg=0, decay="constant", **given)
    fit("train", layer, spec, lambda nimg, share: layer.weight.sum() ** 2 * bad.get(nimg, 1.0),
        kept(tmp_path / "state"), (), lambda nimg, averages: None)


@pytest.mark.parametrize(("every", "noticed"), [(256, 4), (3, 3)])
def test_the_step_is_named_that_was_the_first(tmp_path, monkeypatch, every, noticed):
    """400 lines over 1,600 steps are one in four. The first bad step is named, whenever it is noticed."""
    monkeypatch.setattr(finite, "EVERY", every)
    steps = []
    note = finite.FirstNotFinite.note
    monkeypatch.setattr(finite.FirstNotFinite, "note",
                        lambda self, *step: (steps.append(step[0]), note(self, *step)))
    first = r"^after 16 images the gradient norm is inf \(loss inf\): lower lr"
    with pytest.raises(FloatingPointError, match=first):
        training(tmp_path, {16: float("inf"), 32: float("nan")}, nimg=1600 * 16)
    assert len(steps) == noticed
    state = kept(tmp_path / "state")
    assert state.checkpoints() == [] and (state.folder / "loss.jsonl").read_bytes() == b""


def test_all_images_warped_are_those_that_move():
    """What a GPU computes is what a CPU does."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(12, 2, 16, 16, generator=generator)
    moved = torch.arange(12) % 3 == 1
    linear = augment.rotation(torch.rand(12, generator=generator)) * 1.1
    shift = torch.randn(12, 2, generator=generator)
    some = augment.some_warped(images.clone(), moved, linear, shift)
    torch.testing.assert_close(augment.all_warped(images, moved, linear, shift), some, rtol=1e-5, atol=1e-5)
    assert torch.equal(some[~moved], images[~moved]) and not torch.equal(some[moved], images[moved])
