"""Noise, losses, sampler and distance against closed forms and the reference vectors."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ambient.diffusion import noise
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.eligible import Admission
from ambient.diffusion.networks.unet import UNet
from ambient.diffusion.objective import ambient_loss, edm_loss
from ambient.diffusion.sampler import heun
from ambient.evaluation import frechet
from ambient.specs import SamplerSpec

REFERENCE = Path(os.environ.get("AMBIENT_REFERENCE", Path(__file__).parents[2] / "shared/reference"))
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no vectors at {REFERENCE}")


def vectors(name):
    with safe_open(REFERENCE / name, framework="pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata()


# --- noise ------------------------------------------------------------------------------------------


def test_lognormal_density():
    draws = noise.lognormal(200_000, -1.2, 1.2, torch.Generator().manual_seed(0)).log()
    assert draws.mean().item() == pytest.approx(-1.2, abs=0.01)
    assert draws.std().item() == pytest.approx(1.2, abs=0.01)


def test_schedule_ends_and_is_even_in_the_root():
    sigma = noise.karras_schedule(18, 0.002, 80, 7)
    assert sigma[0].item() == pytest.approx(80) and sigma[-2].item() == pytest.approx(0.002)
    assert sigma[-1] == 0 and len(sigma) == 19
    steps = (sigma[:-1] ** (1 / 7)).diff()
    assert torch.allclose(steps, steps[0].expand_as(steps))


@pytest.mark.parametrize("L", [2.0, 4.0])
def test_buffer_bounds_the_paper_says_and_the_one_that_holds(L):
    """C.2's buffer keeps sigma^2 / (sigma^2 - sigma_min^2) <= L, so lambda_amb <= L^2 (not L)."""
    edge = torch.tensor(Admission(L).factor, dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    assert (edge**2 / (edge**2 - 1)).item() == pytest.approx(L)
    assert noise.ambient_weight(edge, one).item() == pytest.approx(L**2)
    assert Admission(4.0).factor == pytest.approx(2 / math.sqrt(3))


def test_admission_is_a_donut():
    sigma = torch.tensor([0.05, 0.1, 0.5, 1.1, 1.2])
    admitted = Admission(4.0).admits(sigma, torch.tensor(1.0), torch.tensor(0.1))
    assert admitted.tolist() == [True, False, False, False, True]  # nor at sigma_max itself
    everywhere = Admission(4.0).admits(sigma, torch.tensor(0.0), torch.tensor(0.0))
    assert everywhere.all()
    assert not Admission().admits(sigma, torch.tensor(math.inf), torch.tensor(0.0)).any()
    assert not Admission().admits(sigma, sigma, torch.tensor(0.0)).any()  # at sigma_min itself


# --- losses -----------------------------------------------------------------------------------------


@needs_reference
def test_ambient_loss_vectors():
    t, about = vectors("ambient_loss.safetensors")
    found = ambient_loss(t["denoised"], t["x_sigma"], t["x_sigma_min"], t["sigma"], t["sigma_min"],
                         float(about["sigma_data"]))
    torch.testing.assert_close(found, t["loss"], rtol=1e-5, atol=1e-7)


def test_ambient_loss_is_edm_loss_at_zero():
    g = torch.Generator().manual_seed(1)
    D, x_t, x0 = (torch.randn(5, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(3))
    sigma = torch.rand(5, generator=g, dtype=torch.float64) + 0.1
    zero = torch.zeros_like(sigma)
    torch.testing.assert_close(ambient_loss(D, x_t, x0, sigma, zero, 0.5),
                               edm_loss(D, x0, sigma, 0.5), rtol=1e-12, atol=0)


def test_weight_options():
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    args = (2 * one, one, 0 * one, torch.tensor([1.1]), torch.tensor([1.0]), 0.5)
    full, clipped, without = (ambient_loss(*args, weighted, clip).item() for weighted, clip in
                              ((True, None), (True, 2.0), (False, None)))
    assert full / without == pytest.approx(1.1**4 / (1.1**2 - 1) ** 2, rel=1e-5)
    assert clipped / without == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ambient_loss_next_to_sigma_tn(dtype):
    """One unit in the last place above sigma_tn: with x_t = x_tn the loss is lambda(sigma) (D - x)^2."""
    sigma_tn = torch.linspace(0.01, 3, 1000).to(dtype)
    sigma = torch.nextafter(sigma_tn, torch.full_like(sigma_tn, 9))
    x = torch.zeros(1000, 1, 1, 1)  # so that rounding x does not hide how small alpha is
    D = torch.full_like(x, 0.3).requires_grad_()
    loss = ambient_loss(D, x, x, sigma, sigma_tn, 0.5)
    expected = noise.edm_weight(sigma.double(), 0.5) * 0.3**2
    torch.testing.assert_close(loss.flatten().double(), expected, rtol=1e-5, atol=0)
    loss.sum().backward()
    torch.testing.assert_close(D.grad.flatten().double(), 2 * expected / 0.3, rtol=1e-5, atol=0)


def test_the_ambient_loss_refuses_what_would_give_a_wrong_number():
    x, level = torch.zeros(2, 1, 4, 4), torch.tensor([1.0, 0.5])
    for args, said in (((x, x, x[:1], level, 0 * level), r"shapes .*\(1, 1, 4, 4\).*allowed: 3 times"),
                       ((x, x, x, level[:1], 0 * level), r"allowed: .*2 times \(B,\)"),
                       ((x[0], x[0], x[0], level, 0 * level), "allowed: 3 times")):
        with pytest.raises(ValueError, match=said):
            ambient_loss(*args, 0.5)


def test_added_variance_is_exact_next_to_sigma_tn():
    """(a + 1)^2 - a^2 = 2 a + 1 in whole numbers; the squares themselves have no room in float64."""
    a = 2.0**30 + torch.arange(1000, dtype=torch.float64)
    expected = [(2 * int(v) + 1) / 2**60 for v in a]
    assert noise.added_variance((a + 1) / 2**30, a / 2**30).tolist() == expected


@pytest.mark.parametrize("sigma_tn", [0.0, 0.4, 1.0])
def test_ambient_minimiser_is_the_clean_denoiser_on_gaussian_data(sigma_tn):
    """x0 ~ N(m, s^2): among linear D(x) = a + b x, the ambient loss picks E[x0 | x_t] whatever sigma_tn.

    The ordinary loss on the noisy sample does not (for sigma_tn > 0 it picks E[x_tn | x_t]).
    """
    m, s, sigma, n = 0.3, 0.7, 1.5, 400_000
    g = torch.Generator().manual_seed(2)
    x0 = m + s * torch.randn(n, generator=g, dtype=torch.float64)
    x_tn = x0 + sigma_tn * torch.randn(n, generator=g, dtype=torch.float64)
    x_t = x_tn + math.sqrt(sigma**2 - sigma_tn**2) * torch.randn(n, generator=g, dtype=torch.float64)
    b, a = minimiser(lambda D: ambient_loss(
        D.reshape(-1, 1, 1, 1), x_t.reshape(-1, 1, 1, 1), x_tn.reshape(-1, 1, 1, 1),
        torch.full((n,), sigma, dtype=torch.float64), torch.full((n,), sigma_tn, dtype=torch.float64),
        0.5).sum(), x_t)
    slope = s**2 / (s**2 + sigma**2)
    assert b == pytest.approx(slope, abs=0.005)
    assert a == pytest.approx((1 - slope) * m, abs=0.01)
    naive, _ = minimiser(lambda D: ((D - x_tn) ** 2).sum(), x_t)
    assert (abs(naive - slope) > 0.02) == (sigma_tn > 0)


def minimiser(loss, x):
    """(slope, intercept) of the linear D that minimises a quadratic loss: one Newton step."""
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)

    def value(t):
        return loss(t[0] * x + t[1])

    gradient = torch.autograd.functional.jacobian(value, theta)
    hessian = torch.autograd.functional.hessian(value, theta)
    return torch.linalg.solve(hessian, -gradient).tolist()


# --- sampler ----------------------------------------------------------------------------------------


def gaussian_denoiser(m, s):
    """E[x0 | x_sigma] for x0 ~ N(m, s^2)."""
    return lambda x, sigma: m + s**2 / (s**2 + sigma.reshape(-1, 1, 1, 1) ** 2) * (x - m)


def test_heun_is_second_order_on_gaussian_data():
    """The exact flow maps x at sigma_max to m + (x - m) s / sqrt(s^2 + sigma_max^2)."""
    m, s, errors = 0.2, 0.5, []
    latents = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(9, 1, 1, 1)
    for steps in (32, 64, 128):
        spec = SamplerSpec(steps, 0.002, 10.0, 7.0)
        exact = m + (10 * latents - m) * s / math.sqrt(s**2 + 100)
        errors.append((heun(gaussian_denoiser(m, s), latents, spec) - exact).abs().max().item())
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(1.8 < order < 2.3 for order in orders), (errors, orders)


def test_churn_keeps_the_gaussian_marginal_and_needs_noise():
    g = torch.Generator().manual_seed(3)
    latents = torch.randn(60_000, 1, 1, 1, generator=g, dtype=torch.float64)
    spec = SamplerSpec(40, 0.002, 20.0, 7.0, S_churn=20.0)
    x = heun(gaussian_denoiser(0.1, 0.5), latents, spec,
             lambda i: torch.randn(latents.shape, generator=g, dtype=torch.float64))
    assert x.mean().item() == pytest.approx(0.1, abs=0.01)
    assert x.std().item() == pytest.approx(0.5, abs=0.015)
    with pytest.raises(ValueError, match="S_churn"):
        heun(gaussian_denoiser(0.1, 0.5), latents, spec)


@pytest.mark.parametrize(("churn", "S_min", "S_max", "S_noise", "steps"), [
    (5.0, 0.05, 20.0, 1.003, range(2, 9)), (40.0, 0.0, math.inf, 1.0, range(12)), (8.0, 3.0, 3.0, 1.0, ())])
def test_churn_is_algorithm_2_written_out(churn, S_min, S_max, S_noise, steps):
    """In numpy, for a denoiser that is not linear. 40 / 12 is more than gamma may be; no level is 3."""
    random, N, asked = np.random.default_rng(4), 12, []
    x, z = random.standard_normal((3, 1, 2, 2)), random.standard_normal((N, 3, 1, 2, 2))

    def noise_of(step):
        asked.append(step)
        return torch.from_numpy(z[step])
    found = heun(lambda x, sigma: torch.tanh(x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)), torch.from_numpy(x),
                 SamplerSpec(N, 0.002, 40.0, 7.0, churn, S_min, S_max, S_noise), noise_of)
    t = [(40 ** (1 / 7) + i / (N - 1) * (0.002 ** (1 / 7) - 40 ** (1 / 7))) ** 7 for i in range(N)] + [0.0]
    x = t[0] * x
    for i in range(N):
        gamma = min(churn / N, math.sqrt(2) - 1) if S_min <= t[i] <= S_max else 0.0
        hat = t[i] + gamma * t[i]
        noisier = x + math.sqrt(hat**2 - t[i] ** 2) * S_noise * z[i]
        d = (noisier - np.tanh(noisier / (1 + hat**2))) / hat
        x = noisier + (t[i + 1] - hat) * d
        if t[i + 1] != 0:
            after = (x - np.tanh(x / (1 + t[i + 1] ** 2))) / t[i + 1]
            x = noisier + (t[i + 1] - hat) * (d + after) / 2
    np.testing.assert_allclose(found.numpy(), x, atol=1e-13)
    assert asked == list(steps)


