"""Annotations and the eligible sampler."""

import math

import numpy as np
import pytest
import torch

from ambient.annotation.statistics import statistics
from ambient.data.annotations import Annotations
from ambient.diffusion.eligible import Admission, EligibleSampler

# --- the sampler ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("buffer", "margin"), [(None, 0.0), (4.0, 0.0), (None, 0.2)])
def test_every_draw_is_admitted_and_all_admitted_are_drawn_equally(buffer, margin):
    random = np.random.default_rng(1)
    n = 60
    sigma_min = random.choice([0.0, 0.5, 1.0, 2.0, np.inf], n)
    sigma_max = random.choice([0.0, 0.2, 0.7, 1.0, 3.0, np.inf], n)  # of both levels at once, too
    admission = Admission(buffer, margin)
    sampler = EligibleSampler(sigma_min, sigma_max, admission)
    for sigma in (0.01, 0.2, 0.3, 0.6, 0.7, 1.0, 1.1, 3.0, 5.0, *admission.threshold(np.array([0.5, 1.0]))):
        level = torch.tensor(sigma, dtype=torch.float64)
        allowed = admission.admits(level, torch.from_numpy(sigma_min), torch.from_numpy(sigma_max)).numpy()
        factor = (buffer / (buffer - 1)) ** 0.5 if buffer else 1.0
        threshold = factor * sigma_min + np.where(sigma_min > 0, margin, 0.0)
        assert np.array_equal(allowed, (sigma > threshold) | (sigma < sigma_max))
        u = (np.arange(allowed.sum() * 10) + 0.5) / (allowed.sum() * 10)
        drawn = sampler.draw(np.full(len(u), sigma), u)
        np.testing.assert_array_equal(np.bincount(drawn, minlength=n), 10 * allowed)


def test_levels_as_tensors_have_the_thresholds_of_arrays():
    """Also where float32 would round: a draw that one admits and the other does not would train as clean."""
    levels = np.array([0.0, 0.3, 2.0, np.inf])
    one = Admission(None, 0.05).threshold(torch.from_numpy(levels)).numpy()
    np.testing.assert_array_equal(one, Admission(None, 0.05).threshold(levels))
    assert one.tolist() == [0.0, 0.3 + 0.05, 2.0 + 0.05, np.inf]


def test_nothing_usable_is_an_error_that_names_the_level():
    sampler = EligibleSampler(np.array([1.0, 2.0]), np.zeros(2), Admission())
    with pytest.raises(ValueError, match="sigma = 0.5"):
        sampler.draw(np.array([3.0, 0.5]), np.array([0.1, 0.1]))


def test_clean_only_sampling_keeps_the_order_of_uniforms():
    sampler = EligibleSampler(np.array([0.0, np.inf, 0.0]), np.zeros(3), Admission(4.0))
    drawn = sampler.draw(np.full(4, 0.3), np.array([0.0, 0.49, 0.51, 0.99]))
    np.testing.assert_array_equal(drawn, [0, 0, 2, 2])


@pytest.mark.parametrize(("made", "said"), [
    (lambda: Admission(1.0), "buffer: got 1.0, allowed: > 1, or None"),
    (lambda: Admission(-1.0), "buffer: got -1.0"), (lambda: Admission(math.nan), "buffer: got nan"),
    (lambda: Admission(margin=-0.05), "margin: got -0.05, allowed: a number >= 0"),
    (lambda: Admission(margin=math.inf), "margin: got inf"),
    (lambda: EligibleSampler(np.array([0.0, math.nan]), np.zeros(2), Admission()), "sigma_min: got nan"),
    (lambda: EligibleSampler(np.ones(2), np.array([0.1, -1.0]), Admission()),
     "sigma_max: got -1.0, allowed: numbers >= 0"),
    (lambda: EligibleSampler(np.ones(2), np.zeros(3), Admission()),
     r"sigma_min, sigma_max: got the shapes \(2,\) and \(3,\), allowed: \(N,\) twice"),
    (lambda: EligibleSampler(np.ones((2, 1)), np.zeros((2, 1)), Admission()), "sigma_min, sigma_max: got"),
    (lambda: EligibleSampler(np.zeros(2), np.zeros(2), Admission()).draw(np.ones(2), np.zeros(3)),
     r"sigma, u: got the shapes \(2,\) and \(3,\)")])
def test_a_rule_or_levels_that_mean_nothing_are_refused(made, said):
    with pytest.raises(ValueError, match=said):
        made()


def test_levels_may_be_tensors():
    levels = torch.tensor([0.0, 2.0])
    sampler = EligibleSampler(levels, torch.zeros(2), Admission())
    assert sampler.draw(torch.tensor([1.0, 3.0]), torch.tensor([0.9, 0.9])).tolist() == [0, 1]


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


def test_statistics_are_of_corrupted_samples_with_quartiles():
    found = statistics(np.array([0.0, 1.0, 3.0, np.inf, 2.0]), np.arange(5) > 0,
                       np.array([9.0, 0.0, 0.5, 0.5, 0.0]))
    assert found["sigma_min_quartiles"] == [1, 1.5, 2, 2.5, 3] and found["sigma_max_mean"] == 0.25
    assert found["sigma_max_quartiles"] == [0, 0, 0.25, 0.5, 0.5]
