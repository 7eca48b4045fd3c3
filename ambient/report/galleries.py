"""Figures of corruptions and noise: galleries, a noised batch, sigma_min beside images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient.annotation.statistics import crossing_of
from ambient.data import corruptions
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, to_float, to_uint8
from ambient.data.shown import shown
from ambient.diffusion import randomness
from ambient.report.captions import held_out, title_of
from ambient.report.drawing import (
    BLACK,
    CORRUPTED,
    SIGMA,
    SIGMA_MIN,
    heading,
    plt,
    sheet,
    show,
    sigma_axis,
    strips,
    verdicts,
)
from ambient.specs import FigureSpec, MixtureSpec
from ambient.storage.files import read_json

SHOWN_LEVELS = (0.0, 0.1, 0.3, 1.0, 3.0)  # of noise, in figure 2
SCALED = "Noised images are scaled to be seen."


def chosen(spec: FigureSpec, data: Dataset) -> np.ndarray:
    """The rows shown: a few, drawn by id."""
    return shown(data.ids, spec.images, spec.seed)


def corrupted(one: MixtureSpec, data: Dataset, rows: np.ndarray) -> np.ndarray:
    """The images of `rows` under a corruption, uint8, as the `corrupt` stage makes them."""
    return np.stack([to_uint8(corruptions.corrupt(
        to_float(data.images[row]), randomness.numpy_generator("corrupt", one.seed, int(data.ids[row])),
        one.op, one.params)) for row in rows])


def noised(images: np.ndarray, sigma: np.ndarray | float, seed: int) -> np.ndarray:
    """x_0 + sigma z as uint8, scaled by 1 / sqrt(1 + 4 sigma^2) to be seen."""
    z = randomness.normal("shown-noise", seed, range(len(images)), images.shape[1:])
    sigma = np.broadcast_to(np.asarray(sigma, np.float32), len(images))[:, None, None, None]
    return to_uint8((to_float(images) + sigma * z) / np.sqrt(1 + 4 * sigma**2))


def gallery(spec: FigureSpec, data: Dataset) -> plt.Figure:
    """A row of images for each corruption, the clean ones first (Figures 11a, 11b, 12)."""
    rows = chosen(spec, data)
    lines = [("clean", data.images[rows]),
             *((n, corrupted(c, data, rows)) for n, c in zip(spec.names, spec.corruptions, strict=True))]
    return strips(lines, spec.images, title_of(spec))


def batch(spec: FigureSpec, data: Dataset) -> plt.Figure:
    """A batch, and the same noised to levels drawn as in training (Figure 25)."""
    rows = chosen(spec, data)
    normal = randomness.numpy_generator("shown-sigma", spec.seed).standard_normal(len(rows))
    sigma = np.sort(np.exp(spec.noise.P_mean + spec.noise.P_std * normal))
    columns = max(1, round(len(rows) ** 0.5))
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.6), layout="constrained")
    show(axes[0], sheet(data.images[rows], columns), f"{len(rows)} images")
    show(axes[1], sheet(noised(data.images[rows], sigma, spec.seed), columns),
         f"the same noised, {SIGMA} from {sigma[0]:.2g} to {sigma[-1]:.2g}, row by row")
    heading(figure, title_of(spec), f"Levels drawn as in training. {SCALED}")
    return figure


def crossing(spec: FigureSpec, data: Dataset, calibrations: Sequence[Path]) -> plt.Figure:
    """P(clean) of held-out corrupted images against sigma, and a pair of images noised (Figure 2).

    The calibration is the first file of `calibrations`.
    """
    report, tau = read_json(calibrations[0]), 0.5 - spec.epsilon
    levels = pd.DataFrame(report["levels"])
    row = chosen(spec, data)[:1]
    pair = np.concatenate([data.images[row], corrupted(spec.corruptions[0], data, row)])
    figure = plt.figure(figsize=(8.2, 6.2), layout="constrained")
    places = figure.add_gridspec(3, len(SHOWN_LEVELS), height_ratios=[1, 1, 1.9])
    for k, sigma in enumerate(SHOWN_LEVELS):
        for i, picture in enumerate(noised(pair, sigma, k)):
            axis = figure.add_subplot(places[i, k])
            show(axis, picture.transpose(1, 2, 0), f"{('clean', spec.names[0])[i]}, {SIGMA} = {sigma:g}")
    axis = figure.add_subplot(places[2, :])
    verdicts(axis, levels, report.get("held_out", {}), tau)
    found = crossing_of(levels, tau)
    if found:
        axis.axvline(found, color=BLACK, lw=1, ls="--", label=f"crossing, {SIGMA} = {found:.2f}")
    sigma_axis(axis)
    axis.legend(frameon=False, ncol=2, loc="upper right", fontsize=8)
    heading(figure, title_of(spec), f"{held_out(report)}; band: Wilson's 95 % interval for so many. {SCALED}")
    return figure


def of_all(data: Dataset, annotations: Sequence[Annotations], spec: FigureSpec) -> np.ndarray:
    """The rows shown in Figure 3: images that every corruption gave a sigma_min, drawn by id.

    Fewer where an annotation has too few of them; the images of a mixture that stayed clean have none.
    """
    ids = data.ids
    for one in annotations:
        noisy = np.isfinite(one.sigma_min) & (one.sigma_min > 0)
        ids = np.intersect1d(ids, one.ids[noisy])
    return np.flatnonzero(np.isin(data.ids, ids[shown(ids, spec.images, spec.seed)]))


def levels(spec: FigureSpec, data: Dataset, summaries: Sequence[Path], files: Sequence[Path]) -> plt.Figure:
    """Figure 3: each corruption's images, the same and the clean ones noised to the former's own sigma_min.

    Beside them its sigma_min over all images (mean, quartiles); corruptions in rising order.
    """
    tables = [Annotations.read(path) for path in files]
    found = list(zip(map(read_json, summaries), spec.names, spec.corruptions, tables, strict=True))
    found.sort(key=lambda item: item[0].get("sigma_min_mean", np.inf))
    rows = of_all(data, tables, spec)
    width = max(len(rows), 1)
    figure = plt.figure(figsize=(3.6 + 1.35 * width, 0.9 + 0.85 * (len(found) + 1)), layout="constrained")
    places = figure.add_gridspec(len(found) + 1, 4, width_ratios=[width, width, width, 0.3 * width + 3])
    clean = data.images[rows]
    if len(rows):
        show(figure.add_subplot(places[0, 0]), sheet(clean, width), "clean")
    for k, (_, name, one, table) in enumerate(found if len(rows) else ()):
        own = table.of(data.ids[rows]).sigma_min
        images = corrupted(one, data, rows)
        panels = ((name, images), (f"{name}, noised to its {SIGMA_MIN}", noised(images, own, spec.seed)),
                  ("clean, noised to the same", noised(clean, own, spec.seed)))
        for column, (title, pictures) in enumerate(panels):
            show(figure.add_subplot(places[k + 1, column]), sheet(pictures, width), title)
    chart = figure.add_subplot(places[1:, 3])
    quartiles(chart, [(summary, name) for summary, name, *_ in found])
    heading(figure, title_of(spec), "Where the second and the third column can't be told apart, a corrupted "
            f"image trains as a clean one does. Each has a level of its own, and one noise in both. {SCALED}")
    return figure


def quartiles(chart: plt.Axes, found: Sequence[tuple[dict, str]]) -> None:
    """Mean and quartiles of sigma_min, a line a corruption."""
    for k, (summary, _) in enumerate(found):
        if "sigma_min_mean" not in summary:
            continue
        mean, (_, low, _, high, _) = summary["sigma_min_mean"], summary["sigma_min_quartiles"]
        chart.plot([low, high], [k, k], color=CORRUPTED, lw=5, alpha=0.35, solid_capstyle="butt")
        chart.plot(mean, k, "o", color=CORRUPTED)
        chart.annotate(f"{mean:.2f}", (mean, k), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    chart.set_yticks(range(len(found)), [name for _, name in found])
    chart.set_ylim(len(found) - 0.5, -0.5)
    chart.set_title("all images: mean (dot), quartiles (bar)", fontsize=8)
    sigma_axis(chart, SIGMA_MIN)


KINDS = {"gallery": gallery, "batch": batch, "crossing": crossing, "levels": levels}
