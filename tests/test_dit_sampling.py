"""Samples by captions: classifier-free guidance and the sampler against the reference."""

import pytest
import torch
from t2i_vectors import agree, needs_reference, of_reference, vectors

from ambient import specs
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.guidance import Guided, Untold
from ambient.diffusion.noise import karras_schedule
from ambient.diffusion.sampler import heun

DTYPES = [torch.float32, torch.float64]


def sampled(denoiser, t, steps, guidance, captions):
    """Samples as the reference draws them: one denoiser, told the captions and, as its own guide, none."""
    guided = Guided(denoiser, Untold(denoiser, "text"), guidance)
    schedule = specs.SamplerSpec(steps, 0.002, 80.0, 7.0)
    with torch.no_grad():
        return heun(lambda x, sigma: guided(x, sigma, {"text": captions}), t["in.latents"], schedule)


@needs_reference
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_guided_network_is_that_of_the_reference(dtype):
    """D is affine in F, so guidance of denoisers is that of the raw networks."""
    for name in ("dit_a", "dit_b"):
        network, (t, about) = of_reference(name, dtype), vectors(f"{name}.guided")
        x, c_noise = t["in.x"].to(dtype), t["in.t"].to(dtype)
        with torch.no_grad():
            guided = Guided(raw(network, c_noise), Untold(raw(network, c_noise), "text"),
                            float(about["guidance"]))
            y = guided(x, torch.ones(len(x)), {"text": t["in.y"][:, 0].to(dtype)})
        agree(y, t["out64.sample"], 3e-5 if dtype == torch.float32 else 1e-12)


def raw(network, c_noise):
    """The network itself in a denoiser's place."""
    return lambda x, sigma, condition=None: network(x, c_noise, condition)


@needs_reference
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), [
    (torch.float32, 18, 5e-5), (torch.float64, 30, 1e-6)])
def test_guided_samples_are_those_of_the_reference(dtype, steps, tolerance):
    denoiser, (t, _) = Denoiser(of_reference("dit_c", dtype), 0.9), vectors("sampler_dit_c")
    for guidance in (1, 1.5, 5):
        samples = sampled(denoiser, t, steps, guidance, t["in.captions"][:, 0])
        agree(samples, t[f"out64.steps{steps}.cfg{guidance}"], tolerance)
    levels = torch.as_tensor(karras_schedule(steps, 0.002, 80.0, 7.0))
    torch.testing.assert_close(levels, t[f"out.sigmas{steps}"], rtol=1e-12, atol=0)


@needs_reference
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_of_a_network_with_experts_are_those_of_the_reference(dtype):
    denoiser, (t, about) = Denoiser(of_reference("dit_b", dtype), 0.9), vectors("sampler_dit_b")
    samples = sampled(denoiser, t, int(about["steps"]), float(about["guidance"]), t["in.captions"][:, 0])
    agree(samples, t["out64.sample"], 1e-4 if dtype == torch.float32 else 1e-6)


class Gaussian(torch.nn.Module):
    """The denoiser of N(mu, s^2), where mu is told as `text` and is 0 where it is not."""

    def __init__(self, s):
        super().__init__()
        self.s = s

    def forward(self, x, sigma, condition=None):
        variance, noise = self.s**2, sigma.reshape(-1, 1, 1, 1) ** 2
        mu = (condition or {}).get("text", torch.zeros_like(x))
        return (variance * x + noise * mu) / (variance + noise)


@needs_reference
def test_guided_samples_of_gaussians_are_those_of_the_reference():
    t, about = vectors("sampler_gaussian")
    for steps in (18, 30):
        for guidance in (1, 1.5, 5):
            samples = sampled(Gaussian(float(about["s"])), t, steps, guidance, t["in.mu"])
            agree(samples, t[f"out64.steps{steps}.cfg{guidance}"], 1e-10)


def test_a_guide_that_is_not_told_is_told_everything_else():
    asked = []
    untold = Untold(lambda x, sigma, condition: asked.append(condition) or x, "text", "classes")
    untold(torch.zeros(1), torch.ones(1), {"text": 1, "patches": 2})
    untold(torch.zeros(1), torch.ones(1))
    assert asked == [{"patches": 2}, {}]


def test_guidance_by_a_caption_leads_beyond_it():
    """With D = D_0 + g (D_mu - D_0), N(mu, s^2) becomes N(g mu, s^2)."""
    told, mu = Gaussian(0.6), torch.full((2, 1, 2, 2), 0.7)
    x, sigma = torch.randn(2, 1, 2, 2), torch.tensor([0.3, 4.0])
    torch.testing.assert_close(Guided(told, Untold(told, "text"), 3.0)(x, sigma, {"text": mu}),
                               told(x, sigma, {"text": 3 * mu}))