@needs_reference
def test_network_and_heun_vectors():
    t, metadata = vectors("edm_songunet_small.safetensors")
    denoiser = reference_denoiser(t, metadata)
    with torch.no_grad():
        found = denoiser(t["x"], t["sigma"], {"classes": t["class_labels"], "augment": t["augment_labels"]})
    assert (found - t["denoised"]).abs().max() < 2e-5
    h, about = vectors("edm_heun_small.safetensors")
    condition, numbers = {"classes": h["class_labels"]}, {name: float(value) for name, value in about.items()}
    with torch.no_grad():
        samples = heun(lambda x, sigma: denoiser(x, sigma, condition), h["latents"].double(),
                       SamplerSpec(**numbers | {"num_steps": int(numbers["num_steps"])}))
    assert (samples - h["samples"]).abs().max() < 2e-4


def reference_denoiser(tensors, metadata):
    about = json.loads(metadata["config"])
    network = UNet(
        resolution=about["img_resolution"], channels_in=about["img_channels"],
        channels_out=about["img_channels"], label_dim=about["label_dim"],
        augment_dim=about["augment_dim"], model_channels=about["model_channels"],
        channel_mult=about["channel_mult"], num_blocks=about["num_blocks"],
        attn_resolutions=about["attn_resolutions"], dropout=0.0, generator=torch.Generator())
    denoiser = Denoiser(network, sigma_data=0.5).eval()
    denoiser.load_state_dict({name.removeprefix("weights."): tensor
                              for name, tensor in tensors.items() if name.startswith("weights.")})
    return denoiser


