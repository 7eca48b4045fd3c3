"""Annotations, the eligible sampler, and the crossing rule."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ambient.annotate import first_crossing, smooth
from ambient.annotations import Annotations, EligibleSampler, statistics
from ambient.noise import admits

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no vectors at {REFERENCE}")
def test_reference_trajectories():
    data = np.load(REFERENCE / "annotation_trajectories.npz")
    found = first_crossing(data["sigmas"], data["prob_corrupted"].mean(-1), float(data["epsilon"]),
                           int(data["ema_span"]), "last")
    assert len(found) == 64
    np.testing.assert_array_equal(found, data["sigma_min"])


def test_smoothing_is_the_recurrence_and_the_closed_form():
    x = np.random.default_rng(0).random((3, 40))
    w = 2 / 33
    k = np.arange(40)
    weights = w * (1 - w) ** (39 - k)
    weights[0] = (1 - w) ** 39
    np.testing.assert_allclose(smooth(x, 32)[:, -1], x @ weights)
    np.testing.assert_array_equal(smooth(x, 1), x)


def test_first_crossing_and_never():
    sigmas = np.array([0.1, 1.0, 10.0])
    p = np.array([[0.9, 0.54, 0.5], [0.9, 0.9, 0.56], [0.3, 0.9, 0.9]])
    np.testing.assert_array_equal(first_crossing(sigmas, p, 0.05, 1, "last"), [1.0, 10.0, 0.1])
    np.testing.assert_array_equal(first_crossing(sigmas, p, 0.05, 1, "exclude"), [1.0, np.inf, 0.1])


def test_population_crossing_lies_between_the_samples():
    """Equation 3.2 on a closed form: P(corrupted) = 1/2 + 1/2 exp(-sigma / s_i)."""
    sigmas, scales = np.geomspace(0.01, 100, 4000), np.array([0.5, 1.0, 2.0])
    p = 0.5 + 0.5 * np.exp(-sigmas / scales[:, None])
    each = first_crossing(sigmas, p, 0.05, 1, "last")
    np.testing.assert_allclose(each, scales * np.log(10), rtol=0.01)  # stronger: later, in proportion
    whole = first_crossing(sigmas, p.mean(0, keepdims=True), 0.05, 1, "last")
    assert each.min() < whole[0] < each.max()


# --- the sampler ------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [None, 4.0])
def test_every_draw_is_admitted_and_all_admitted_are_drawn_equally(buffer):
    random = np.random.default_rng(1)
    n = 60
    sigma_min = random.choice([0.0, 0.5, 1.0, 2.0, np.inf], n)
    sigma_max = random.choice([0.0, 0.2, 0.7, 3.0], n)
    sampler = EligibleSampler(sigma_min, sigma_max, buffer)
    for sigma in (0.01, 0.2, 0.3, 0.6, 0.7, 1.1, 5.0):
        allowed = admits(torch.tensor(sigma, dtype=torch.float64), torch.from_numpy(sigma_min),
                         torch.from_numpy(sigma_max), buffer).numpy()
        u = (np.arange(allowed.sum() * 10) + 0.5) / (allowed.sum() * 10)
        drawn = sampler.draw(np.full(len(u), sigma), u)
        np.testing.assert_array_equal(np.bincount(drawn, minlength=n), 10 * allowed)


def test_nothing_usable_is_an_error_that_names_the_level():
    sampler = EligibleSampler(np.array([1.0, 2.0]), np.zeros(2), None)
    with pytest.raises(ValueError, match="sigma = 0.5"):
        sampler.draw(np.array([3.0, 0.5]), np.array([0.1, 0.1]))


def test_clean_only_sampling_keeps_the_order_of_uniforms():
    sampler = EligibleSampler(np.array([0.0, np.inf, 0.0]), np.zeros(3), 4.0)
    drawn = sampler.draw(np.full(4, 0.3), np.array([0.0, 0.49, 0.51, 0.99]))
    np.testing.assert_array_equal(drawn, [0, 0, 2, 2])


# --- the table --------------------------------------------------------------------------------------


def test_round_trip_and_lookup(tmp_path):
    table = Annotations(np.array([7, 3, 9]), np.array([0.0, 1.5, np.inf]), np.array([0.0, 0.1, 0.0]))
    table.write(tmp_path / "a.safetensors")
    rows = Annotations.read(tmp_path / "a.safetensors").of(np.array([9, 7]))
    np.testing.assert_array_equal(rows.sigma_min, [np.inf, 0.0])
    with pytest.raises(ValueError, match="sample 4"):
        table.of(np.array([7, 4]))


def test_bad_values_name_the_sample():
    with pytest.raises(ValueError, match="sample 3"):
        Annotations(np.array([7, 3]), np.array([0.0, -1.0]), np.zeros(2))


def test_statistics_are_over_used_corrupted_samples():
    found = statistics(np.array([0.0, 1.0, 3.0, np.inf]), np.array([False, True, True, True]))
    assert found["sigma_min_mean"] == 2.0 and found["used"] == 2 and found["corrupted"] == 3
