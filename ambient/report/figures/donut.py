"""Figure `donut`: usable images against sigma, by origin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_ADDED = 1 << 32  # ids from here on belong to added datasets (`ambient.data.operations.add`)


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`run` names the run whose images are counted."""

    STAGE: ClassVar[str] = "crops_figures"
    NEEDS_RUN: ClassVar[bool] = True
    CAPTION: ClassVar[str] = (
        "How many images can be trained on at each noise level, by where they come from.")


def reads(files, name: str, entry) -> dict:
    """What the run is trained on, and its annotations."""
    return {"data": files.training_data(entry.run), "annotations": files.annotations(entry.run)}


def draw(spec: Spec, data: Path, annotations: Path) -> Figure:
    """Usable samples against sigma, by origin (Figure 15)."""
    from ambient.data.annotations import Annotations
    from ambient.data.datasets import read
    from ambient.diffusion.eligible import Admission, EligibleSampler
    from ambient.report.captions import title_of
    from ambient.report.drawing import (
        BLACK,
        CLEAN,
        CORRUPTED,
        OTHER,
        SIGMA,
        SIGMA_MAX,
        SIGMA_MIN,
        heading,
        plt,
        sigma_axis,
    )

    mixture = read(data)
    rows = Annotations.read(annotations).of(mixture.ids)
    kinds = np.where(mixture.corrupted == 0, 0, np.where(mixture.ids < FIRST_ADDED, 1, 2))
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
