"""Learning rates, averages of weights and optimisers against closed forms and published vectors."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import optimiser

from ambient.diffusion import schedules
from ambient.specs import strict
from ambient.training.loop import Fit, ema_beta, learning_rate

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference vectors")
EDM2 = {"batch": 2048, "nimg": 2**31, "lr": 0.012, "ramp_nimg": 10_000_000, "decay": "inverse_sqrt",
        "decay_nimg": 70_000 * 2048}


def test_the_inverse_square_root_is_constant_and_then_falls():
    """Steps of EDM2's smallest preset for ImageNet-512, by its published schedule."""
    made = optimiser(**EDM2)
    for nimg, rate in ((0, 0.0), (2048, 2.4576e-06), (10_000_000, 0.012), (143_360_000, 0.012),
                       (143_362_048, 0.011999914286632642), (2**31, 0.003100489817653817)):
        assert learning_rate(made, nimg) == pytest.approx(rate, rel=1e-14)
    assert schedules.inverse_sqrt(400, 100) == 0.5


def test_a_cosine_may_end_above_zero():
    """Steps of MicroDiT's first phase: a ramp of 2,500 steps, then a cosine to 0.33 of the rate."""
    made = optimiser(batch=1, nimg=250_000, lr=2.4e-4, ramp_nimg=2500, decay="cosine", decay_to=0.33)
    for step, rate in ((0, 0.0), (1000, 9.6e-05), (2500, 2.4e-4), (50_000, 0.00022582359714695853),
                       (126_250, 0.0001596), (250_000, 7.92e-05)):
        assert learning_rate(made, step) == pytest.approx(rate, rel=1e-12)
    assert [schedules.cosine(nimg, 10, 20, 0.33) for nimg in (20, 30, 99)] == [0.33] * 3


@needs_reference
def test_learning_rates_are_those_of_the_reference():
    for case in json.loads((REFERENCE / "latent/lr_schedule.json").read_text())["cases"].values():
        for value in case["values"]:
            rate = case["ref_lr"]
            if case["ref_batches"]:
                rate *= schedules.inverse_sqrt(value["nimg"], case["ref_batches"] * case["batch"])
            found = schedules.ramped(rate, value["nimg"], case["rampup_nimg"] or 0)
            assert found == pytest.approx(value["lr"], rel=1e-15, abs=1e-30)
    text = json.loads((REFERENCE / "t2i/lr.json").read_text())
    made = optimiser(batch=1, nimg=250_000, lr=2.4e-4, ramp_nimg=2500, decay="cosine", decay_to=0.33)
    found = [learning_rate(made, step) for step in text["steps"]]
    assert found == pytest.approx(text["phase1"]["lr"], rel=1e-12)
    constant = optimiser(batch=1, nimg=250_000, lr=8e-5, ramp_nimg=500, decay="constant")
    assert [learning_rate(constant, step) for step in text["steps"]] == pytest.approx(text["phase3"]["lr"])
    unramped = optimiser(batch=1, nimg=250_000, lr=8e-5, ramp_nimg=0, decay="constant")
    for phase in ("phase2", "phase4"):
        assert [learning_rate(unramped, step) for step in text["steps"]] == text[phase]["lr"]


def test_a_power_averages_weights_are_its_powers():
    """The average of theta(t) = t, and its spread, are those of weights proportional to t^g."""
    std = 0.1
    gamma = schedules.power_gamma(std)
    assert gamma == pytest.approx(6.937203937601807, rel=1e-12)  # published
    assert std**2 == pytest.approx((gamma + 1) / ((gamma + 2)**2 * (gamma + 3)), rel=1e-12)
    assert schedules.power_gamma(12**-0.5) == pytest.approx(0, abs=1e-9)
    for wrong in (0, -0.1, 0.3, math.nan):
        with pytest.raises(ValueError, match=r"width of an average: got .*, allowed: .0, 1 / sqrt.12"):
            schedules.power_gamma(wrong)
    steps, mean, square = 4000, 0.0, 0.0
    for nimg in range(1, steps + 1):
        beta = schedules.power_beta(nimg, 1, gamma)
        mean = beta * mean + (1 - beta) * nimg / steps
        square = beta * square + (1 - beta) * (nimg / steps) ** 2
    assert mean == pytest.approx((gamma + 1) / (gamma + 2), rel=1e-3)
    assert math.sqrt(square - mean**2) == pytest.approx(std, rel=1e-3)


