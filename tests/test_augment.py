"""The augmentation pipe through its labels: what a label says is what happened to the image."""

import math

import pytest
import torch

from ambient.diffusion.augment import SYM6, augment

SIDE = 32
AFFINE = ("scale", "rotate", "aniso", "translate")
EVERY = ("xflip", "yflip", *AFFINE)
CENTRE = torch.tensor([3.0, -2.0], dtype=torch.float64)  # of the bump that is transformed
PRECISION = torch.diag(torch.tensor([1 / 18, 1 / 10], dtype=torch.float64))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(batch, side=16):
    return torch.rand(batch, 1, side, side, generator=seeded(99)) * 2 - 1


def gaussian(centre, precision, side=SIDE):
    """exp(-r' P r) about centres (B, 2), (x, y) pixels from the image's middle: (B, side, side)."""
    axis = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    r = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1) - centre[:, None, None]
    return torch.exp(-torch.einsum("bhwi,bij,bhwj->bhw", r, precision, r))


def turned(cos, sin):
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def maps_of(labels, sign):
    """Linear maps (B, 2, 2) and shifts (B, 2) that labels stand for: flips first, translation last.

    The anisotropy's w (cos r, sin r) is the same for (w, r) and (-w, r + pi): `sign` is that of w.
    """
    xflip, yflip, scale, cos_1, sin, along, across, *move = labels.double().unbind(1)
    w = sign * torch.hypot(along, across)
    axis = turned(*(torch.where(w == 0, one, part / w)
                    for part, one in ((along, torch.ones_like(w)), (across, torch.zeros_like(w)))))
    stretch = axis @ torch.diag_embed(torch.stack([0.2 * w, -0.2 * w], -1).exp2()) @ axis.mT
    flips = torch.diag_embed(torch.stack([1 - 2 * xflip, 1 - 2 * yflip], -1))
    turn = turned(cos_1 + 1, sin) * (0.2 * scale).exp2()[:, None, None]
    return stretch @ turn @ flips, torch.stack(move, -1) * 0.125 * SIDE


@pytest.mark.parametrize("names", [*((name,) for name in EVERY), AFFINE, EVERY], ids="-".join)
def test_labels_predict_the_image(names):
    bump = gaussian(CENTRE[None], PRECISION[None])
    out, labels = augment(bump.float().expand(300, 1, SIDE, SIDE), seeded(1), p=1.0,
                          transforms=names)
    errors = []
    for sign in (1, -1):
        linear, shift = maps_of(labels, sign)
        inverse = torch.linalg.inv(linear)
        moved = linear @ CENTRE + shift
        exact = gaussian(moved, inverse.mT @ PRECISION @ inverse)
        # Near the bump only: elsewhere its mirror images may come in from beyond the border.
        near = gaussian(moved, torch.eye(2, dtype=torch.float64).expand(300, 2, 2) / 25) > 0.37
        errors.append(((out[:, 0] - exact).abs() * near).amax((1, 2)))
    inside = (moved.abs() < SIDE / 2 - 8).all(1)
    assert inside.sum() > 100
    assert torch.minimum(*errors)[inside].max() < 0.03


def test_half_turn_is_both_flips():
    x = gaussian(CENTRE[None], PRECISION[None]).float()[:, None]
    out, labels = augment(x.expand(2000, 1, SIDE, SIDE), seeded(2), p=1.0, transforms=("rotate",))
    half = (labels[:, 3] < -1) & (labels[:, 4].abs() < 0.01)
    assert half.any()
    inner = slice(4, -4)
    assert ((out - x.flip(2, 3))[half][..., inner, inner]).abs().max() < 0.02


def test_vertical_flip_is_exact_and_told():
    x = noise(200)
    out, labels = augment(x, seeded(3), p=1.0, transforms=("yflip",))
    flipped = labels[:, 1] == 1
    assert 60 < flipped.sum() < 140 and not labels[:, [0, *range(2, 9)]].any()
    assert torch.equal(out[flipped], x[flipped].flip(2))
    assert torch.equal(out[~flipped], x[~flipped])


def test_without_transforms_or_chance_nothing_happens():
    x = noise(50)
    for options in ({"transforms": ()}, {"p": 0.0, "transforms": EVERY[1:]}):
        out, labels = augment(x, seeded(4), **{"p": 1.0} | options)
        assert torch.equal(out, x) and torch.equal(labels, torch.zeros(50, 9))


