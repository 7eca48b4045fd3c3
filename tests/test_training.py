"""Training: the parts of a step, its snapshots, and weights that are not finite."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny import NETWORK, NOISE, TRAINING, optimiser, run_training

from ambient import specs
from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.diffusion.augment import flipped
from ambient.diffusion.blocks import Blocks
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.diffusion.randomness import normal, torch_generator, uniform
from ambient.jobs import ranks
from ambient.specs import strict
from ambient.storage.files import read_arrays
from ambient.training import hardware, shares
from ambient.training.ahead import Ahead
from ambient.training.batches import AmbientBatches
from ambient.training.build import build_network
from ambient.training.loop import Fit, ema_beta, learning_rate
from ambient.training.points import Points
from ambient.training.weights import read_weights

ALL = slice(0, 16)  # rows of a batch


def batches(mixture, annotations, **loss):
    made = strict.build(specs.TrainingSpec, strict.plain(TRAINING) | {
        "loss": strict.plain(TRAINING.loss) | loss}, "test")
    data = read(mixture)
    network = build_network(NETWORK, 8, 1, 3, True, torch_generator("cpu", 0))
    return AmbientBatches(made, data, Points(data), Annotations.read(annotations), Denoiser(network),
                                torch.device("cpu"))


def test_every_drawn_pair_is_admitted_and_sigma_tn_is_the_papers(mixture, annotations):
    made = batches(mixture, annotations)
    for nimg in range(0, 1600, 16):
        sigma, index, sigma_tn = made.draw(nimg, ALL)
        level = made.sigma_min[index]
        assert Admission(4.0).admits(sigma, level, torch.zeros_like(level)).all()
        assert torch.equal(sigma_tn, level)  # sigma_max = 0: every use is above sigma_min
    zero = batches(mixture, annotations, sigma_tn="zero")
    again = zero.draw(16, ALL)
    assert torch.equal(again[0], made.draw(16, ALL)[0]) and (again[2] == 0).all()


@pytest.mark.parametrize("beside", [np.float32, np.float64])
def test_levels_next_to_their_sigma_min_are_admitted_and_finite(mixture, tmp_path, beside):
    """Annotations one unit in the last place below each drawn sigma, no buffer: the least gap there can be.

    The levels themselves are not admitted: there the weight is infinite.
    """
    free = {"buffer": None, "weight": "ambient"}
    table, ids = tmp_path / "a.safetensors", np.arange(100, 160)
    Annotations(ids, np.zeros(60), np.zeros(60)).write(table)
    sigma = batches(mixture, table, **free).draw(0, ALL)[0].numpy().astype(beside).astype(float)
    below = np.nextafter(sigma.astype(beside), beside(0)).astype(float)
    for levels, admitted in ((below, True), (sigma, False)):
        sampler = EligibleSampler(levels, np.zeros(16), Admission())
        above, _ = sampler.count(sigma)
        assert (above == 1 + sigma.argsort().argsort() - (not admitted)).all()
    made = batches(mixture, table, **free)
    made.draw = lambda nimg, rows: (torch.from_numpy(sigma), torch.arange(16), torch.from_numpy(below))
    loss = made.loss(0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(w.grad).all() for w in made.denoiser.parameters() if w.grad is not None)


def test_losses_do_not_depend_on_what_was_made_ahead(mixture, annotations):
    """Batches in their order, backwards, one twice, and each alone: the last has none to follow it."""
    one = batches(mixture, annotations)
    steps = range(0, 160, 16)
    wanted = [one.loss(nimg).item() for nimg in steps]
    assert one.ahead.next is None
    assert [one.loss(nimg).item() for nimg in reversed(steps)] == wanted[::-1]
    assert one.loss(32).item() == one.loss(32).item() == wanted[2]
    assert [batches(mixture, annotations).loss(nimg).item() for nimg in (0, 64)] == [wanted[0], wanted[4]]


def test_what_fails_ahead_fails_where_it_is_asked_for():
    def make(key):
        if key == (16, 0, 16):
            raise ValueError("damaged")
        return key

    ahead = Ahead(make)
    assert ahead((0, 0, 16), (16, 0, 16)) == (0, 0, 16)
    with pytest.raises(ValueError, match="damaged"):
        ahead((16, 0, 16), None)
    assert ahead((32, 0, 16), None) == (32, 0, 16)


def test_flips_of_a_sample_are_flips_of_one_noisy_image(mixture, annotations):
    """The mean over flipped views, flipped back, has all of the fixed noise: none of it cancels."""
    made = batches(mixture, annotations)
    made.spec = dataclasses.replace(made.spec, augment=specs.AugmentSpec(1.0, ("xflip", "yflip")))
    index, level = torch.arange(60).repeat(20), torch.full((1200,), 0.7, dtype=torch.float64)
    rows = slice(0, 1200)
    clean = made.clean(index, 0, rows)
    fixed = made.fixed[index.numpy()]
    x_tn, condition = made.views(clean, fixed, index, level, Blocks(rows, "cpu", "views"))
    labels = condition["augment"]
    assert len(labels[:, :2].unique(dim=0)) == 4
    back = flipped(x_tn, labels)
    every = made.points.pixels(np.arange(60))
    plain = every + 0.7 * made.fixed[np.arange(60)]
    torch.testing.assert_close(back, plain[index])
    assert torch.equal(made.views(clean, fixed, index, 0 * level, Blocks(rows, "cpu", "views"))[0],
                       flipped(every[index], labels))


def test_below_sigma_max_the_ordinary_objective_is_used(mixture, tmp_path):
    table = tmp_path / "a.safetensors"
    Annotations(np.arange(100, 160), np.full(60, np.inf), np.full(60, 50.0)).write(table)
    sigma, _, sigma_tn = batches(mixture, table).draw(0, ALL)
    assert (sigma < 50).all() and (sigma_tn == 0).all()


def test_sigma_keeps_its_density_under_sigma_first(mixture, annotations):
    made = batches(mixture, annotations)
    sigma = torch.cat([made.draw(nimg, ALL)[0] for nimg in range(0, 16 * 600, 16)]).log()
    assert sigma.mean().item() == pytest.approx(NOISE.P_mean, abs=0.04)
    assert sigma.std().item() == pytest.approx(NOISE.P_std, abs=0.04)


def test_fixed_noise_is_one_draw_per_image_and_seed():
    a = normal("fixed-noise", 3, [5, 9], (1, 4, 4))
    b = normal("fixed-noise", 3, [9], (1, 4, 4))
    np.testing.assert_array_equal(a[1], b[0])
    assert not np.array_equal(a[0], a[1])
    assert not np.array_equal(normal("fixed-noise", 4, [9], (1, 4, 4)), b)
    assert abs(uniform("x", 0, range(4000)).mean() - 0.5) < 0.02


def test_learning_rate_and_ema_closed_forms():
    made = optimiser(nimg=1600, ramp_nimg=160)
    assert learning_rate(made, 0) == 0 and learning_rate(made, 80) == pytest.approx(5e-4)
    assert learning_rate(made, 880) == pytest.approx(5e-4)  # half of the cosine
    assert learning_rate(made, 1600) == pytest.approx(0, abs=1e-12)
    assert ema_beta(optimiser(ema_ramp=1.0), 10_000) == pytest.approx(0.5 ** (16 / 50))
    assert ema_beta(optimiser(ema_ramp=0.05), 32) == pytest.approx(0.5 ** (16 / 1.6))


def test_a_short_training_may_be_the_start_of_a_longer_ones_ramp():
    short = optimiser(nimg=160, ramp_nimg=320, decay="constant")
    longer = optimiser(nimg=1600, ramp_nimg=320, decay="constant")
    assert [learning_rate(short, n) for n in range(0, 160, 16)] == [learning_rate(longer, n) for n in
                                                                    range(0, 160, 16)]
    with pytest.raises(strict.SpecError, match="at most nimg if decay is cosine"):
        optimiser(nimg=160, ramp_nimg=320, decay="cosine")


def test_step_is_adam_with_clipping():
    """One step of a scalar: Adam's first step has length lr; the EMA follows the closed form."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    fitting = Fit(layer, optimiser(ramp_nimg=0, decay="constant"))
    fitting.step(lambda nimg, share: (layer.weight**2).sum() * 100, 0)
    assert layer.weight.item() == pytest.approx(2.0 - 1e-3, rel=1e-5)
    beta = ema_beta(fitting.spec, 16)
    assert fitting.averages[0][0].item() == pytest.approx(beta * 2 + (1 - beta) * (2 - 1e-3))
    fitting.gradients.read()
    fitting.step(lambda nimg, share: layer.weight.sum() * float("nan"), 16)
    with pytest.raises(FloatingPointError, match=r"^after 16 images the gradient norm is nan \(loss nan\)"):
        fitting.gradients.read()


