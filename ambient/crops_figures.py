"""Stage: figures of section 3.2: patch probabilities, the donut, and locality."""

from __future__ import annotations

from ambient import stage
from ambient.spec import FigureSpec

if __name__ == "__main__":  # a wrong command line is refused before anything heavy is loaded
    job = stage.begin(__doc__, FigureSpec, inputs=("data", "annotations", "crops", "locality_table"),
                      optional=("data", "annotations", "locality_table"), many=("crops",),
                      outputs=("out", "out_pdf"))

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ambient import crops as crop_rules
from ambient import randomness
from ambient.annotations import Annotations, EligibleSampler
from ambient.datasets import Dataset, read, to_float
from ambient.drawing import CLEAN, CORRUPTED, OTHER, STYLE, plt, save, show, sigma_axis
from ambient.loading import Classifier

FIRST_ADDED = 1 << 32  # ids from here on belong to added datasets (`ambient.corrupt.first_id`)


@torch.no_grad()
def probability_map(classifier: Classifier, image: np.ndarray, sigma: float) -> np.ndarray:
    """P(target) of the patch at each pixel, (H, H), of a uint8 image (C, H, H)."""
    x0 = torch.from_numpy(to_float(image[None]))
    masks = crop_rules.patches(x0.shape[-1], classifier.spec.crop)
    p = torch.sigmoid(-torch.cat([classifier.logits(x0 * mask, sigma) for mask in masks]))
    return (p[:, None, None] * masks[:, 0]).sum(dim=0).numpy()


def patches(spec: FigureSpec, data: Dataset, files: Sequence[Path]) -> plt.Figure:
    """Images of the other distribution and their patches' P(target), each crop size (6, 20 to 24)."""
    rows = np.flatnonzero(data.corrupted)
    order = np.argsort(randomness.uniform("shown", spec.seed, data.ids[rows]), kind="stable")
    rows = rows[order[:spec.images]]
    classifiers = sorted((Classifier(f, torch.device("cpu")) for f in files), key=lambda c: c.spec.crop)
    figure, axes = plt.subplots(len(classifiers) + 1, len(rows), squeeze=False, layout="constrained",
                                figsize=(1.3 * len(rows) + 0.8, 1.45 * (len(classifiers) + 1)))
    for k, row in enumerate(rows):
        show(axes[0][k], data.images[row].transpose(1, 2, 0), "" if k else spec.names[0])
        for axis, classifier in zip(axes[1:, k], classifiers, strict=True):
            p = probability_map(classifier, data.images[row], spec.crop_sigma)
            drawn = axis.imshow(p, vmin=0, vmax=1, cmap="RdYlGn", interpolation="nearest")
            axis.set_title(f"{classifier.spec.crop} pixels: {p.mean():.2f}", fontsize=7)
            axis.axis("off")
    figure.colorbar(drawn, ax=axes, label="P(patch is of the target distribution)", shrink=0.7)
    return figure


def donut(spec: FigureSpec, data: Dataset, annotations: Path) -> plt.Figure:
    """Usable samples against sigma, by origin (Figure 15)."""
    rows = Annotations.read(annotations).of(data.ids)
    kinds = np.where(data.corrupted == 0, 0, np.where(data.ids < FIRST_ADDED, 1, 2))
    sigma = np.geomspace(0.005, 20, 400)
    counts = []
    for kind in range(3):
        mine = kinds == kind
        above, below = EligibleSampler(rows.sigma_min[mine], rows.sigma_max[mine], spec.buffer).count(sigma)
        counts.append(above + below)
    figure, axis = plt.subplots(figsize=(6.2, 3.6))
    axis.stackplot(sigma, counts, colors=(CLEAN, CORRUPTED, OTHER), alpha=0.75, lw=0,
                   labels=("clean", "corrupted, above sigma_min", "other dataset, below sigma_max"))
    density = np.exp(-((np.log(sigma) - spec.noise.P_mean) / spec.noise.P_std) ** 2 / 2)
    top = np.sum(counts, axis=0).max()
    axis.plot(sigma, 0.25 * top * density, color="black", lw=1, ls=":",
              label="density of training sigma (unscaled)")
    axis.set(ylabel="usable samples", ylim=(0, 1.35 * top))
    sigma_axis(axis)
    axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def tolerance(table: pd.DataFrame) -> str:
    """What counts as the whole image's loss in a table of the `locality` stage, in words."""
    if "tolerance" not in table:  # a table made before it was written there
        return "a tolerance"
    relative = table["relative_tolerance"].iloc[0]
    return f"{table['tolerance'].iloc[0]:g}" + ("" if pd.isna(relative) else f" and {relative:.0%}")


def locality(table: Path) -> plt.Figure:
    """Loss on the centre patch against context, and context needed against sigma (Figures 16 to 19)."""
    found = pd.read_csv(table)
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, found["sigma"].nunique()))
    for shade, (sigma, rows) in zip(shades, found.groupby("sigma"), strict=True):
        axes[0].errorbar(rows["context_px"], rows["loss"], yerr=rows["loss_stderr"], color=shade, lw=1.2,
                         label=f"sigma {sigma:.2g}")
        at = rows[rows["context_px"] == rows["crop_px"]]
        axes[0].plot(at["context_px"], at["loss"], "o", color=shade, ms=7)
    axes[0].set(yscale="log", xlabel="context [pixels]", ylabel="squared error, centre patch",
                title="dot: where the loss nearly plateaus")
    axes[0].legend(frameon=False, fontsize=6, ncol=2, loc="center left", bbox_to_anchor=(1, 0.5))
    needed = found.groupby("sigma")["crop_px"].first()
    axes[1].step(needed.index, needed, where="post", color="#1f6fb2", marker="o")
    axes[1].set(ylabel="context needed, crop(sigma) [pixels]", ylim=(0, found["context_px"].max() * 1.08),
                title=f"least context whose loss is within {tolerance(found)} of the whole image's")
    sigma_axis(axes[1])
    for axis in axes:
        axis.title.set_fontsize(9)
    figure.tight_layout()
    return figure


def main(spec: FigureSpec, record, *, data: Path | None, annotations: Path | None, crops: list[Path],
         locality_table: Path | None, out: Path, out_pdf: Path) -> None:
    """Draw what the specification's kind says, from the inputs that it needs."""
    with plt.rc_context(STYLE):
        if spec.kind == "patches":
            figure = patches(spec, read(data), crops)
        elif spec.kind == "donut":
            figure = donut(spec, read(data), annotations)
        else:
            figure = locality(locality_table)
        save(figure, out, out_pdf)


if __name__ == "__main__":
    job.run(main)
