"""`python -m benchmarks.quality`: how well measures of quality tell damaged photographs from others.

Photographs are those that installed packages ship (scikit-learn, matplotlib, and scikit-image where it is
there), and those given by `--images PATH PIXELS`, a folder or zip. A third of them sets the constants of the
measure `quality`, a third stays as it is, a third is damaged. Numbers are the probability that an undamaged
image scores above a damaged one: 1 where all do, 0.5 by chance. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from ambient.data import corruptions, photos
from ambient.data.datasets import to_float, to_uint8
from ambient.data.luma import luma
from ambient.data.measures import KINDS, measure
from ambient.data.quality.quality import ORDINARY
from ambient.data.raw import Raw
from ambient.specs import DatasetSpec

SHIPPED = {"sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
           "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
           "skimage": tuple(f"data/{name}" for name in (
               "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg",
               "motorcycle_left.png"))}
DAMAGE = {"blur 0.6 px": ("gaussian_blur", {"sigma_px": 0.6}), "blur 1": ("gaussian_blur", {"sigma_px": 1.0}),
          "motion 5 px": ("motion_blur", {"length_px": 5.0}), "2x2 pixels": ("pixelate", {"block_px": 2}),
          "JPEG 50": ("jpeg", {"quality": 50}), "JPEG 25": ("jpeg", {"quality": 25}),
          "JPEG 10": ("jpeg", {"quality": 10}), "noise 5": ("additive_noise", {"std": 0.04}),
          "noise 13": ("additive_noise", {"std": 0.1}), "masked 0.1": ("random_mask", {"prob": 0.1}),
          "contrast 0.4": ("contrast", {"factor": 0.4}), "2 stops under": -2.0, "1.5 stops over": 1.5}
LARGE, SMALL = 384, 48  # pixels of a photograph before and after it is reduced
AT_LARGE = {"blur 2 px": ("gaussian_blur", {"sigma_px": 2.0}), "blur 5": ("gaussian_blur", {"sigma_px": 5.0}),
            "blur 10": ("gaussian_blur", {"sigma_px": 10.0}), "JPEG 10": ("jpeg", {"quality": 10}),
            "noise 13": ("additive_noise", {"std": 0.1})}
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)


@cache
def pictures() -> tuple[Image.Image, ...]:
    """The photographs of the packages that are installed."""
    files = [Path(spec.origin).parent / file for package, names in SHIPPED.items()
             if (spec := find_spec(package)) for file in names]
    return tuple(Image.open(file).convert("RGB") for file in files)


@cache
def photographs(side: int, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Squares of the packages' photographs, half as wide as they are or wider, reduced to `side`."""
    rng, squares = np.random.default_rng(seed), []
    for k in range(count):
        picture = pictures()[k % len(pictures())]
        width = int(min(picture.size) * rng.uniform(0.5, 1))
        x, y = (int(rng.integers(0, size - width + 1)) for size in picture.size)
        square = picture.crop((x, y, x + width, y + width))
        squares.append(reduced(np.asarray(square).transpose(2, 0, 1), side))
    return tuple(squares)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """An image (C, H, W) at another size."""
    resized = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def damaged(images: Sequence[np.ndarray], damage: tuple | float) -> list[np.ndarray]:
    """The images, corrupted; or by so many stops brighter, clipped."""
    if isinstance(damage, float):
        return [np.clip(image * 2.0**damage, 0, 255).astype(np.uint8) for image in images]
    return [to_uint8(corruptions.corrupt(to_float(image), np.random.default_rng(k), *damage))
            for k, image in enumerate(images)]


def scores(score: Callable, images: Sequence[np.ndarray]) -> np.ndarray:
    """The score of each image."""
    return np.array([score(image) for image in images])


def separation(good: Sequence[float], poor: Sequence[float]) -> float:
    """P(a good image scores above a poor one), ties counted as halves: the area under the ROC curve."""
    return stats.mannwhitneyu(good, poor).statistic / (len(good) * len(poor))


