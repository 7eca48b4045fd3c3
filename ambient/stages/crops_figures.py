"""Stage: figures of section 3.2: patch probabilities, the donut, and locality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ambient.annotation.classifier import Classifier
from ambient.data.annotations import Annotations
from ambient.data.datasets import Dataset, read, to_float
from ambient.diffusion import crops as crop_rules
from ambient.diffusion import randomness
from ambient.diffusion.eligible import Admission, EligibleSampler
from ambient.report.drawing import (
    BLACK,
    BLUE,
    CLEAN,
    CORRUPTED,
    OTHER,
    SIGMA,
    SIGMA_MAX,
    SIGMA_MIN,
    STYLE,
    heading,
    plt,
    save,
    show,
    sigma_axis,
)
from ambient.specs import FigureSpec

FIRST_ADDED = 1 << 32  # ids from here on belong to added datasets (`ambient.corrupt.first_id`)


@torch.no_grad()
def probability_map(classifier: Classifier, image: np.ndarray, sigma: float) -> np.ndarray:
    """P(target) of the patch at each pixel, (H, H), of a uint8 image (C, H, H)."""
    x0 = torch.from_numpy(to_float(image[None]))
    masks = crop_rules.patches(x0.shape[-1], classifier.spec.crop)
    p = torch.sigmoid(-torch.cat([classifier.logits(x0 * mask, sigma) for mask in masks]))
    return (p[:, None, None] * masks[:, 0]).sum(dim=0).numpy()


def candidates(spec: FigureSpec, data: Dataset, seen: Dataset | None) -> np.ndarray:
    """The rows of `data` that are shown: the other dataset's, or the target's that are not in `seen`."""
    if spec.shown == "other":
        return np.flatnonzero(data.corrupted)
    return np.flatnonzero(~np.isin(data.ids, seen.ids))


def patches(spec: FigureSpec, data: Dataset, files: Sequence[Path],
            seen: Dataset | None = None) -> plt.Figure:
    """Images and how probably each of their patches is of the other kind, each crop size (6, 20 to 24).

    The other dataset's images with P(target), or the target's with P(other) = 1 - P(target).
    """
    rows = candidates(spec, data, seen)
    order = np.argsort(randomness.uniform("shown", spec.seed, data.ids[rows]), kind="stable")
    rows = rows[order[:spec.images]]
    classifiers = sorted((Classifier(f, torch.device("cpu")) for f in files), key=lambda c: c.spec.crop)
    figure, axes = plt.subplots(len(classifiers) + 1, len(rows), squeeze=False, layout="constrained",
                                figsize=(1.4 * len(rows) + 1.6, 1.5 * (len(classifiers) + 1) + 0.5))
    for k, row in enumerate(rows):
        show(axes[0][k], data.images[row].transpose(1, 2, 0))
        for axis, classifier in zip(axes[1:, k], classifiers, strict=True):
            p = probability_map(classifier, data.images[row], spec.crop_sigma)
            p = p if spec.shown == "other" else 1 - p
            drawn = axis.imshow(p, vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
            axis.set_title(f"{classifier.spec.crop} pixels: mean {p.mean():.2f}", fontsize=7)
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


def donut(spec: FigureSpec, data: Dataset, annotations: Path) -> plt.Figure:
    """Usable samples against sigma, by origin (Figure 15)."""
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
    heading(figure, ". ".join(part for part in (spec.title, spec.target) if part))
    return figure


def tolerance(table: pd.DataFrame) -> str:
    """What counts as the whole image's loss in a table of the `locality` stage, in words."""
    if "tolerance" not in table:  # a table made before it was written there
        return "a tolerance"
    relative = table["relative_tolerance"].iloc[0]
    return f"{table['tolerance'].iloc[0]:g}" + ("" if pd.isna(relative) else f" and {relative:.0%}")


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
                title=f"least context whose loss is within {tolerance(found)} of the whole image's")
    sigma_axis(axes[1])
    for axis in axes:
        axis.title.set_fontsize(9)
    heading(figure, ". ".join(part for part in (spec.title, spec.target) if part),
            "Left, error bars: standard error over images.")
    return figure


KINDS = {"patches": patches, "donut": donut, "locality": locality}


def main(spec: FigureSpec, record, *, data: Path | None, seen: Path | None, annotations: Path | None,
         crops: list[Path], locality_table: Path | None, out: Path, out_pdf: Path) -> None:
    """Draw what the specification's kind says, from the inputs that it needs."""
    with plt.rc_context(STYLE):
        files = (data and read(data), crops, annotations, locality_table, seen and read(seen))
        save(KINDS[spec.kind](spec, *filter(None, files)), out, out_pdf)
