"""P(corrupted) along sigma: smoothing, crossing, and the two protocols."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import spearmanr

from ambient.annotation import crossings, trajectories
from ambient.annotation.levels import Inputs
from ambient.annotation.trajectories import Dense, SharedNoise, first_crossing, kernel_smooth, smooth
from ambient.data.datasets import Dataset
from ambient.specs import AnnotationSpec, NoiseSpec

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no vectors at {REFERENCE}")
def test_reference_trajectories():
    data = np.load(REFERENCE / "annotation_trajectories.npz")
    found = first_crossing(data["sigmas"], smooth(data["prob_corrupted"].mean(-1), int(data["ema_span"])),
                           float(data["epsilon"]), "last")
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
    np.testing.assert_array_equal(first_crossing(sigmas, p, 0.05, "last"), [1.0, 10.0, 0.1])
    np.testing.assert_array_equal(first_crossing(sigmas, p, 0.05, "exclude"), [1.0, np.inf, 0.1])
    # At the last level; at the first, and again; at the last, being just 0.75 before; and back.
    edges = np.array([[0.9, 0.9, 0.5], [0.5, 0.9, 0.5], [0.9, 0.75, 0.5], [0.9, 0.5, 0.9]])
    for never in ("last", "exclude"):
        assert first_crossing(sigmas, edges, 0.25, never).tolist() == [10.0, 0.1, 10.0, 1.0]
        between = first_crossing(sigmas, edges, 0.25, never, between=True)
        np.testing.assert_allclose(between, 10.0 ** np.array([0.375, -1, 0, -0.625]))


def test_unsure_are_the_images_whose_level_hangs_most_on_the_threshold(monkeypatch):
    """P(corrupted) = 1/2 + 1/2 sigma^-s: a curve of slope s crosses 0.5 + e at (2 e)^(-1/s)."""
    sigmas, slopes = np.geomspace(1, 1e6, 4000), np.array([1.0, 0.5, 2.0, 0.25])
    curves = 0.5 + 0.5 * sigmas ** -slopes[:, None]
    monkeypatch.setattr(crossings, "UNSURE", 3)
    found = crossings.unsure(sigmas, np.r_[curves, np.full((1, 4000), 0.9)], np.arange(7, 12), 0.05)
    assert [one["id"] for one in found] == [10, 8, 7]
    np.testing.assert_allclose([one["from"] for one in found], 0.15 ** (-1 / slopes[[3, 1, 0]]), rtol=0.01)
    np.testing.assert_allclose([one["to"] for one in found], 0.05 ** (-1 / slopes[[3, 1, 0]]), rtol=0.01)
    assert crossings.unsure(sigmas, np.full((2, 4000), 0.9), np.arange(2), 0.05) == []  # surely corrupted


def test_population_crossing_lies_between_the_samples():
    """Equation 3.2 on a closed form: P(corrupted) = 1/2 + 1/2 exp(-sigma / s_i)."""
    sigmas, scales = np.geomspace(0.01, 100, 4000), np.array([0.5, 1.0, 2.0])
    p = 0.5 + 0.5 * np.exp(-sigmas / scales[:, None])
    each = first_crossing(sigmas, p, 0.05, "last")
    np.testing.assert_allclose(each, scales * np.log(10), rtol=0.01)  # stronger: later, in proportion
    whole = first_crossing(sigmas, p.mean(0, keepdims=True), 0.05, "last")
    assert each.min() < whole[0] < each.max()


def test_crossing_between_levels_is_exact_on_lines_in_ln_sigma():
    sigmas = np.geomspace(0.1, 10, 5)
    slopes = np.array([0.05, 0.08, 0.2])
    curves = 0.6 - slopes[:, None] * np.log(sigmas / 0.3)
    expected = 0.3 * np.exp(0.05 / slopes)
    np.testing.assert_allclose(first_crossing(sigmas, curves, 0.05, "last", between=True), expected)
    at_once = first_crossing(sigmas, curves - 0.3, 0.05, "last", between=True)
    np.testing.assert_array_equal(at_once, [0.1] * 3)
    assert first_crossing(sigmas, curves[0] + 1, 0.05, "exclude", between=True) == np.inf


def test_kernel_smoothing():
    sigmas = np.array([1.0, np.e, np.e**3])
    np.testing.assert_allclose(kernel_smooth(np.full((2, 3), 0.7), sigmas, 0.5), 0.7)
    x = np.array([0.2, 0.9, 0.4])
    np.testing.assert_array_equal(kernel_smooth(x, sigmas, 0), x)
    near, far = np.exp(-1 / (2 * 0.25)), np.exp(-9 / (2 * 0.25))
    assert kernel_smooth(x, sigmas, 0.5)[0] == pytest.approx(
        (0.2 + near * 0.9 + far * 0.4) / (1 + near + far))


class Known:
    """A classifier whose expected answer is known by quadrature.

    Its logit is 3 exp(-sigma / (0.3 + 3 / (1 + e^(-2 v)))) + n, with v the mean of channel 0 (so it sees v
    with noise sigma / 8) and n the mean of the else empty channel 1 over sigma / 8, a standard normal.
    """

    asked = 0

    def logits(self, x, sigma):
        self.asked += len(x)
        v, n = x[:, 0].mean((1, 2)), 8 * x[:, 1].mean((1, 2)) / sigma
        return 3 * torch.exp(-sigma / (0.3 + 3 * torch.sigmoid(2 * v))) + n

    @staticmethod
    def crossing(v):
        nodes, weights = np.polynomial.hermite_e.hermegauss(60)
        weights = np.outer(weights, weights) / weights.sum() ** 2

        def excess(sigma):
            scale = 0.3 + 3 / (1 + np.exp(-2 * (v + sigma / 8 * nodes)))
            logit = 3 * np.exp(-sigma / scale) + nodes[:, None]
            return (weights / (1 + np.exp(-logit))).sum() - 0.55
        return brentq(excess, 0.01, 80)


def annotation(**changes):
    """A specification of per-sample annotation."""
    given = dict(method="per_sample", sigma_min=None, epsilon=0.05, num_sigmas=32, grid="geometric",
                 noise=NoiseSpec(-1.2, 1.2), sigma_low=0.05, sigma_high=20.0, num_trials=2,
                 smoothing_span=1, never_crosses="last", precision="float32", seed=0)
    return AnnotationSpec(**given | changes)


def test_shared_noise_finds_the_crossing_of_the_expectation_with_few_evaluations():
    values = np.linspace(0, 255, 300).astype(np.uint8)  # v from -1 to 1
    images = np.zeros((300, 2, 8, 8), np.uint8)
    images[:, 0] = values[:, None, None]
    images[:, 1] = 127  # -1/255 of the range: next to nothing
    truth = np.array([Known.crossing(v / 127.5 - 1) for v in values])
    ids = np.arange(300)

    def error(kind, spec):
        asked = kind(spec, Known(), torch.device("cpu"))
        found = asked.crossing(asked.curves(asked.of(images, ids), images))
        return np.abs(np.log(found / truth)).mean(), spearmanr(found, truth)[0], asked.classifier.asked / 300

    ours, order, evaluations = error(SharedNoise, annotation(reference_draws=2000))
    plain, plain_order, _ = error(Dense, annotation())
    assert evaluations == pytest.approx(32 * (2 + 2000 / 300))
    assert ours < 0.1 and order > 0.98
    assert ours < plain / 2 and order > plain_order


def test_shared_noise_is_shared_antithetic_and_independent_of_the_batch():
    asked = SharedNoise(annotation(num_trials=4), Known(), torch.device("cpu"))
    z = asked.draws(3, np.arange(5), (2, 8, 8))
    assert z.shape == (5, 4, 2, 8, 8)
    np.testing.assert_array_equal(z[0], z[4])
    np.testing.assert_array_equal(z[:, :2], -z[:, 2:])
    images = np.random.default_rng(0).integers(0, 256, (90, 2, 8, 8), dtype=np.uint8)
    ids = np.arange(90)
    for kind in (SharedNoise, Dense):
        asked = kind(annotation(), Known(), torch.device("cpu"))
        np.testing.assert_allclose(asked.of(images, ids)[70:], asked.of(images[70:], ids[70:]), rtol=1e-6)
    assert not np.array_equal(trajectories.Dense.draws(asked, 3, np.array([0]), (2, 8, 8)),
                              trajectories.Dense.draws(asked, 3, np.array([1]), (2, 8, 8)))


@pytest.mark.parametrize(("low", "high"), [(0.01, 100.0), (0.5, 5.0)])
def test_smoothing_finds_a_straight_curve_late_by_the_lag(low, high):
    """On 2,000 even levels: late by 15.5 of them, whatever the slope, once the start is forgotten."""
    spec = AnnotationSpec("per_sample", None, 0.05, 2000, "geometric", NoiseSpec(-1.2, 1.2), low, high, 4, 32,
                          "last", "float32", 0)
    dense = Dense(spec, None, torch.device("cpu"))
    for at in (1.38, 2.84):
        curve = 0.55 - 0.02 * np.log(dense.sigmas / at)
        found = first_crossing(dense.sigmas, smooth(curve, 32), 0.05, "last", between=True)
        assert found / at == pytest.approx((high / low) ** (15.5 / 1999), rel=1e-6)
        assert dense.lag(found) == pytest.approx(found / at - 1, rel=1e-6)
    assert SharedNoise(dataclasses.replace(spec, protocol="shared_noise"), None, "cpu").lag(1.38) == 0


def test_lag_of_the_papers_grid():
    """Levels are rarer at high noise, so more is added there: on logistic curves 5 to 7 and 15 to 17 %."""
    spec = AnnotationSpec("per_sample", None, 0.05, 2048, "lognormal", NoiseSpec(-1.2, 1.2), 0.002, 80.0, 4,
                          32, "last", "float32", 42)
    dense = Dense(spec, None, torch.device("cpu"))
    for at, least, most in ((1.38, 0.045, 0.075), (2.84, 0.13, 0.175)):
        for width in (0.2, 0.5, 1.0):
            centre = np.log(at) - width * np.log(9)
            curve = 0.5 + 0.5 / (1 + np.exp((np.log(dense.sigmas) - centre) / width))
            found = first_crossing(dense.sigmas, smooth(curve, 32), 0.05, "last")
            assert least < found / at - 1 < most
        assert least < dense.lag(at) < most


def test_images_that_never_cross_are_counted(monkeypatch):
    """Of three curves one begins above the threshold and falls, one never does, one is below at once."""
    p = np.array([[0.9, 0.5], [0.9, 0.8], [0.5, 0.5]])
    monkeypatch.setattr(crossings, "classify", lambda *given: p)
    monkeypatch.setattr(crossings, "Classifier", lambda *given: None)
    spec = annotation(num_sigmas=2, smoothing_span=1, sigma_low=0.1, sigma_high=1.0)
    data = Dataset(np.zeros((6, 1, 8, 8), np.uint8), np.zeros(6, int), np.arange(6),
                   (np.arange(6) >= 3).astype(np.uint8))
    found = crossings.crossings(spec, data, Inputs(classifier=Path("c")), None)
    assert found.about["never_crossed"] == 1 and found.sigma_min.tolist() == [1.0, 1.0, 0.1]


@pytest.mark.parametrize("kind", [Dense, SharedNoise])
def test_draws_of_an_annotation_follow_its_seed(kind):
    ids, cpu = np.arange(4), torch.device("cpu")
    one, other = (kind(annotation(seed=seed), None, cpu).draws(3, ids, (2, 8, 8)) for seed in (0, 1))
    assert (one != other).all()


def test_references_follow_the_seed_and_the_level():
    images, drawn = np.random.default_rng(0).integers(0, 256, (9, 2, 8, 8), dtype=np.uint8), []
    for seed in (0, 1):
        made = SharedNoise(annotation(seed=seed, reference_draws=8, num_sigmas=2), None, torch.device("cpu"))
        made.probability = lambda x0, k, noise: drawn.append(noise) or np.zeros(len(x0))
        made.reference(images)
    assert len({one.numpy().tobytes() for one in drawn}) == 4
