"""Corruptions against closed forms, and mixtures: who is clean, and what the file may hold."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from scipy import ndimage
from tiny import kept

from ambient.data import corruptions
from ambient.data.datasets import Dataset, read, to_float, to_uint8, write
from ambient.data.mixtures import is_clean
from ambient.specs import MixtureSpec
from ambient.stages import corrupt

EXAMPLES = [("gaussian_blur", {"sigma_px": 0.8}), ("jpeg", {"quality": 20}),
            ("jpeg", {"quality": 60, "subsampling": "4:4:4"}), ("motion_blur", {"length_px": 5.5}),
            ("motion_blur", {"length_px": 3, "angle_deg": 30}), ("random_mask", {"prob": 0.3}),
            ("pixelate", {"block_px": 3}), ("additive_noise", {"std": 0.7}),
            ("colour_shift", {"shift": [0.5, -0.4, 1.5]}), ("contrast", {"factor": 3.0})]


def configured(ops):
    """(op, parameters) of the entries of `config/` whose corruption is none of `ops`."""
    found = []
    for path in sorted((Path(__file__).parents[1] / "config").rglob("*.yaml")):
        entries = (yaml.safe_load(path.read_text()) or {}).get("corruptions") or {}
        for entry in [one for one in entries.values() if isinstance(one, dict)]:
            params = {key: value for key, value in entry.items() if key not in ("op", "label")}
            if entry.get("op") in corruptions.CORRUPTIONS and entry["op"] not in ops:
                found.append((entry["op"], params))
    return found


EXAMPLES += configured([op for op, _ in EXAMPLES])


def generator(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def apply(op, image, seed=0, **params):
    return corruptions.corrupt(image, generator(seed), op, params)


def impulse(side=33):
    """One pixel of 1 in the middle of zeros."""
    image = np.zeros((1, side, side), np.float32)
    image[0, side // 2, side // 2] = 1
    return image


def smooth(channels=3, side=32, seed=0):
    """A random image with most of its power at low frequencies, over the whole of [-1, 1]."""
    noise = np.random.default_rng(seed).standard_normal((channels, side, side))
    image = ndimage.gaussian_filter(noise, (0, 1.5, 1.5), mode="wrap")
    return (image / np.abs(image).max()).astype(np.float32)


def random_data(count=300, side=8, channels=1, first=0, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), np.uint8)
    return Dataset(images, np.arange(count) % 4, np.arange(first, first + count))


# --- each corruption ------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "params"), EXAMPLES)
def test_range_shape_and_repetition(op, params):
    image = np.random.default_rng(1).uniform(-1, 1, (3, 20, 20)).astype(np.float32)
    image[:, :5], image[:, 5:10] = -1, 1  # extremes, where ringing or noise would leave the range
    before = image.copy()
    out = apply(op, image, **params)
    assert out.shape == image.shape and out.dtype == np.float32
    assert out.min() >= -1 and out.max() <= 1 and not np.array_equal(out, image)
    np.testing.assert_array_equal(image, before)  # pure
    np.testing.assert_array_equal(out, apply(op, image, **params))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("op", sorted(corruptions.CORRUPTIONS))
def test_grey_and_colour(op, channels):
    params = dict(EXAMPLES)[op] if op != "colour_shift" else {"shift": 0.2}
    assert apply(op, smooth(channels), **params).shape == (channels, 32, 32)


def test_every_op_has_an_example():
    """Here, or as an entry of `config/`."""
    assert ("jpeg", {"quality": 18}) in configured([]) and not configured(list(corruptions.CORRUPTIONS))
    assert {op for op, _ in EXAMPLES} == set(corruptions.CORRUPTIONS)


@pytest.mark.parametrize("sigma", [0.4, 0.6, 1.0, 2.3])
def test_blur_of_an_impulse_is_the_truncated_gaussian(sigma):
    k = np.arange(-16, 17)
    line = np.exp(-k**2 / (2 * sigma**2)) * (np.abs(k) <= int(4 * sigma + 0.5))
    expected = np.outer(line, line) / line.sum() ** 2
    np.testing.assert_allclose(apply("gaussian_blur", impulse(), sigma_px=sigma)[0], expected,
                               atol=1e-6)


def test_blur_keeps_the_mean_and_channels_apart():
    image = smooth()
    out = apply("gaussian_blur", image, sigma_px=1.7)
    np.testing.assert_allclose(out.mean(axis=(1, 2)), image.mean(axis=(1, 2)), atol=1e-6)
    image[1:] = 0
    assert (apply("gaussian_blur", image, sigma_px=1.7)[1:] == 0).all()


def share(distance, length):
    """Of a line of `length` about 0, what falls to the pixel at `distance` by linear interpolation.

    The integral of (1 - |t - distance|)+ over [-length/2, length/2], divided by length.
    """
    def integral(x):  # of (1 - |t|)+ from -1 to x
        x = np.clip(x, -1, 1)
        return np.where(x < 0, (1 + x) ** 2 / 2, 1 - (1 - x) ** 2 / 2)
    return (integral(length / 2 - distance) - integral(-length / 2 - distance)) / length


@pytest.mark.parametrize("length", [1, 3, 4, 6.5])
def test_horizontal_and_vertical_motion_are_a_box_with_shared_ends(length):
    expected = share(np.arange(-16, 17), length)
    assert expected.sum() == pytest.approx(1)
    out = apply("motion_blur", impulse(), length_px=length, angle_deg=0)[0]
    np.testing.assert_allclose(out[16], expected, atol=2e-5)
    assert np.delete(out, 16, axis=0).max() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(apply("motion_blur", impulse(), length_px=length, angle_deg=90)[0],
                               out.T, atol=2e-5)


def test_horizontal_motion_leaves_horizontal_edges_and_smears_vertical_ones():
    image = np.where(np.arange(33) < 16, -1, 1).astype(np.float32) * np.ones((1, 33, 1), np.float32)
    edge = apply("motion_blur", image, length_px=4, angle_deg=0)[0, 16]
    expected = 2 * np.cumsum(share(np.arange(-16, 17), 4)) - 1
    np.testing.assert_allclose(edge, expected, atol=1e-4)  # the running integral of the kernel
    across = apply("motion_blur", image, length_px=4, angle_deg=90)
    np.testing.assert_allclose(across, image, atol=1e-5)


@pytest.mark.parametrize("angle", [0, 17.0, 45.0, 90.0, 133.0, 180.0])
def test_motion_kernel_sums_to_one_and_lies_along_its_angle(angle):
    kernel = corruptions.motion_kernel(7.5, angle)
    assert kernel.sum() == pytest.approx(1) and (kernel >= 0).all()
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)  # its centre does not move
    half = len(kernel) // 2
    y, x = np.mgrid[half:-half - 1:-1, -half:half + 1]  # y upwards
    along = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    spread = (kernel * (x * along[0] + y * along[1]) ** 2).sum()
    across = (kernel * (x * along[1] - y * along[0]) ** 2).sum()
    # a line has the variance length^2 / 12; sharing among pixels adds at most 1/4 on each axis
    assert -1e-3 <= spread - 7.5**2 / 12 <= 0.25 and across <= 0.25


def test_motion_blur_uses_its_angle_and_draws_one_where_none_is_given():
    image = smooth()
    level, steep = (apply("motion_blur", image, length_px=5, angle_deg=a) for a in (0, 60))
    assert np.abs(level - steep).max() > 0.05
    drawn = [apply("motion_blur", image, seed, length_px=5) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_error_falls_as_quality_grows(channels):
    image = smooth(channels)
    errors = [np.square(apply("jpeg", image, quality=q) - image).mean()
              for q in (5, 20, 50, 80, 95)]
    assert all(a > b > 0 for a, b in zip(errors, errors[1:], strict=False))


@pytest.mark.parametrize("quality", [1, 15, 18, 25, 50, 75, 90, 95])
def test_jpeg_of_one_grey_is_a_step_of_the_standard_table(quality):
    """The step of a block's mean is 16 at quality 50, scaled as the Independent JPEG Group does."""
    step = np.clip((16 * (5000 // quality if quality < 50 else 200 - 2 * quality) + 50) // 100, 1, 255)
    for grey in range(0, 256, 5):
        image = np.full((1, 16, 16), grey / 127.5 - 1, np.float32)
        coefficient = 8 * (grey - 128) / step
        kept = np.copysign(np.floor(abs(coefficient) + 0.5), coefficient)  # halves go away from zero
        expected = np.clip(np.floor(128 + step * kept / 8 + 0.5), 0, 255)
        np.testing.assert_allclose((apply("jpeg", image, quality=quality) + 1) * 127.5, expected, atol=1e-4)


def test_jpeg_subsampling_costs_chroma_only():
    image = smooth()
    error = {s: np.square(apply("jpeg", image, quality=95, subsampling=s) - image).mean()
             for s in ("4:4:4", "4:2:2", "4:2:0")}
    assert error["4:4:4"] < error["4:2:2"] < error["4:2:0"]
    grey = np.repeat(smooth(1), 3, axis=0)
    a, b = (apply("jpeg", grey, quality=95, subsampling=s) for s in ("4:4:4", "4:2:0"))
    assert np.abs(a - b).max() <= 3 / 127.5


def test_mask_is_shared_by_channels_grey_and_as_frequent_as_told():
    image = np.full((3, 100, 100), 0.5, np.float32)
    out = apply("random_mask", image, prob=0.3)
    assert set(np.unique(out)) == {np.float32(0), np.float32(0.5)}
    assert (out == out[:1]).all() and (out == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert (apply("random_mask", image, prob=1) == 0).all()
    np.testing.assert_array_equal(apply("random_mask", image, prob=0), image)


def test_pixelate_is_the_mean_of_each_block():
    image = smooth(3, 12)
    out = apply("pixelate", image, block_px=4)
    means = image.reshape(3, 3, 4, 3, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(out, means.repeat(4, 1).repeat(4, 2), atol=1e-6)
    cut = apply("pixelate", image[:, :10, :10], block_px=4)  # the last block is 2 pixels wide
    np.testing.assert_allclose(cut[:, 8:, 8:],
                               np.broadcast_to(image[:, 8:10, 8:10].mean((1, 2), keepdims=True),
                                               (3, 2, 2)), atol=1e-6)
    np.testing.assert_array_equal(apply("pixelate", image, block_px=1), image)


def test_noise_shift_and_contrast():
    grey = np.zeros((1, 100, 100), np.float32)
    noise = apply("additive_noise", grey, std=0.2)
    assert noise.std() == pytest.approx(0.2, rel=0.03) and abs(noise.mean()) < 0.01
    shifted = apply("colour_shift", np.zeros((3, 2, 2), np.float32), shift=[0.25, -0.5, 2])
    np.testing.assert_array_equal(shifted[:, 0, 0], [0.25, -0.5, 1])
    image = smooth(1) / 4 + np.float32(0.1)
    out = apply("contrast", image, factor=2.0)
    assert out.mean() == pytest.approx(image.mean(), abs=1e-6)
    assert out.std() == pytest.approx(2 * image.std(), rel=1e-4)
    assert np.ptp(apply("contrast", image, factor=0)) < 1e-6


@pytest.mark.parametrize(("op", "params", "words"), [
    ("gausian_blur", {"sigma_px": 1}, "'gaussian_blur'"),
    ("nothing", {}, "known: gaussian_blur, jpeg"),
    ("gaussian_blur", {"sigma": 1}, "'sigma_px'"),
    ("gaussian_blur", {}, "missing parameter 'sigma_px'"),
    ("gaussian_blur", {"sigma_px": 0}, "> 0 pixels"),
    ("gaussian_blur", {"sigma_px": float("nan")}, "got nan"),
    ("gaussian_blur", {"sigma_px": "1"}, "got '1'"),
    ("jpeg", {"quality": 0}, "got 0, allowed: a whole number, 1 to 95"),
    ("jpeg", {"quality": 96}, "1 to 95"),
    ("jpeg", {"quality": 50.0}, "a whole number"),
    ("jpeg", {"quality": 50, "subsampling": "4:1:1"}, "4:4:4, 4:2:2, 4:2:0"),
    ("motion_blur", {"length_px": -2}, "length_px: got -2"),
    ("motion_blur", {"length_px": 5, "angle": 3}, "'angle_deg'"),
    ("random_mask", {"prob": 1.5}, "got 1.5, allowed: [0, 1]"),
    ("pixelate", {"block_px": 0}, "a whole number >= 1"),
    ("additive_noise", {"std": -0.1}, ">= 0"),
    ("colour_shift", {"shift": 3}, "[-2, 2]"),
    ("contrast", {"factor": -1}, ">= 0"),
    ("gaussian_blur", {"sigma_px": float("inf")}, "got inf, allowed: a number > 0 pixels"),
    ("gaussian_blur", {"sigma_px": True}, "got True"),
    ("jpeg", {"quality": True}, "got True"),
    ("motion_blur", {"length_px": float("inf")}, "got inf"),
    ("motion_blur", {"length_px": 5, "angle_deg": float("nan")}, "angle_deg: got nan"),
    ("additive_noise", {"std": float("inf")}, "got inf"),
    ("contrast", {"factor": float("inf")}, "got inf"),
    ("pixelate", {"block_px": True}, "got True"),
])
def test_bad_parameters_are_refused_in_one_line(op, params, words):
    with pytest.raises(ValueError) as caught:
        corruptions.validate(op, params)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_good_parameters_pass_and_jpeg_names_its_codec():
    for op, params in EXAMPLES:
        corruptions.validate(op, params)
    assert "libjpeg-turbo" in corruptions.facts("jpeg")["codec"]
    assert corruptions.facts("gaussian_blur") == {}


# --- mixtures -------------------------------------------------------------------------------------


def test_bytes_survive_the_round_trip_through_floats():
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert to_float(values).min() == -1 and to_float(values).max() == 1
    np.testing.assert_array_equal(to_uint8(to_float(values)), values)
    same = corrupt.mix(MixtureSpec(0.5, 0, "pixelate", {"block_px": 1}), random_data())
    np.testing.assert_array_equal(same.images, random_data().images)


def test_clean_sets_are_nested_and_of_the_fraction_told():
    ids = np.arange(20000)
    clean = [is_clean(MixtureSpec(f, 5), ids) for f in (0.1, 0.5, 0.9, 1.0)]
    assert all((b | ~a).all() for a, b in zip(clean, clean[1:], strict=False)) and clean[-1].all()
    assert [c.mean() for c in clean[:3]] == pytest.approx([0.1, 0.5, 0.9], abs=0.015)
    assert not np.array_equal(clean[1], is_clean(MixtureSpec(0.5, 6), ids))


@pytest.mark.parametrize(("op", "params"), [EXAMPLES[3], EXAMPLES[5], ("jpeg", {"quality": 20})])
def test_an_image_does_not_depend_on_the_others(op, params):
    """A mixture of a part is that part of the mixture: no worker, chunk or order can matter."""
    spec, data = MixtureSpec(0.4, 3, op, params), random_data()
    whole, rows = corrupt.mix(spec, data), np.arange(50, 300, 7)
    part = corrupt.mix(spec, Dataset(data.images[rows], data.labels[rows], data.ids[rows]))
    np.testing.assert_array_equal(part.images, whole.images[rows])
    np.testing.assert_array_equal(part.corrupted, whole.corrupted[rows])


def test_mixture_equals_the_blur_of_the_whole_batch():
    data = random_data(channels=3)
    mixture = corrupt.mix(MixtureSpec(0.3, 1, "gaussian_blur", {"sigma_px": 0.7}), data)
    batch = to_uint8(ndimage.gaussian_filter(to_float(data.images), (0, 0, 0.7, 0.7)))
    dirty = mixture.corrupted == 1
    np.testing.assert_array_equal(mixture.images[dirty], batch[dirty])
    np.testing.assert_array_equal(mixture.images[~dirty], data.images[~dirty])
    np.testing.assert_array_equal(mixture.labels, data.labels)
    np.testing.assert_array_equal(mixture.ids, data.ids)


def run(tmp_path, spec, data):
    record = SimpleNamespace(facts={})
    write(tmp_path / "data.safetensors", data)
    corrupt.main(spec, record, data=tmp_path / "data.safetensors", state=kept(tmp_path / "state"),
                 out=tmp_path / "mixture.safetensors")
    return read(tmp_path / "mixture.safetensors"), record.facts


def test_the_stage_writes_no_clean_version_and_counts_both(tmp_path):
    data = random_data()
    mixture, facts = run(tmp_path, MixtureSpec(0.3, 2, "jpeg", {"quality": 10}), data)
    dirty = mixture.corrupted == 1
    stored = (tmp_path / "mixture.safetensors").read_bytes()
    assert dirty.any() and not any(image.tobytes() in stored for image in data.images[dirty])
    assert (facts["clean"], facts["corrupted"]) == ((~dirty).sum(), dirty.sum())
    assert "libjpeg-turbo" in facts["codec"]


def test_no_op_keeps_the_clean_rows_only_and_the_same_ones(tmp_path):
    data = random_data(first=1000)
    mixture, facts = run(tmp_path, MixtureSpec(0.3, 2), data)
    blurred = corrupt.mix(MixtureSpec(0.3, 2, "gaussian_blur", {"sigma_px": 1.0}), data)
    np.testing.assert_array_equal(mixture.ids, data.ids[blurred.corrupted == 0])
    assert facts == {"clean": len(mixture.ids), "corrupted": 0}


def test_equal_runs_write_equal_bytes(tmp_path):
    spec, files = MixtureSpec(0.3, 2, "motion_blur", {"length_px": 4}), []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, spec, random_data())
        files.append((tmp_path / name / "mixture.safetensors").read_bytes())
    assert files[0] == files[1]


def test_a_mixture_without_clean_images_or_with_bad_parameters_is_refused(tmp_path):
    with pytest.raises(ValueError, match="clean_fraction 1e-09 leaves none of 300 images clean"):
        run(tmp_path, MixtureSpec(1e-9, 0, "gaussian_blur", {"sigma_px": 1.0}), random_data())
    with pytest.raises(ValueError, match="sigma_px"):
        run(tmp_path, MixtureSpec(0.5, 0, "gaussian_blur", {"sigma_px": -1.0}), random_data())
    assert not (tmp_path / "mixture.safetensors").exists()


def test_a_mixture_is_not_mixed_again(tmp_path):
    spec = MixtureSpec(0.5, 0, "gaussian_blur", {"sigma_px": 1.0})
    with pytest.raises(ValueError, match="a mixture already"):
        corrupt.mix(spec, corrupt.mix(spec, random_data()))


def test_a_picture_one_pixel_wide_keeps_its_three_channels():
    image = np.random.default_rng(0).uniform(-1, 1, (3, 16, 1)).astype(np.float32)
    found = corruptions.corrupt(image, None, "jpeg", {"quality": 95, "subsampling": "4:4:4"})
    assert found.shape == image.shape and np.abs(found - image).mean() < 0.1


@pytest.mark.parametrize(("made", "said"), [
    (lambda image, rng: ((image + 1) * 127.5).astype(np.uint8), "odd gave: got 'uint8 (3, 8, 8)', allowed: "),
    (lambda image, rng: image[:, 1:], "odd gave: got 'float32 (3, 7, 8)', allowed: floating-point numbers"),
    (lambda image, rng: np.where(image > 0, np.nan, image), "odd gave: got 'numbers that are not finite'"),
    (lambda image, rng: None, "odd gave: got 'NoneType'"),
    (lambda image, rng: image + np.random.default_rng().random(), "odd: got 'another result for the same"),
    (lambda image, rng: imag, "odd: NameError: name 'imag' is not defined")])  # noqa: F821
def test_what_a_new_corruption_gives_is_checked_before_a_run(monkeypatch, made, said):
    monkeypatch.setitem(corruptions.CORRUPTIONS, "odd", made)
    with pytest.raises(ValueError, match=re.escape(said)):
        corruptions.validate("odd", {})