@pytest.mark.parametrize("smoothing", ["0.99975", "0.9975"])
def test_an_average_that_begins_late_is_that_of_the_reference(smoothing):
    path = REFERENCE / "t2i/ema.safetensors"
    if not path.is_file():
        pytest.skip("no reference vectors")
    with safe_open(path, "pt") as file:
        t, start = {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["start"])
    made = optimiser(batch=1, nimg=40, ema_start_nimg=start, ramp_nimg=0,
                     ema_halflife_nimg=math.log(0.5) / math.log(float(smoothing)))
    for part in ("w", "b"):
        average = torch.full_like(t[f"in.{part}"][0], 7.0)  # what came before the first step is forgotten
        for step, weights in enumerate(t[f"in.{part}"], 1):
            average = average.lerp(weights, 1 - ema_beta(made, step))
            expected = t[f"out.{part}.{smoothing}"][step - 1]
            assert (average - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_an_average_that_begins_late_is_a_copy_until_then():
    made = optimiser(ema_start_nimg=48)  # a half-life of 50 images, 16 a step
    assert [ema_beta(made, nimg) for nimg in (16, 48, 64, 160)] == [0, 0, 0.5**0.32, 0.5**0.32]
    # The first step that ends at `start` images or later is a copy, and so is the first of all.
    assert [schedules.late_beta(nimg, 16, 50, 40) for nimg in (32, 48, 64)] == [0, 0, 0.5**0.32]
    assert [schedules.late_beta(nimg, 16, 50, 0) for nimg in (16, 32)] == [0, 0.5**0.32]
    for changes in ({"ema_start_nimg": -1}, {"ema_start_nimg": 16, "ema_stds": (0.1,)}):
        with pytest.raises(strict.SpecError, match="ema_start_nimg: got .*, allowed: >= 0 where ema_stds is"):
            optimiser(**changes)


def test_the_average_of_a_training_is_the_one_that_its_settings_name():
    made = optimiser(batch=2048, nimg=2**31, ema_stds=[0.1])
    assert ema_beta(made, 2048) == 0 and ema_beta(made, 2**20) == pytest.approx(0.9846022660212557, rel=1e-12)
    assert ema_beta(optimiser(), 160) == schedules.halflife_beta(160, 16, 50, 0.5) == 0.5 ** (16 / 50)
    layer = torch.nn.Linear(1, 1, bias=False)
    fitting = Fit(layer, optimiser(ramp_nimg=0, decay="constant", ema_stds=[0.1]))
    for nimg in (0, 16, 32):
        before = fitting.averages[0][0].item()
        fitting.step(lambda nimg, share: (layer.weight**2).sum(), nimg)
        beta = ema_beta(fitting.spec, nimg + 16)
        (average,) = fitting.averages[0]
        assert average.item() == pytest.approx(beta * before + (1 - beta) * layer.weight.item())
    assert 0 < beta < 1


@needs_reference
def test_power_averages_are_those_of_the_reference():
    found = json.loads((REFERENCE / "latent/phema.json").read_text())
    for case in found["std_to_gamma"]:
        assert schedules.power_gamma(case["std"]) == pytest.approx(case["gamma_mp"], rel=1e-12)
    for case in found["beta"]:
        beta = schedules.power_beta(case["nimg"], case["batch"], schedules.power_gamma(case["std"]))
        assert beta == pytest.approx(case["beta"], rel=1e-12)


@pytest.mark.parametrize("algorithm", ["adam", "adamw"])
def test_steps_are_those_of_the_algorithm(algorithm):
    """Two steps of a scalar, against the update written out."""
    beta1, beta2, eps, lr = 0.8, 0.95, 1e-3, 0.1
    decay = 0.5 if algorithm == "adamw" else 0.0
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 2.0)
    made = optimiser(lr=lr, ramp_nimg=0, decay="constant", clip=math.inf, algorithm=algorithm,
                     weight_decay=decay, betas=[beta1, beta2], eps=eps)
    fitting = Fit(layer, made)
    weight, mean, square = 2.0, 0.0, 0.0
    for step in (1, 2):
        fitting.step(lambda nimg, share: (layer.weight**2).sum() * 10, 16 * (step - 1))
        slope = 20 * weight
        mean, square = beta1 * mean + (1 - beta1) * slope, beta2 * square + (1 - beta2) * slope**2
        size = math.sqrt(square / (1 - beta2**step)) + eps
        weight = weight * (1 - lr * decay) - lr * mean / (1 - beta1**step) / size
        assert layer.weight.item() == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize(("changes", "said"), [
    ({"weight_decay": 0.1}, "weight_decay: got 0.1, allowed: >= 0 for adamw, 0 for adam"),
    ({"betas": [0.9]}, r"betas: got \[0.9\], allowed: two numbers"),
    ({"betas": [0.9, 1.0]}, "betas: .* two numbers in"),
    ({"decay": "inverse_sqrt"}, "decay_nimg: got None, allowed: > 0 if decay is inverse_sqrt"),
    ({"decay_nimg": 10}, "decay_nimg: got 10, allowed: .* else null"),
    ({"decay": "constant", "decay_to": 0.5}, "decay_to: got 0.5, allowed: .* if decay is cosine, else 0"),
    ({"ema_stds": [0.3]}, r"ema_stds: got \[0.3\], allowed: widths in \(0, 0.2887\), or none"),
    ({"ema_stds": [0.1, 0.1]}, "ema_stds: .* each value once; 0.1 is in it twice"),
    ({"lr": math.inf}, "lr: got inf"), ({"clip": 0.0}, "clip: got 0.0")])
def test_settings_that_mean_nothing_are_refused(changes, said):
    with pytest.raises(strict.SpecError, match=said):
        optimiser(**changes)


def test_what_came_later_is_left_out_where_it_is_not_used():
    assert set(strict.plain(optimiser())) == {"nimg", "batch", "lr", "ramp_nimg", "decay", "clip",
                                              "ema_halflife_nimg", "ema_ramp", "precision"}