# --- distance ---------------------------------------------------------------------------------------


def test_distance_of_equal_covariances_is_the_squared_mean_gap():
    random = np.random.default_rng(0)
    a = random.standard_normal((12, 12))
    gap = random.standard_normal(12)
    first = frechet.Moments(np.zeros(12), a @ a.T, 100)
    second = frechet.Moments(gap, a @ a.T, 100)
    assert frechet.frechet_distance(first, second) == pytest.approx(gap @ gap, rel=1e-9)


def test_distance_of_commuting_covariances():
    x, y = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.25])
    found = frechet.frechet_distance(frechet.Moments(np.zeros(3), np.diag(x), 9),
                                     frechet.Moments(np.zeros(3), np.diag(y), 9))
    assert found == pytest.approx(((np.sqrt(x) - np.sqrt(y)) ** 2).sum())


def test_distance_equals_scipy_sqrtm():
    from scipy.linalg import sqrtm

    random = np.random.default_rng(1)
    f, g = random.standard_normal((400, 24)), 0.3 + 1.4 * random.standard_normal((300, 24))
    p, q = frechet.moments(f), frechet.moments(g)
    expected = ((p.mean - q.mean) ** 2).sum() + np.trace(
        p.covariance + q.covariance - 2 * sqrtm(p.covariance @ q.covariance).real)
    assert frechet.frechet_distance(p, q) == pytest.approx(expected, rel=1e-8)
    assert np.allclose(p.covariance, np.cov(f, rowvar=False))


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize(("few", "many", "features"), [(2, 2, 24), (5, 7, 24), (10, 300, 128)])
def test_distance_of_fewer_samples_than_features(few, many, features, near):
    """Their covariances have no full rank. With X and Y the centred rows over sqrt(N - 1) the trace of the
    root is the sum of the singular values of X Y^T, which takes no root of a covariance."""
    random, widths = np.random.default_rng(6), 3 * np.exp(-8 * np.arange(features) / features)
    f, g = (widths * random.standard_normal((count, features)) for count in (few, many))
    g = f + 0.01 * widths * random.standard_normal(f.shape) if near else g
    f += 0.2
    X, Y = ((one - one.mean(0)) / math.sqrt(len(one) - 1) for one in (f, g))
    expected = ((f.mean(0) - g.mean(0)) ** 2).sum() + (X**2).sum() + (Y**2).sum() - 2 * np.linalg.svd(
        X @ Y.T, compute_uv=False).sum()
    assert frechet.frechet_distance(*map(frechet.moments, (f, g))) == pytest.approx(expected, rel=1e-9)


