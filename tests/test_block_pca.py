"""The encoder of principal components, against closed forms."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ambient.data.datasets import Dataset, to_float
from ambient.specs import EncoderSpec
from ambient.specs.strict import SpecError, build
from ambient.training import encoders

KIND = encoders.KINDS["block_pca"]


def made(images, block, numbers):
    spec, record = EncoderSpec("block_pca", block=block, numbers=numbers), SimpleNamespace(facts={})
    data = Dataset(images, np.zeros(len(images), int), np.arange(len(images)))
    return spec, KIND.make(spec, record, data=data, weights=None, state=None), record.facts["variance_kept"]


def test_blocks_of_few_colours_are_kept_whole():
    """Blocks of 4 x 4 that are one of five colours each span four dimensions beside their mean."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (5, 3)).astype(np.uint8)
    drawn = colours[rng.integers(0, 5, (50, 2, 2))].transpose(0, 3, 1, 2).repeat(4, axis=2).repeat(4, axis=3)
    spec, coder, kept = made(drawn, 4, 4)
    z, std = coder.encode(drawn)
    assert (spec.latent(8), z.shape, std.abs().max().item()) == ((4, 2), (50, 4, 2, 2), 0.0)
    assert kept == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(coder.decode(z).numpy(), to_float(drawn), atol=1e-5)


def test_what_is_lost_is_the_variance_of_the_small_components():
    """The mean square error is the sum of the eigenvalues that are left out, and all numbers vary alike."""
    images = np.random.default_rng(1).integers(0, 256, (400, 1, 8, 8)).astype(np.uint8)
    images[:, :, ::2] //= 8  # rows of unlike variance
    _, coder, kept = made(images, 4, 8)
    x = to_float(images)
    blocks = x.reshape(400, 2, 4, 2, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 16).astype(float)
    values = np.linalg.eigvalsh(np.cov(blocks.T, bias=True))
    z, _ = coder.encode(images)
    error = ((coder.decode(z).numpy() - x)**2).sum() / len(blocks)
    assert error == pytest.approx(values[:8].sum(), rel=1e-4)
    assert kept == pytest.approx(values[8:].sum() / values.sum(), rel=1e-6)
    spread = z.permute(1, 0, 2, 3).flatten(1).var(dim=1, correction=0)
    np.testing.assert_allclose(spread, np.full(8, values[8:].sum() / 8), rtol=1e-4)


def test_a_stored_one_is_built_again():
    images = np.random.default_rng(2).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    spec, coder, _ = made(images, 4, 16)
    again = KIND.build(spec, 3)
    again.load_state_dict(coder.state_dict())
    assert torch.equal(again.encode(images)[0], coder.encode(images)[0])


@pytest.mark.parametrize(("changed", "said"), [
    ({"numbers": 12}, "numbers: got 12, allowed: a power of two, at most 16"),
    ({"numbers": 32}, "numbers: got 32"), ({"block": 1}, "block: got 1, allowed: >= 2 pixels")])
def test_settings_are_held_to_their_ranges(changed, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        build(EncoderSpec, {"kind": "block_pca", "block": 4, "numbers": 8} | changed, "e")
