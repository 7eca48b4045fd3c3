"""Guidance by a second denoiser: the reference's samples, closed forms."""

import json

import pytest
import torch
from edm2_vectors import agree, needs_reference, of_reference, vectors

from ambient import specs
from ambient.diffusion.guidance import Guided
from ambient.diffusion.noise import karras_schedule
from ambient.diffusion.sampler import heun


@needs_reference
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_guided_samples_are_those_of_the_reference(dtype, tolerance):
    main, guide = (of_reference(name, dtype)[0] for name in ("unet_cond", "unet_uncond"))
    t, about = vectors("heun")
    condition, calls = {"classes": t["class_labels"]}, []
    main.register_forward_hook(lambda *call: calls.append(1))

    def sampled(guidance, num_steps, sigma_min=0.002, sigma_max=80.0, rho=7.0, noise=None, **churn):
        denoiser = Guided(main, guide, guidance)
        schedule = specs.SamplerSpec(num_steps, sigma_min, sigma_max, rho, **churn)
        with torch.no_grad():
            return heun(lambda x, sigma: denoiser(x, sigma, condition), t["noise"], schedule, noise)

    for run in json.loads(about["runs"]):
        calls.clear()
        agree(sampled(run["guidance"], run["steps"]), t, f"samples_steps{run['steps']}_g{run['guidance']}",
              tolerance)
        assert len(calls) == run["nfe"]
    agree(sampled(1.4, 5, 0.01, 40.0, 5.0), t, "samples_steps5_smin0.01_smax40_rho5_g1.4", tolerance)
    churn, left = json.loads(about["churn"]), iter(t["churn_noise"])
    options = {key: value for key, value in churn.items() if key.startswith("S_")}
    agree(sampled(churn["guidance"], churn["steps"], noise=lambda step: next(left), **options), t,
          "samples_churn", tolerance)
    assert next(left, None) is None  # all of the noises were used
    agree(torch.as_tensor(karras_schedule(32, 0.002, 80.0, 7.0)), t, "sigmas_32", 1e-12)


class Gaussian(torch.nn.Module):
    """The denoiser of N(mean, 1), which counts how often it is asked."""

    def __init__(self, mean):
        super().__init__()
        self.mean, self.calls = mean, []

    def forward(self, x, sigma, condition=None):
        self.calls.append(condition)
        share = (1 / (1 + sigma**2)).reshape(-1, 1, 1, 1)
        return share * x + (1 - share) * self.mean


def test_of_two_gaussians_the_guided_one_lies_beyond_the_main_one():
    """The denoisers of N(a, 1) and N(b, 1), guided, are that of N(b + g (a - b), 1)."""
    main, guide, x = Gaussian(2.0), Gaussian(0.5), torch.randn(3, 1, 2, 2)
    sigma, told = torch.tensor([0.1, 1.0, 9.0]), {"classes": torch.eye(3)}
    torch.testing.assert_close(Guided(main, guide, 1.8)(x, sigma, told), Gaussian(0.5 + 1.8 * 1.5)(x, sigma))
    assert main.calls == guide.calls == [told]
    assert torch.equal(Guided(main, guide, 1.0)(x, sigma), main(x, sigma)) and len(guide.calls) == 1


@pytest.mark.parametrize("guidance", [0.0, 0.5, -1.0])
def test_below_one_the_guided_one_lies_towards_the_guide(guidance):
    x, sigma = torch.randn(3, 1, 2, 2), torch.tensor([0.1, 1.0, 9.0])
    found = Guided(Gaussian(2.0), Gaussian(0.5), guidance)(x, sigma)
    torch.testing.assert_close(found, Gaussian(0.5 + guidance * 1.5)(x, sigma))


@pytest.mark.parametrize("guidance", [float("inf"), float("nan")])
def test_a_guidance_that_is_not_finite_is_refused(guidance):
    with pytest.raises(ValueError, match=r"guidance: got .*, allowed: a finite number"):
        Guided(Gaussian(0.0), Gaussian(1.0), guidance)
