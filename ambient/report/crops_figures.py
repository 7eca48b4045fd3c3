"""Figures of one run's data: patch probabilities, the donut, extremes of sigma_min, and locality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ambient.data.annotations import Annotations
from ambient.data.datasets import read
from ambient.data.patch_maps import PatchMaps
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.report.captions import title_of, tolerance
from ambient.report.drawing import (
    BLACK,
    BLUE,
    CLEAN,
    CORRUPTED,
    OTHER,
    SIGMA,
    SIGMA_MAX,
    SIGMA_MIN,
    heading,
    plt,
    show,
    sigma_axis,
)
from ambient.report.extremes import extremes
from ambient.specs import FigureSpec

FIRST_ADDED = 1 << 32  # ids from here on belong to added datasets (`ambient.stages.corrupt.first_id`)


def patches(spec: FigureSpec, file: Path) -> plt.Figure:
    """Images and how probably each of their patches is of the other kind, each crop size (6, 20 to 24).

    The other dataset's images with P(target), or the target's with P(other) = 1 - P(target).
    """
    maps = PatchMaps.read(file)
    count, sizes = len(maps.images), len(maps.p_target)
    figure, axes = plt.subplots(sizes + 1, count, squeeze=False, layout="constrained",
                                figsize=(1.4 * count + 1.6, 1.5 * (sizes + 1) + 0.5))
    for k, image in enumerate(maps.images):
        show(axes[0][k], image.transpose(1, 2, 0))
        for axis, (size, p_target) in zip(axes[1:, k], maps.p_target.items(), strict=True):
            p = p_target[k] if spec.shown == "other" else 1 - p_target[k]
            drawn = axis.imshow(p, vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
            axis.set_title(f"{size} pixels: mean {p.mean():.2f}", fontsize=7)
            axis.axis("off")
    images, probability = words_of(spec)
    figure.colorbar(drawn, ax=axes, label=probability, shrink=0.7)
    heading(figure, spec.title, f"Images: {images}. Below, each patch by the classifier of its size.")
    return figure


def words_of(spec: FigureSpec) -> tuple[str, str]:
    """(whose images are shown, what is said of their patches)."""
    target, other = spec.target or "the target", spec.names[0].removeprefix("plus ")
    if spec.shown == "other":
        return other, f"P(patch is of {target})"
    return f"{target}, which the classifiers have not seen", f"P(patch is of {other})"


def donut(spec: FigureSpec, mixture: Path, annotations: Path) -> plt.Figure:
    """Usable samples against sigma, by origin (Figure 15)."""
    data = read(mixture)
    rows = Annotations.read(annotations).of(data.ids)
    kinds = np.where(data.corrupted == 0, 0, np.where(data.ids < FIRST_ADDED, 1, 2))
    sigma, admission = np.geomspace(0.005, 20, 400), Admission(spec.buffer, spec.margin)
    counts = []
    for kind in range(3):
        mine = kinds == kind
        above, below = EligibleSampler(rows.sigma_min[mine], rows.sigma_max[mine], admission).count(sigma)
        counts.append(above + below)
    figure, axis = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
    areas = axis.stackplot(sigma, counts, colors=(CLEAN, CORRUPTED, OTHER), alpha=0.75, lw=0,
                   labels=("clean", f"corrupted, above {SIGMA_MIN}", f"other dataset, below {SIGMA_MAX}"))
    for area, hatch in zip(areas, ("", "//", ".."), strict=True):  # for those who see no colour
        area.set(hatch=hatch, edgecolor="white")
    density = np.exp(-((np.log(sigma) - spec.noise.P_mean) / spec.noise.P_std) ** 2 / 2)
    top = np.sum(counts, axis=0).max()
    axis.plot(sigma, 0.25 * top * density, color=BLACK, lw=1, ls=":",
              label=f"density of training {SIGMA} (unscaled)")
    axis.set(ylabel="usable images", ylim=(0, 1.45 * top))
    sigma_axis(axis)
    axis.legend(frameon=False, fontsize=8, ncol=2, loc="upper center")
    heading(figure, title_of(spec))
    return figure


def bounds(table: pd.DataFrame) -> str:
    """What counts as the whole image's loss in a table of the `locality` stage, in words."""
    if "tolerance" not in table:  # a table made before it was written there
        return "a tolerance"
    relative = table["relative_tolerance"].iloc[0]
    return tolerance(table["tolerance"].iloc[0], None if pd.isna(relative) else relative)


def locality(spec: FigureSpec, table: Path) -> plt.Figure:
    """Loss on the centre patch against context, and context needed against sigma (Figures 16 to 19)."""
    found = pd.read_csv(table)
    figure, axes = plt.subplots(1, 2, figsize=(10.2, 4.0), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, found["sigma"].nunique()))
    for shade, (sigma, rows) in zip(shades, found.groupby("sigma"), strict=True):
        axes[0].errorbar(rows["context_px"], rows["loss"], yerr=rows["loss_stderr"], color=shade, lw=1.2,
                         label=f"{SIGMA} = {sigma:.2g}")
        at = rows[rows["context_px"] == rows["crop_px"]]
        axes[0].plot(at["context_px"], at["loss"], "o", color=shade, ms=7)
    axes[0].set(yscale="log", xlabel="context [pixels]", ylabel="squared error, centre patch",
                title="dot: where the loss nearly plateaus")
    axes[0].legend(frameon=False, fontsize=6, ncol=2, loc="center left", bbox_to_anchor=(1, 0.5))
    needed = found.groupby("sigma")["crop_px"].first()
    axes[1].step(needed.index, needed, where="post", color=BLUE, marker="o")
    axes[1].set(ylabel="context needed, crop(sigma) [pixels]", ylim=(0, found["context_px"].max() * 1.08),
                title=f"least context whose loss is within {bounds(found)} of the whole image's")
    sigma_axis(axes[1])
    for axis in axes:
        axis.title.set_fontsize(9)
    heading(figure, title_of(spec),
            "Left, error bars: standard error over images.")
    return figure


KINDS = {"patches": patches, "donut": donut, "extremes": extremes, "locality": locality}