def test_distance_to_oneself_is_0_for_fewer_samples_than_features():
    """512 roots of rounding noise, 1e-8 each, would be -1e-5 of it."""
    found = frechet.moments(np.random.default_rng(8).standard_normal((4, 512)))
    assert 0 <= frechet.frechet_distance(found, found) < 1e-11 * np.trace(found.covariance)


def test_distance_of_equal_samples_which_have_no_spread():
    equal, other = (frechet.moments(one) for one in (
        np.ones((5, 4)), np.random.default_rng(0).standard_normal((50, 4))))
    expected = ((1 - other.mean) ** 2).sum() + np.trace(other.covariance)
    assert frechet.frechet_distance(equal, other) == pytest.approx(expected, rel=1e-12)
    assert frechet.frechet_distance(equal, equal) == 0


def test_moments_of_float32_are_compared_in_float64():
    small = [frechet.Moments(np.full(2, mean, np.float32), scale * np.eye(2, dtype=np.float32), 5)
             for mean, scale in ((0, 1), (1, 2))]
    assert frechet.frechet_distance(*small) == pytest.approx(2 + 2 * (math.sqrt(2) - 1) ** 2, rel=1e-14)


@needs_reference
def test_moments_and_distances_are_those_of_the_reference():
    with safe_open(REFERENCE / "latent/frechet.safetensors", "numpy") as file:
        vectors = {name: file.get_tensor(name) for name in file.keys()}
        cases = json.loads(file.metadata()["cases"])
    for case, tolerance in zip(cases, (1e-10, 1e-6), strict=True):
        found = []
        for number in (1, 2):
            features, mean, covariance = (
                vectors[f"{case['name']}.{what}_{number}"] for what in ("features", "mu", "sigma"))
            found.append(frechet.moments(features))
            np.testing.assert_allclose(found[-1].mean, mean, atol=1e-14)
            np.testing.assert_allclose(found[-1].covariance, covariance, atol=1e-14)
        assert frechet.frechet_distance(*found) == pytest.approx(case["distance"], rel=tolerance)