def others() -> dict[str, Callable]:
    """scikit-image's measures of the same, where it is installed."""
    if not (find_spec("skimage") and find_spec("pywt")):
        return {}
    blur = importlib.import_module("skimage.measure").blur_effect
    noise = importlib.import_module("skimage.restoration").estimate_sigma
    return {"skimage blur_effect": lambda image: -blur(luma(image) / 255),
            "skimage estimate_sigma": lambda image: -noise(image, channel_axis=0, average_sigmas=True)}


def given(asked: Sequence[tuple[str, str]], count: int) -> dict[str, np.ndarray]:
    """Images of each folder or zip at so many pixels, taken evenly."""
    sets = {}
    for path, side in asked:
        images = photos.read(Raw(Path(path)), DatasetSpec("photos", int(side), 3, crop="centre")).images
        sets[f"{Path(path).stem}, {side} px"] = images[:: max(len(images) // count, 1)][:count]
    return sets


def row(name: str, values: Sequence) -> None:
    """A line of a table."""
    print(f"| {name} | {' | '.join(str(value) for value in values)} |", flush=True)


def head(title: str, names: Sequence[str]) -> None:
    """A table's head."""
    print()
    row(title, names)
    print("|---" * (len(names) + 1) + "|")


def constants(sets: dict[str, Sequence[np.ndarray]]) -> None:
    """Median and spread of each measure over ordinary photographs, beside those in use."""
    head("measure", ["median", "5 % quantile", "spread", "in use"])
    for one, used in ORDINARY.items():
        values = np.concatenate([scores(one.score, images[::3]) for images in sets.values()])
        median, low = np.quantile(values, (0.5, 0.05))
        row(one.__name__.rpartition(".")[2], [f"{median:.3g}", f"{low:.3g}",
                                              f"{(median - low) / 1.645:.3g}", used])
    values = np.concatenate([scores(measure("quality"), images[::3]) for images in sets.values()])
    head("quantile of ordinary photographs", QUANTILES)
    row("quality", np.quantile(values, QUANTILES).round(2))


def compare(name: str, images: Sequence[np.ndarray]) -> None:
    """Each measure against each damage, for one set of images."""
    head(name, list(DAMAGE))
    good, bad = images[1::3], {what: damaged(images[2::3], damage) for what, damage in DAMAGE.items()}
    for title, score in ({kind: measure(kind) for kind in KINDS} | others()).items():
        values = scores(score, good)
        row(title, [f"{separation(values, scores(score, poor)):.2f}" for poor in bad.values()])


def before_and_after(count: int) -> None:
    """The same damage before a photograph is reduced, judged before and after."""
    head(f"damage at {LARGE} pixels", [*(f"{name} at {side}" for name in ("sharpness", "quality")
                                         for side in (LARGE, SMALL)), f"change at {SMALL}, grey levels"])
    images = photographs(LARGE, count)
    good, clean = images[1::2], images[::2]
    for what, damage in AT_LARGE.items():
        bad = damaged(clean, damage)
        small = [reduced(image, SMALL) for image in bad]
        change = [np.sqrt(np.square(a - reduced(b, SMALL).astype(float)).mean())
                  for a, b in zip(small, clean, strict=True)]
        pairs = ((good, bad), ([reduced(image, SMALL) for image in good], small))
        row(what, [*(f"{separation(scores(score, ours), scores(score, theirs)):.2f}"
                     for score in (measure("sharpness"), measure("quality")) for ours, theirs in pairs),
                   f"{np.mean(change):.1f}"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--images", nargs=2, action="append", default=[], metavar=("PATH", "PIXELS"),
                        help="a folder or zip of ordinary photographs")
    parser.add_argument("--compressed", nargs=2, action="append", default=[], metavar=("PATH", "PIXELS"),
                        help="the same, of images that set no constants: they are JPEGs of this size")
    parser.add_argument("--count", type=int, default=300, help="images of each set")
    asked = parser.parse_args()
    sets = {f"packages, {side} px": photographs(side, asked.count) for side in (32, 64, 128)}
    sets |= given(asked.images, asked.count)
    constants(sets)
    sets |= given(asked.compressed, asked.count)
    for name, images in sets.items():
        compare(name, images)
    before_and_after(asked.count // 3)


if __name__ == "__main__":
    main()