def test_a_batch_in_parts_has_the_gradient_of_the_whole(mixture, annotations, capsys):
    """Dropout and augmentation on; the memory is too small for more than four rows at a time."""
    found = {}
    for limit in (16, 4):
        made = batches(mixture, annotations)
        fitting = Fit(made.denoiser, TRAINING.optimiser)
        made.denoiser.train()
        forward = made.denoiser.forward

        def small(x, *rest, limit=limit, forward=forward):
            if len(x) > limit:
                raise torch.OutOfMemoryError
            return forward(x, *rest)

        made.denoiser.forward = small
        found[limit] = [float(fitting.step(made.loss, nimg)) for nimg in (48, 64, 80)], fitting
    assert found[16][1].parts == 1 and found[4][1].parts == 4
    assert capsys.readouterr().err.count("out of GPU memory") == 2
    assert found[4][0] == pytest.approx(found[16][0], rel=1e-5)
    for one, other in zip(found[16][1].weights, found[4][1].weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    made.denoiser.forward = lambda *rest: small(*rest, limit=0)
    with pytest.raises(torch.OutOfMemoryError):  # one row at a time is too much still
        found[4][1].step(made.loss, 96)
    assert found[4][1].parts == 16


def test_parts_are_rows_of_ranks(monkeypatch):
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    assert shares.WHOLE.rows(16) == slice(8, 16)
    part = shares.Share(1, 4)
    assert part.rows(16) == slice(10, 12)
    with pytest.raises(ValueError, match="12 can't be shared by 2 ranks in 4 parts each"):
        part.rows(12)
    assert shares.WHOLE.rows(12) == slice(6, 12)


def test_snapshots_hold_the_ema_at_their_marks(mixture, annotations, tmp_path):
    out = run_training(mixture, annotations, tmp_path)
    names = {name.split("/")[0] for name in read_arrays(out)}
    assert names == {"80", "160"}
    early, late = (read_weights(out, f"{nimg}/") for nimg in (80, 160))
    assert any(not torch.equal(early[name], late[name]) for name in late)
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert lines[-1]["nimg"] == 160 and all(np.isfinite(line["loss"]) for line in lines)


@pytest.mark.parametrize("able, expected", [({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16),
                                            ({"bf16": True}, torch.bfloat16)])
def test_bfloat16_only_where_the_processor_has_it(able, expected, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    hardware.has_bfloat16.cache_clear()
    for precision, dtype in (("bfloat16", expected), ("float32", torch.float32)):
        with hardware.autocast(precision, torch.device("cpu")):
            assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2)).dtype == dtype
    assert ("float32 takes its place" in capsys.readouterr().err) == (not able)
    hardware.has_bfloat16.cache_clear()


def test_a_training_that_went_astray_names_its_last_good_checkpoint(mixture, annotations, tmp_path):
    """One step with a finite gradient, so long that the weights are infinite."""
    made = dataclasses.replace(TRAINING, snapshots=(16,), optimiser=optimiser(
        nimg=16, lr=1e38, ramp_nimg=0, decay="constant"))
    with pytest.raises(FloatingPointError, match="^after 16 images .* not finite.*Lower lr"):
        run_training(mixture, annotations, tmp_path, made)
    assert not (tmp_path / "denoiser.safetensors").exists()
    layer = torch.nn.Linear(2, 1)
    fitting = Fit(layer, optimiser(lr=2e-3))
    fitting.check(320, [])
    with torch.no_grad():
        layer.weight[0, 1] = float("nan")
    for saved, words in (([160, 80], "the last good checkpoint is after 160"), ([], "no checkpoint came")):
        with pytest.raises(FloatingPointError, match=f"after 320 images.*weights.weight; {words}.*0.002"):
            fitting.check(320, saved)


def test_a_clipped_gradient_is_what_adam_sees():
    """Its first step is the same for any gradient. Its first moment is 0.1 of the gradient clipped to 7."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    fitting = Fit(layer, optimiser(ramp_nimg=0, decay="constant", clip=7.0))
    fitting.step(lambda nimg, share: 10 * (layer.weight**2).sum(), 0)  # of slope 40
    assert fitting.adam.state[layer.weight]["exp_avg"].item() == pytest.approx(0.7, rel=1e-5)