def test_moments_of_parts_are_those_of_all():
    """Also where the mean is a million times the deviation; parts may be of any size, and are seen once."""
    features = 1e6 + np.random.default_rng(2).standard_normal((1001, 5))
    found = frechet.moments(features)
    assert found.count == 1001 and np.allclose(found.mean, features.mean(0), rtol=1e-14)
    assert np.allclose(found.covariance, np.cov(features - 1e6, rowvar=False), rtol=1e-9, atol=1e-9)
    parts = frechet.moments_of(iter([features[:1], features[1:700], features[700:]]))
    assert np.allclose(parts.covariance, found.covariance, rtol=1e-9, atol=1e-9) and parts.count == 1001
    with pytest.raises(ValueError, match="not finite"):
        frechet.moments_of([features, features[:2] * np.nan])


@pytest.mark.parametrize("taken", [2, 500, 998])
def test_moments_of_what_is_left_when_samples_are_taken_away(taken):
    features = 1e3 + np.random.default_rng(3).standard_normal((1000, 5)) @ np.diag([1, 2, 3, 4, 5])
    features[:taken] += 7  # those that are taken are others
    left = frechet.without(frechet.moments(features), frechet.moments(features[:taken]))
    expected = frechet.moments(features[taken:])
    assert left.count == expected.count == 1000 - taken
    np.testing.assert_allclose(left.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(left.covariance, expected.covariance, rtol=1e-7, atol=1e-7)
    with pytest.raises(ValueError, match="3 of 4 samples are taken away: at least 2"):
        frechet.without(frechet.moments(features[:4]), frechet.moments(features[:3]))


@pytest.mark.parametrize("size", [1e200, np.nan])
def test_distance_refuses_moments_that_overflow(size):
    """Their difference would be infinity less infinity, or a number that means nothing."""
    unit = frechet.Moments(np.zeros(3), np.eye(3), 10)
    with np.errstate(all="ignore"), pytest.raises((ArithmeticError, ValueError)):
        frechet.frechet_distance(frechet.Moments(np.full(3, size), np.eye(3), 10), unit)
    with np.errstate(all="ignore"), pytest.raises((ArithmeticError, ValueError)):
        frechet.frechet_distance(unit, frechet.Moments(np.zeros(3), np.full((3, 3), size) * size, 10))


def test_distance_refuses_what_is_no_covariance():
    bad = frechet.Moments(np.zeros(2), np.diag([1.0, -0.5]), 9)
    with pytest.raises(ArithmeticError, match="eigenvalue"):
        frechet.frechet_distance(bad, bad)
    with pytest.raises(ValueError, match="at least 2"):
        frechet.moments(np.zeros((1, 3)))