def test_labels_have_the_stated_frequencies_and_moments():
    p, batch = 0.25, 20_000
    _, labels = augment(torch.zeros(batch, 1, 4, 4), seeded(5), p=p)
    fired = {"scale": labels[:, 2] != 0, "rotate": labels[:, 4] != 0, "aniso": labels[:, 5] != 0,
             "translate": labels[:, 7] != 0}
    # Four standard errors of a share of 20,000 are at most 0.0142.
    for name, flags in fired.items():
        assert flags.float().mean().item() == pytest.approx(p, abs=0.0142), name
        assert (flags & fired["scale"]).float().mean().item() == pytest.approx(
            p if name == "scale" else p * p, abs=0.0142), name
    assert labels[:, 0].mean().item() == pytest.approx(0.5, abs=0.0142)
    assert labels[:, 1].mean().item() == pytest.approx(p / 2, abs=0.0142)
    for column in (2, 7, 8):  # w, w_x, w_y: standard normal where they fired
        values = labels[labels[:, column] != 0, column]
        assert values.mean().item() == pytest.approx(0.0, abs=0.06)
        assert values.std().item() == pytest.approx(1.0, abs=0.05)
    angles = torch.atan2(labels[:, 4], labels[:, 3] + 1)[fired["rotate"]]
    assert angles.std().item() == pytest.approx(math.pi / math.sqrt(3), rel=0.04)  # uniform
    aniso = labels[fired["aniso"]]
    assert aniso[:, 5:7].norm(dim=1).square().mean().item() == pytest.approx(1.0, abs=0.09)
    assert (aniso[:, 6] != 0).float().mean().item() == pytest.approx(0.5, abs=0.03)  # own axes


def test_only_the_given_generator_is_used_and_the_input_is_kept():
    x = noise(40)
    before, state = x.clone(), torch.get_rng_state()
    out, labels = augment(x, seeded(6), p=0.5)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(x, before)
    torch.manual_seed(1)
    again, same = augment(x, seeded(6), p=0.5)
    assert torch.equal(out, again) and torch.equal(labels, same)
    other, _ = augment(x, seeded(7), p=0.5)
    assert not torch.equal(out, other)


def test_an_image_does_not_depend_on_its_neighbours():
    x = noise(40)
    alone = torch.zeros_like(x)
    alone[7] = x[7]
    out, labels = augment(x, seeded(8), p=1.0)
    single, same = augment(alone, seeded(8), p=1.0)
    torch.testing.assert_close(single[7], out[7], atol=1e-6, rtol=0)
    assert torch.equal(labels, same) and labels[7, 2] != 0


def test_a_disabled_transform_leaves_the_draws_of_the_others():
    x = noise(100)
    _, every = augment(x, seeded(9), p=0.5)
    columns = {"xflip": [0], "yflip": [1], "scale": [2], "rotate": [3, 4], "aniso": [5, 6],
               "translate": [7, 8]}
    for name, gone in columns.items():
        _, labels = augment(x, seeded(9), p=0.5, transforms=[n for n in EVERY if n != name])
        expected = every.clone()
        expected[:, gone] = 0
        assert torch.equal(labels, expected), name


def test_range():
    """Flat images stay flat; the filters' absolute sums bound the overshoot of any image."""
    flat, _ = augment(torch.full((500, 1, SIDE, SIDE), 0.7), seeded(10), p=0.12)
    assert (flat - 0.7).abs().max() < 0.05
    for side, far in ((16, 0), (8, 0.01)):  # 0 lies beyond the mirror image, which few of 8 pixels reach
        flat, _ = augment(torch.ones(4000, 1, side, side), seeded(12), p=0.12)
        assert ((flat - 1).abs().amax((1, 2, 3)) > 1e-3).float().mean() <= far
    taps = torch.tensor(SYM6).abs()
    bound = (max(taps[::2].sum(), taps[1::2].sum()) * taps.sum()) ** 2
    out, _ = augment(noise(300).sign(), seeded(11), p=0.5)
    assert out.isfinite().all() and 1 < out.abs().max() < bound


def test_wavelet_has_six_vanishing_moments():
    """With orthonormality (tested beside `warp`) this is what defines the filter's family."""
    k = torch.arange(12, dtype=torch.float64) - 5.5
    taps = torch.tensor(SYM6, dtype=torch.float64) * (1 - 2 * (torch.arange(12) % 2))
    for order in range(6):
        assert (taps * (k / 5.5) ** order).sum().item() == pytest.approx(0.0, abs=1e-9), order
    # Of this family, sym6 is nearly symmetric: db6 has its energy's centre 3.5 taps off the middle.
    energy = torch.tensor(SYM6, dtype=torch.float64).square()
    assert (energy * k).sum().abs().item() < 1
