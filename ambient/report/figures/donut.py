"""Figure `donut`: usable images against sigma, by the level that admits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ambient.specs import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ambient.data.annotations import Annotations
    from ambient.diffusion.eligible import Admission


@dataclass(frozen=True)
class Spec(FigureSpec):
    """`run` names the run whose images are counted."""

    STAGE: ClassVar[str] = "crops_figures"
    NEEDS_RUN: ClassVar[bool] = True
    CAPTION: ClassVar[str] = (
        "How many images can be trained on at each noise level: the clean ones, and the others by which of "
        "their two levels admits them.")


def reads(files, name: str, entry) -> dict:
    """What the run is trained on, and its annotations."""
    return {"data": files.training_data(entry.run), "annotations": files.annotations(entry.run)}


def draw(spec: Spec, data: Path, annotations: Path) -> Figure:
    """Usable samples against sigma, by the level that admits them (Figure 15)."""
    from ambient.data.annotations import Annotations
    from ambient.data.datasets import read
    from ambient.diffusion.eligible import Admission
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
    sigma = np.geomspace(0.005, 20, 400)
    counts = usable(rows, mixture.corrupted == 1, sigma, Admission(spec.buffer, spec.margin))
    looks = ((CLEAN, "", "clean"), (CORRUPTED, "//", f"others, above {SIGMA_MIN}"),
             (OTHER, "..", f"others, below {SIGMA_MAX}"))  # hatches are for those who see no colour
    drawn = [(count, look) for count, look in zip(counts, looks, strict=True) if count.any()]
    figure, axis = plt.subplots(figsize=(6.6, 4.2), layout="constrained")
    areas = axis.stackplot(sigma, [count for count, _ in drawn], alpha=0.75, lw=0)
    for area, (_, (shade, hatch, label)) in zip(areas, drawn, strict=True):
        area.set(facecolor=shade, hatch=hatch, edgecolor="white", label=label)
    density = np.exp(-((np.log(sigma) - spec.noise.P_mean) / spec.noise.P_std) ** 2 / 2)
    top = np.sum(counts, axis=0).max()
    axis.plot(sigma, 0.25 * top * density, color=BLACK, lw=1, ls=":",
              label=f"density of training {SIGMA} (unscaled)")
    axis.set(ylabel="usable images", ylim=(0, 1.45 * top))
    sigma_axis(axis)
    axis.legend(frameon=False, fontsize=8, ncol=2, loc="upper center")
    heading(figure, title_of(spec))
    return figure


def usable(rows: Annotations, corrupted: np.ndarray, sigma: np.ndarray,
           admission: Admission) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many images are usable at each sigma: clean ones, others above sigma_min, others below sigma_max.

    One that both levels admit counts as above sigma_min.
    """
    from ambient.diffusion.eligible import EligibleSampler

    def count(which: np.ndarray, sigma_max: np.ndarray) -> np.ndarray:
        return sum(EligibleSampler(rows.sigma_min[which], sigma_max[which], admission).count(sigma))

    above = count(corrupted, np.zeros(len(corrupted)))
    return count(~corrupted, rows.sigma_max), above, count(corrupted, rows.sigma_max) - above
