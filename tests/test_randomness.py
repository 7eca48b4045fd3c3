"""Draws are a function of every bit of their key, and of nothing else."""

import numpy as np
import pytest
import torch

from ambient.diffusion import randomness


def test_torch_draws_are_a_mersenne_twister_whose_words_are_philoxs():
    """Against numpy's own Mersenne Twister, set to the 624 words that Philox gives for the key."""
    words = np.random.Philox(key=randomness.key("batch", 7, 512)).random_raw(624) >> np.uint64(32)
    twister = np.random.MT19937()
    twister.state = twister.state | {"state": {"key": words.astype(np.uint32), "pos": 624}}
    generator = randomness.torch_generator("cpu", "batch", 7, 512)
    drawn = torch.randint(2**20, (2000,), generator=generator)
    np.testing.assert_array_equal(drawn.numpy(), twister.random_raw(2000) % 2**20)


@pytest.mark.parametrize("bit", [0, 31, 32, 63, 64, 127])
def test_keys_that_differ_in_one_bit_give_other_draws(monkeypatch, bit):
    """torch's own seeding of a CPU generator reads the lowest 32 bits only."""
    first = torch.rand(100, generator=randomness.torch_generator("cpu", "any"))
    same = torch.rand(100, generator=randomness.torch_generator("cpu", "any"))
    key = randomness.key("any")
    monkeypatch.setattr(randomness, "key", lambda *position: key ^ (1 << bit))
    other = torch.rand(100, generator=randomness.torch_generator("cpu", "any"))
    assert torch.equal(first, same)
    assert not torch.isclose(first, other).any(), bit


def test_neighbouring_positions_are_not_correlated():
    """2,000 neighbouring steps, 64 draws each: mean, variance, covariance within 5 standard errors."""
    draws = torch.stack([torch.randn(64, generator=randomness.torch_generator("cpu", "batch", 0, step))
                         for step in range(2000)])
    assert abs((draws[1:] * draws[:-1]).mean()) < 5 / draws.numel() ** 0.5
    assert abs(draws.mean()) < 5 / draws.numel() ** 0.5
    assert abs(draws.var() - 1) < 5 * (2 / draws.numel()) ** 0.5
