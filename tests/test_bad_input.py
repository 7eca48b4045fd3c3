"""What public functions are given wrongly is refused: none of these may come out as a number."""

import re
from functools import partial

import numpy as np
import pytest
import torch

from ambient.data import ranking
from ambient.data.corruptions import corrupt
from ambient.diffusion import crops
from ambient.diffusion.augment import augment
from ambient.diffusion.averages import coefficients
from ambient.diffusion.denoiser import Denoiser
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.diffusion.networks.positions import positions
from ambient.diffusion.noise import karras_schedule
from ambient.diffusion.objective import ambient_loss, edm_loss
from ambient.diffusion.patches import kept_patches, patch_mean
from ambient.diffusion.schedules import power_beta
from ambient.evaluation.geneval import Detection, geneval_faults, geneval_prompt
from ambient.report.judgements import bars
from ambient.report.preferences import preference
from tests.test_dit import made

IMAGES, LEVELS = torch.zeros(2, 3, 2, 2), torch.ones(2)
SAMPLER = EligibleSampler(np.array([0.0, 2.0]), np.zeros(2), Admission())
EDM = partial(edm_loss, IMAGES, sigma_data=0.5)
AMBIENT = partial(ambient_loss, IMAGES, IMAGES, IMAGES, sigma_data=0.5)
DOG = {"class": "dog", "count": 1}
ONE_DOG = geneval_prompt({"tag": "single_object", "include": [DOG]})


def drawn(sigma, u):
    return SAMPLER.draw(np.array([sigma]), np.array([u]))


def corrupted(image):
    return corrupt(image, np.random.default_rng(0), "pixelate", {"block_px": 2})


def judged(box, score):
    return geneval_faults(ONE_DOG, {"dog": [Detection(box, score)]})


def asked(**changes):
    return geneval_prompt({"tag": "single_object", "include": [DOG, DOG | changes]})


REFUSED = {
    "one level for two images": (partial(EDM, IMAGES, LEVELS[:1]), "denoised, x0, sigma: got"),
    "one image for two": (partial(EDM, IMAGES[:1], LEVELS), "allowed: 2 times (B, C, H, W), 1"),
    "grey for three channels": (partial(EDM, IMAGES[:, :1], LEVELS), "denoised, x0, sigma"),
    "rows for images": (partial(edm_loss, LEVELS[:, None], LEVELS[:, None], LEVELS, 0.5), "denoised, x0"),
    "a negative bound": (partial(AMBIENT, LEVELS, 0 * LEVELS, clip=-1.0), "clip: got -1.0, allowed: >= 1"),
    "a level that is no number": (partial(drawn, np.nan, 0.5), "sigma: got nan"),
    "a uniform above 1": (partial(drawn, 1.0, 5.0), "u: got 5.0, allowed: [0, 1)"),
    "a uniform below 0": (partial(drawn, 1.0, -0.5), "u: got -0.5"),
    "a later average": (partial(coefficients, [100, 200], [0.05, 0.05], 150, 0.05), "none later than 150"),
    "an average twice": (partial(coefficients, [100, 100], [0.05, 0.05], 150, 0.05), "each average once"),
    "an average without width": (partial(coefficients, [100, 150], [0.05], 150, 0.05), "got 2 and 1"),
    "one sampling step": (partial(karras_schedule, 1, 0.002, 80.0, 7.0), "num_steps: got 1, allowed: >= 2"),
    "sampling that ends at 0": (partial(karras_schedule, 18, 0.0, 80.0, 7.0), "0 < sigma_min"),
    "rising levels": (partial(karras_schedule, 18, 80.0, 0.002, 7.0), "sigma_min <= sigma_max"),
    "a last level that rounding loses": (
        partial(karras_schedule, 3, 1e-4, 1e3, 0.3), "rho: got 0.3, allowed: larger for levels from 1000.0"),
    "a batch of more images than seen": (partial(power_beta, 5, 10, 6.9), "batch: got 10 at 5 images seen"),
    "a score that is no number": (partial(ranking.ranks, np.array([np.nan]), np.zeros(1)), "nan at place 0"),
    "a share above 1": (partial(ranking.count, 10, 1.5), "share: got 1.5, allowed: [0, 1]"),
    "bytes for an image": (partial(corrupted, np.zeros((3, 4, 4), np.uint8)), "got 'uint8 (3, 4, 4)'"),
    "a crop of nothing": (partial(crops.random_squares, 2, 8, 0, torch.Generator()), "got 0 pixels"),
    "a probability that is none": (partial(crops.sigma_max, {1: np.array([np.nan])}, 0.5, {1: 0.1}), "nan"),
    "an unknown transform": (partial(augment, IMAGES, torch.Generator(), 0.1, ("xflop",)), "got ['xflop']"),
    "a chance above 1": (partial(augment, IMAGES, torch.Generator(), 5.0), "p: got 5.0, allowed: [0, 1]"),
    "positions of scale 0": (partial(positions, 2, 8, 0.0), "scale: got 0.0"),
    "data without spread": (partial(Denoiser, torch.nn.Identity(), 0.0), "sigma_data: got 0.0, allowed: > 0"),
    "patches below none": (partial(kept_patches, torch.zeros(2, 16), -0.001), "removed: got -0.001"),
    "one image's patches for two": (partial(patch_mean, IMAGES, 1, torch.zeros(1, 2, dtype=torch.int64)),
                                    "of the shape (1, 2), allowed: (2, K)"),
    "corners exchanged": (partial(judged, (160, 200, 100, 280), 0.9), "x0 <= x1"),
    "a score in percent": (partial(judged, (0, 0, 1, 1), 93.0), "scores from 0 to 1"),
    "a misspelt key of a clause": (partial(asked, colour="red"), "'colour' (did you mean 'color'?)"),
    "a position without relation": (partial(asked, position=[None, 0]), "position: got [None, 0]"),
    "an unknown verdict": (partial(bars, [{"verdict": "both", "caption": "a dog"}]), "verdict: got 'both'"),
    "a first row without score": (partial(preference, np.zeros(1), np.array([np.nan])), "1 of the scores"),
    "a preference without score": (partial(preference, np.array([np.nan]), np.zeros(1)), "1 of the scores"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_come_out_as_a_wrong_number_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 9, 9), (3, 2, 32), (4, 8, 8)])
def test_a_transformer_refuses_images_of_another_shape(shape):
    network = made(side=8)
    with pytest.raises(ValueError, match="allowed: \\(B, 3, 8, 8\\)"):
        network(torch.zeros(2, *shape), torch.zeros(2))
    with pytest.raises(ValueError, match="allowed: \\(2, K\\)"):
        network(torch.zeros(2, 3, 8, 8), torch.zeros(2), {"patches": torch.zeros(1, 3, dtype=torch.int64)})
