"""Changes that a classifier must not go by leave the sharpness of every image as it was."""

import pytest
import torch

from ambient.annotation.nuisances import BRIGHTNESS_STD, CONTRAST_LOG2_STD, numbers
from ambient.annotation.nuisances import varied as changed
from ambient.specs import NUISANCES


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def varied(x, generator, names):
    return changed(x, numbers(*x.shape[:2], generator), names)


def neighbours(x):
    """Sorted absolute differences of neighbouring pixels of each image, divided by their mean."""
    across, down = (x[..., 1:] - x[..., :-1]), (x[..., 1:, :] - x[..., :-1, :])
    found = torch.cat([across.abs().flatten(1), down.abs().flatten(1)], dim=1).sort(dim=1).values
    return found / found.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("names", [*[(name,) for name in NUISANCES], NUISANCES])
def test_differences_of_neighbours_stay_and_the_image_does_not(names):
    x = torch.randn(32, 3, 8, 8, generator=seeded(0), dtype=torch.float64)
    out = varied(x, seeded(1), names)
    torch.testing.assert_close(neighbours(out), neighbours(x))
    moved = (out != x).flatten(1).any(dim=1).float().mean()
    assert moved == 1 if {"brightness", "contrast"} & set(names) else 0.2 < moved < 1


def test_each_change_is_what_it_says():
    x = torch.randn(4000, 3, 4, 4, generator=seeded(0), dtype=torch.float64)
    shift = (varied(x, seeded(1), ("brightness",)) - x)
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift))
    assert shift[:, :, 0, 0].std() == pytest.approx(BRIGHTNESS_STD, rel=0.05)
    gain = varied(x, seeded(1), ("contrast",)) / x
    torch.testing.assert_close(gain, gain[:, :1, :1, :1].expand_as(gain))
    assert gain[:, 0, 0, 0].log2().std() == pytest.approx(CONTRAST_LOG2_STD, rel=0.05)
    for name, other in (("negate", -x), ("transpose", x.transpose(2, 3))):
        out = varied(x, seeded(2), (name,))
        done = (out == other).flatten(1).all(dim=1)
        assert torch.equal(out[~done], x[~done]) and done.double().mean() == pytest.approx(0.5, abs=0.03)
    order = varied(torch.arange(3.0).reshape(1, 3, 1, 1).expand(6000, 3, 1, 1), seeded(3), ("channels",))
    orders, counts = order[:, :, 0, 0].unique(dim=0, return_counts=True)
    assert len(orders) == 6 and (counts - 1000).abs().max() < 150


def test_a_change_left_out_alters_no_other():
    x = torch.randn(16, 3, 4, 4, generator=seeded(0))
    assert torch.equal(varied(x, seeded(1), ()), x)
    both, one = varied(x, seeded(1), ("negate", "transpose")), varied(x, seeded(1), ("negate",))
    assert torch.equal(varied(one, seeded(1), ("transpose",)), both)
