"""Patches that a step leaves out: which stay, and the losses over them, by vectors and closed forms."""

import pytest
import torch
from t2i_vectors import agree, needs_reference, of_reference, read, vectors

from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.eligible import Admission
from ambient.diffusion.noise import ambient_weight, edm_weight
from ambient.diffusion.objective import ambient_loss, edm_loss
from ambient.diffusion.patches import kept_patches, patch_mean, to_images, to_patches

NETWORKS, MASKS = ["dit_a", "dit_b"], ["mask0", "masked"]
SIGMA_DATA = 0.9


def column(values):
    return values.reshape(-1, 1, 1, 1)


def told(t):
    """The condition of a vector, and the places of patches in it."""
    captions = t["in.captions"][:, 0] * t["in.caption_keep"][:, None, None]
    if "in.mask" not in t:
        return {"text": captions}, None
    places = (t["in.mask"] == 0).nonzero()[:, 1].reshape(len(captions), -1)
    return {"text": captions, "patches": places}, places


@needs_reference
@pytest.mark.parametrize("case", [f"{name}.edm_loss.{mask}" for name in NETWORKS for mask in MASKS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edm_losses_and_gradients_are_those_of_the_reference(case, dtype):
    t, _ = vectors(case)
    network = of_reference(case[:5], dtype)
    (condition, places), sigma = told(t), t["in.sigma"].to(dtype)
    x0 = t["in.latents"].to(dtype)
    D = Denoiser(network, SIGMA_DATA)(x0 + column(sigma) * t["in.noise"], sigma, condition)
    losses = patch_mean(edm_loss(D, x0, sigma, SIGMA_DATA), network.patch, places)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    agree(losses, t["out64.loss_per_sample"], tolerance)
    agree(losses.mean(), t["out64.loss"], tolerance)
    losses.mean().backward()
    gradients = {name.removeprefix("grad."): one for name, one in t.items() if name.startswith("grad.")}
    assert len(gradients) > 5
    for name, expected in gradients.items():
        agree(network.get_parameter(name).grad, expected.double(), 1e-4, name)


@needs_reference
@pytest.mark.parametrize("case", [f"{name}.ambient_loss.{mask}" for name in NETWORKS for mask in MASKS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ambient_losses_are_those_of_the_reference(case, dtype):
    t, _ = vectors(case)
    network = of_reference(case[:5], dtype)
    (condition, places), sigma, sigma_tn = told(t), t["in.sigma"].to(dtype), t["in.sigma_min"].to(dtype)
    x_tn = t["in.latents"].to(dtype) + column(sigma_tn) * t["in.fixed_noise"]
    x_t = x_tn + column((sigma**2 - sigma_tn**2).sqrt()) * t["in.noise"]
    D = Denoiser(network, SIGMA_DATA)(x_t, sigma, condition)
    losses = patch_mean(ambient_loss(D, x_t, x_tn, sigma, sigma_tn, SIGMA_DATA), network.patch, places)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-6
    agree(x_t, t["mid.x_t"].double(), 1e-6)
    agree(D, t["mid.denoised"].double(), 2e-5)
    levels = sigma.double(), sigma_tn.double()
    agree(edm_weight(levels[0], SIGMA_DATA) * ambient_weight(*levels), t["mid.weight"].double(), 1e-5)
    agree(losses, t["out64.loss_per_sample"], tolerance)
    agree(losses.mean(), t["out64.loss"], tolerance)
    clean = sigma_tn == 0
    assert clean.any()
    ordinary = patch_mean(edm_loss(D, x_tn, sigma, SIGMA_DATA), network.patch, places)
    torch.testing.assert_close(losses[clean], ordinary[clean])
    weightless = without_a_weight(D, x_t, x_tn, t["in.noise"], levels)
    torch.testing.assert_close(losses, patch_mean(weightless, network.patch, places).to(dtype),
                               rtol=2e-4 if dtype == torch.float32 else 1e-9, atol=0)


def without_a_weight(D, x_t, x_tn, noise, levels):
    """The same loss as an ordinary one against a noisy target: w (D - D*)^2 with the target
    D* = x_tn - sigma_tn^2 / sqrt(sigma^2 - sigma_tn^2) e, whose noise grows towards sigma_tn."""
    sigma, sigma_tn = levels
    target = x_tn - column(sigma_tn**2 / (sigma**2 - sigma_tn**2).sqrt()) * noise.double()
    return edm_loss(D.double(), target, sigma, SIGMA_DATA)


def test_the_ambient_loss_is_an_ordinary_one_against_a_noisy_target():
    """From far above sigma_tn to the edge of the additive margin, where lambda_amb is 431."""
    generator = torch.Generator().manual_seed(0)
    D, x_tn, noise = (torch.randn(5, 4, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    sigma = torch.tensor([0.7, 2.0501, 2.05, 3.0, 60.0], dtype=torch.float64)
    sigma_tn = torch.tensor([0.0, 2.0, 2.0, 2.0, 2.0], dtype=torch.float64)
    x_t = x_tn + column((sigma**2 - sigma_tn**2).sqrt()) * noise
    losses = ambient_loss(D, x_t, x_tn, sigma, sigma_tn, SIGMA_DATA)
    torch.testing.assert_close(losses, without_a_weight(D, x_t, x_tn, noise, (sigma, sigma_tn)),
                               rtol=1e-9, atol=1e-9)
    assert ambient_weight(sigma, sigma_tn)[2].item() == pytest.approx(431, rel=1e-3)


@needs_reference
def test_samples_are_admitted_as_the_reference_admits_them():
    """One pending noise level is offered to the samples in their order until one takes it."""
    t, admission = read("admission"), Admission(margin=0.05)
    draws, taken = iter(t["sigma_draws"]), []
    sigma = next(draws)
    for index, sigma_min in enumerate(t["sigma_min"]):
        if admission.admits(sigma, sigma_min, 0.0):
            taken.append([index, sigma])
            sigma = next(draws)
    assert taken == t["accepted_index_and_sigma"]


# --- closed forms -------------------------------------------------------------------------------------

@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_are_blocks_of_the_image_and_come_back(patch):
    images = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    tokens = to_patches(images, patch)
    grid = 8 // patch
    for row, column_ in ((0, 0), (1, grid - 1)):
        block = images[1, :, row * patch:(row + 1) * patch, column_ * patch:(column_ + 1) * patch]
        assert torch.equal(tokens[1, row * grid + column_], block.permute(1, 2, 0).flatten())
    assert torch.equal(to_images(tokens, patch), images)


@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (1, 3, 7, 7)])
def test_images_without_whole_patches_are_refused(shape):
    with pytest.raises(ValueError, match=r"images of . x . pixels, allowed: squares whose side is a"):
        to_patches(torch.zeros(shape), 2)


def test_the_patches_with_the_smallest_scores_stay():
    scores = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.8, 0.4, 0.6]])
    assert kept_patches(scores, 0.5).tolist() == [[1, 3], [0, 2]]
    assert kept_patches(scores, 0.74).tolist() == [[1], [0]] and kept_patches(scores, 0.0).shape == (2, 4)
    # 1 - 0.9 is 0.09999999999999998: nine of a hundred patches stayed, and none of ten.
    stay = {tokens: kept_patches(torch.rand(1, tokens), 0.9).shape[1] for tokens in (100, 10, 99, 256)}
    assert stay == {100: 10, 10: 1, 99: 9, 256: 25}
    for removed in (0.76, 1.0, -0.3):
        with pytest.raises(ValueError, match=f"removed: got {removed}, allowed: from 0 to what leaves"):
            kept_patches(scores, removed)


def test_the_mean_is_over_kept_patches_alone():
    values = torch.zeros(2, 3, 4, 4)
    values[0, :, :2, 2:] = 5.0  # patch 1 of the first image
    values[1, 2, 2, 0] = 12.0  # one of the twelve numbers of patch 2 of the second
    values[:, :, 2:, 2:] = float("nan")  # patch 3, which no loss may look at
    places = torch.tensor([[0, 1], [1, 2]])
    torch.testing.assert_close(patch_mean(values, 2, places), torch.tensor([2.5, 0.5]))
    whole = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(patch_mean(whole, 2), whole.mean((1, 2, 3)))
