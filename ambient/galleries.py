"""Stage: figures of corruptions and noise: galleries, a noised batch, sigma_min beside images.

Reads the full clean dataset, for display only: nothing that it makes is read by another stage.
"""

from __future__ import annotations

from ambient import stage
from ambient.spec import FigureSpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, FigureSpec, inputs=("data", "reports"), many=("reports",),
                      outputs=("out", "out_pdf"))

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ambient import corruptions, randomness
from ambient.datasets import Dataset, read, to_float, to_uint8
from ambient.drawing import CLEAN, CORRUPTED, STYLE, plt, save, sheet, show, sigma_axis
from ambient.files import read_json
from ambient.spec import MixtureSpec
from ambient.statistics import crossing_of

SHOWN_LEVELS = (0.0, 0.1, 0.3, 1.0, 3.0)  # of noise, in figure 2


def chosen(spec: FigureSpec, data: Dataset) -> np.ndarray:
    """The rows shown: a few, drawn by id."""
    order = np.argsort(randomness.uniform("shown", spec.seed, data.ids), kind="stable")
    return order[:spec.images]


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
    figure, axes = plt.subplots(len(lines), 1, squeeze=False,
                                figsize=(spec.images * 0.8, len(lines) * 1.0))
    for axis, (name, images) in zip(axes[:, 0], lines, strict=True):
        show(axis, sheet(images, spec.images), name)
    figure.tight_layout(h_pad=0.3)
    return figure


def batch(spec: FigureSpec, data: Dataset) -> plt.Figure:
    """A batch, and the same noised to levels drawn as in training (Figure 25)."""
    rows = chosen(spec, data)
    normal = randomness.numpy_generator("shown-sigma", spec.seed).standard_normal(len(rows))
    sigma = np.sort(np.exp(spec.noise.P_mean + spec.noise.P_std * normal))
    columns = max(1, round(len(rows) ** 0.5))
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.4))
    show(axes[0], sheet(data.images[rows], columns), "batch")
    show(axes[1], sheet(noised(data.images[rows], sigma, spec.seed), columns),
         f"noised, sigma from {sigma[0]:.2g} to {sigma[-1]:.2g}, row by row")
    figure.tight_layout()
    return figure


def crossing(spec: FigureSpec, data: Dataset, calibration: Path) -> plt.Figure:
    """P(clean) of held-out corrupted images against sigma, and a pair of images noised (Figure 2)."""
    levels, tau = pd.DataFrame(read_json(calibration)["levels"]), 0.5 - spec.epsilon
    row = chosen(spec, data)[:1]
    pair = np.concatenate([data.images[row], corrupted(spec.corruptions[0], data, row)])
    count = len(SHOWN_LEVELS)
    figure = plt.figure(figsize=(1.5 * count, 5.6))
    places = figure.add_gridspec(3, count, height_ratios=[1, 1, 1.9])
    for k, sigma in enumerate(SHOWN_LEVELS):
        for i, picture in enumerate(noised(np.stack(pair), sigma, k)):
            axis = figure.add_subplot(places[i, k])
            show(axis, picture.transpose(1, 2, 0), f"{('clean', spec.names[0])[i]}, sigma {sigma:g}")
    axis = figure.add_subplot(places[2, :])
    axis.plot(levels["sigma"], levels["p_clean_of_clean"], color=CLEAN, label="clean images")
    axis.plot(levels["sigma"], levels["p_clean_of_corrupted"], color=CORRUPTED, label=spec.names[0])
    axis.axhline(tau, color="black", lw=0.8, ls=":", label=f"tau = {tau:.2f}")
    found = crossing_of(levels, tau)
    if found:
        axis.axvline(found, color="black", lw=1, ls="--", label=f"crossing, sigma = {found:.2f}")
    axis.set(ylim=(0, 1), ylabel="mean P(clean), held out")
    sigma_axis(axis)
    axis.legend(frameon=False, ncol=2, loc="upper right")
    figure.tight_layout()
    return figure


def levels(spec: FigureSpec, data: Dataset, summaries: Sequence[Path]) -> plt.Figure:
    """The sigma_min of each corruption (mean, quartiles) beside its images, in rising order (Figure 3)."""
    rows = chosen(spec, data)
    found = [(read_json(path), name, one) for path, name, one in zip(
        summaries, spec.names, spec.corruptions, strict=True)]
    found = sorted(found, key=lambda item: item[0].get("sigma_min_mean", np.inf))
    figure = plt.figure(figsize=(4.5 + 0.62 * spec.images, 0.3 + 0.78 * (len(found) + 1)))
    places = figure.add_gridspec(len(found) + 1, 2, width_ratios=[0.62 * spec.images, 3.6])
    show(figure.add_subplot(places[0, 0]), sheet(data.images[rows], spec.images), "clean")
    chart = figure.add_subplot(places[1:, 1])
    for k, (summary, name, one) in enumerate(found):
        show(figure.add_subplot(places[k + 1, 0]), sheet(corrupted(one, data, rows), spec.images), name)
        if "sigma_min_mean" in summary:
            _, low, _, high, _ = summary["sigma_min_quartiles"]
            chart.plot([low, high], [k, k], color=CORRUPTED, lw=5, alpha=0.35, solid_capstyle="butt")
            chart.plot(summary["sigma_min_mean"], k, "o", color=CORRUPTED)
            chart.annotate(f"{summary['sigma_min_mean']:.2f}", (summary["sigma_min_mean"], k), (0, 7),
                           textcoords="offset points", ha="center", fontsize=8)
    chart.set(yticks=range(len(found)), yticklabels=[name for _, name, _ in found],
              ylim=(len(found) - 0.5, -0.5), title="sigma_min: mean (dot), quartiles (bar)")
    chart.title.set_fontsize(9)
    sigma_axis(chart, "noise level sigma_min")
    figure.tight_layout(h_pad=0.2)
    return figure


def main(spec: FigureSpec, record, *, data: Path, reports: list[Path], out: Path, out_pdf: Path) -> None:
    """Draw; `reports` are calibrations (crossing) or annotation summaries (levels)."""
    dataset = read(data)
    with plt.rc_context(STYLE):
        if spec.kind == "crossing":
            figure = crossing(spec, dataset, *reports)
        elif spec.kind == "levels":
            figure = levels(spec, dataset, reports)
        else:
            figure = {"gallery": gallery, "batch": batch}[spec.kind](spec, dataset)
        save(figure, out, out_pdf)


if __name__ == "__main__":
    job.run(main)
